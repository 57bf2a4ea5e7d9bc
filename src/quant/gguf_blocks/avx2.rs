//! The same work on blocks with AVX2, to the same bits.

use super::runs::{Codes, Dot, Half, Run, Unpack, Work, take_apart};
use crate::quant::simd::LANES;
use std::arch::x86_64::*;

/// Work for a processor that has the instruction sets.
pub(super) struct Avx2<W>(W);

impl<W> Avx2<W> {
    /// The work, or itself back where the processor lacks one of them.
    #[inline(always)]
    pub fn new(work: W) -> Result<Self, W> {
        let is_here =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        if is_here { Ok(Avx2(work)) } else { Err(work) }
    }
}

/// The processor's own instruction, reached only through [`Avx2`].
pub(super) struct F16c;

impl Half for F16c {
    #[inline(always)]
    fn widen(bytes: [u8; 2]) -> f32 {
        // SAFETY: blocks are read with this only inside of `Avx2`, which exists only where the processor has the
        // instruction.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes))))) }
    }

    #[inline(always)]
    fn chosen(numbers: u64, values: &[i8; 16]) -> u64 {
        // SAFETY: as above; the table has sixteen bytes.
        unsafe {
            let values = _mm_loadu_si128(values.as_ptr().cast());
            _mm_cvtsi128_si64(_mm_shuffle_epi8(values, _mm_cvtsi64_si128(numbers.cast_signed()))).cast_unsigned()
        }
    }
}

impl Work for Avx2<Unpack<'_>> {
    type Output = ();
    type Half = F16c;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        // SAFETY: the processor has the instruction sets, or there would be no `self`.
        unsafe { unpack::<BYTES, WORDS, RUNS>(self.0, read) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
    Unpack { bytes, out }: Unpack,
    read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.chunks_exact_mut(8 * WORDS * RUNS)) {
        for (run, out) in out.chunks_exact_mut(8 * WORDS).enumerate() {
            let Run { codes, scale, offset } = read(block, run);
            let (scale, offset) = (_mm256_set1_ps(scale), _mm256_set1_ps(offset));
            for (out, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
                let values = _mm256_add_ps(_mm256_mul_ps(scale, widen(word)), offset);
                // SAFETY: eight floats have room in the array.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
            }
        }
    }
}

impl Work for Avx2<Codes<'_>> {
    type Output = ();
    type Half = F16c;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn wide<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
            work: Codes,
            read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
        ) {
            take_apart::<BYTES, WORDS, RUNS>(work, read);
        }
        // SAFETY: the processor has the instruction sets, or there would be no `self`.
        unsafe { wide::<BYTES, WORDS, RUNS>(self.0, read) }
    }
}

impl Work for Avx2<Dot<'_>> {
    type Output = f32;
    type Half = F16c;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> f32 {
        // SAFETY: the processor has the instruction sets, or there would be no `self`.
        unsafe { dot::<BYTES, WORDS, RUNS>(self.0, read) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
    Dot { bytes, x }: Dot,
    read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
) -> f32 {
    let mut sums = [_mm256_setzero_ps(); LANES / 8];
    for (block, x) in bytes.as_chunks::<BYTES>().0.iter().zip(x.chunks_exact(8 * WORDS * RUNS)) {
        for (run, x) in x.chunks_exact(8 * WORDS).enumerate() {
            let Run { codes, scale, offset } = read(block, run);
            let (scale, offset) = (_mm256_set1_ps(scale), _mm256_set1_ps(offset));
            for (i, (x, word)) in x.as_chunks::<8>().0.iter().zip(codes).enumerate() {
                // SAFETY: the array has eight floats.
                let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
                let sum = &mut sums[(run * WORDS + i) % (LANES / 8)];
                *sum = _mm256_fmadd_ps(_mm256_fmadd_ps(scale, widen(word), offset), x, *sum);
            }
        }
    }
    // By halves, as `add_up` does.
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[1], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Eight codes as f32.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen(word: u64) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(word.cast_signed())))
}
