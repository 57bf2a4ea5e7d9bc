//! What all block types have in common: runs of small integers, each run with a scale and an offset.

use crate::quant::simd::{LANES, add_up};

/// A run of elements: `scale * code + offset` for each code.
///
/// # Numerics
/// A type without offsets has those of -0.0, which change no number, not even the sign of a zero.
pub(super) struct Run<const WORDS: usize> {
    /// Eight codes to a word, signed bytes, the first in the lowest: words can be shifted and masked in vectors, bytes cannot.
    pub codes: [u64; WORDS],
    pub scale: f32,
    pub offset: f32,
}

/// The offset of a type that has none.
pub(super) const NONE: f32 = -0.0;

/// The same byte eight times.
#[inline(always)]
pub(super) const fn every(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The eight bytes from number `at` on.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The words that begin at bytes 0, 8, 16, .. of a run.
///
/// Arrays have a `map` for this, which the compiler does not always see through.
#[inline(always)]
pub(super) fn words<const WORDS: usize>(word: impl Fn(usize) -> u64) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (i, to) in words.iter_mut().enumerate() {
        *to = word(8 * i);
    }
    words
}

/// What is done with blocks, whatever their type.
pub(super) trait Work {
    /// What comes out.
    type Output;

    /// Does it with blocks of `BYTES` bytes and `RUNS` runs, which `read` takes out by their number.
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> Self::Output;
}

/// Writes the elements as f32.
pub(super) struct Unpack<'a> {
    pub bytes: &'a [u8],
    pub out: &'a mut [f32],
}

impl Work for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        #[cfg(target_arch = "x86_64")]
        if is_avx2() {
            // SAFETY: the machine has the instruction sets.
            return unsafe { self.run_avx2::<BYTES, WORDS, RUNS>(read) };
        }
        self.run_plain::<BYTES, WORDS, RUNS>(read);
    }
}

impl Unpack<'_> {
    pub fn run_plain<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        let (blocks, outs) = (self.bytes.as_chunks::<BYTES>().0, self.out.chunks_exact_mut(8 * WORDS * RUNS));
        for (block, out) in blocks.iter().zip(outs) {
            for (run, out) in out.chunks_exact_mut(8 * WORDS).enumerate() {
                let Run { codes, scale, offset } = read(block, run);
                for (out, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
                    *out = word.to_le_bytes().map(|code| scale * f32::from(code.cast_signed()) + offset);
                }
            }
        }
    }

    /// As [`Unpack::run_plain`], to the same bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        use std::arch::x86_64::*;
        let (blocks, outs) = (self.bytes.as_chunks::<BYTES>().0, self.out.chunks_exact_mut(8 * WORDS * RUNS));
        for (block, out) in blocks.iter().zip(outs) {
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
}

/// Sums the products of the elements with those of `x`.
pub(super) struct Dot<'a> {
    pub bytes: &'a [u8],
    pub x: &'a [f32],
}

impl Work for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if is_avx2() {
            // SAFETY: the machine has the instruction sets.
            return unsafe { self.run_avx2::<BYTES, WORDS, RUNS>(read) };
        }
        self.run_plain::<BYTES, WORDS, RUNS>(read)
    }
}

impl Dot<'_> {
    pub fn run_plain<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> f32 {
        let mut lanes = [0f32; LANES];
        let (blocks, xs) = (self.bytes.as_chunks::<BYTES>().0, self.x.chunks_exact(8 * WORDS * RUNS));
        for (block, x) in blocks.iter().zip(xs) {
            for (run, x) in x.chunks_exact(8 * WORDS).enumerate() {
                let Run { codes, scale, offset } = read(block, run);
                for (i, (x, word)) in x.as_chunks::<8>().0.iter().zip(codes).enumerate() {
                    let lanes = &mut lanes.as_chunks_mut::<8>().0[(run * WORDS + i) % (LANES / 8)];
                    for ((lane, x), code) in lanes.iter_mut().zip(x).zip(word.to_le_bytes()) {
                        *lane = scale.mul_add(f32::from(code.cast_signed()), offset).mul_add(*x, *lane);
                    }
                }
            }
        }
        add_up(&lanes)
    }

    /// As [`Dot::run_plain`], to the same bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> f32 {
        use std::arch::x86_64::*;
        let mut sums = [_mm256_setzero_ps(); LANES / 8];
        let (blocks, xs) = (self.bytes.as_chunks::<BYTES>().0, self.x.chunks_exact(8 * WORDS * RUNS));
        for (block, x) in blocks.iter().zip(xs) {
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
        add_up_avx2(sums)
    }
}

/// As [`add_up`], to the same bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_up_avx2(sums: [std::arch::x86_64::__m256; LANES / 8]) -> f32 {
    use std::arch::x86_64::*;
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[1], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

#[cfg(target_arch = "x86_64")]
fn is_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Eight codes as f32.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen(word: u64) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(word.cast_signed())))
}
