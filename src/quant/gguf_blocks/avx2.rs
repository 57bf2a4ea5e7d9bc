//! The instructions of AVX2, and those that sum products of bytes where a processor has them.

use super::vector::{AHEAD, UNIT, Vector};
use super::work::Work;
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// A processor with AVX2, FMA and F16C, which sums products of bytes as `S` says. Reached only through [`widest`], which asks
/// what the processor has.
pub(super) struct Avx2<S>(PhantomData<S>);

/// Bytes of the cache that come at a time.
const LINE: usize = 64;

/// Sums of four products each of unsigned with signed bytes.
pub(super) trait Sums {
    /// # Safety
    /// The processor has the instruction.
    unsafe fn of_four(unsigned: __m256i, signed: __m256i) -> __m256i;
}

/// Two products at a time, whose sums 16 bits hold: at most 2 * 128 * 127.
pub(super) struct Pairs;
/// AVX-VNNI.
pub(super) struct Vnni;
/// The same of AVX-512.
pub(super) struct Vnni512;

impl Sums for Pairs {
    #[inline(always)]
    unsafe fn of_four(unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1)) }
    }
}

impl Sums for Vnni {
    #[inline(always)]
    unsafe fn of_four(unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), unsigned, signed) }
    }
}

impl Sums for Vnni512 {
    #[inline(always)]
    unsafe fn of_four(unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_dpbusd_epi32(_mm256_setzero_si256(), unsigned, signed) }
    }
}

/// Does `work` with these instructions; gives it back where the processor has not even AVX2.
pub(super) fn widest<W: Work>(work: W) -> Result<(), W> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn by_pairs<W: Work>(work: W) {
        work.with::<Avx2<Pairs>>();
    }
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn by_fours<W: Work>(work: W) {
        work.with::<Avx2<Vnni>>();
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512vnni,avx512vl")]
    fn by_fours_of_512<W: Work>(work: W) {
        work.with::<Avx2<Vnni512>>();
    }
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") || !is_x86_feature_detected!("f16c") {
        return Err(work);
    }
    // SAFETY: each is called where the processor has what it is compiled for.
    unsafe {
        if W::SUMS_BYTES && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
            by_fours_of_512(work);
        } else if W::SUMS_BYTES && is_x86_feature_detected!("avxvnni") {
            by_fours(work);
        } else {
            by_pairs(work);
        }
    }
    Ok(())
}

/// Where bytes of each half go: four from number `first` on to the top of 32 bits each, and zeros below them.
#[inline(always)]
fn to_top(first: i32) -> __m256i {
    const NOTHING: i32 = 0x80_8080;
    let top = |i: i32| (first + i) << 24 | NOTHING;
    // SAFETY: as below.
    unsafe { _mm256_set_epi32(top(3), top(2), top(1), top(0), top(3), top(2), top(1), top(0)) }
}

// SAFETY of all that follows: it is reached through `widest`, where the processor has the instructions, and memory is that of
// arrays of the size that is read or written.
impl<S: Sums> Vector for Avx2<S> {
    type Bytes = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn read_soon<const BYTES: usize>(bytes: &[u8; BYTES]) {
        for line in 0..BYTES.div_ceil(LINE) {
            let address = bytes.as_ptr().wrapping_add(AHEAD + LINE * line);
            // SAFETY: as above. No address is wrong: one that is nothing's is passed over.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
    }

    #[inline(always)]
    fn load(bytes: &[u8; UNIT]) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn nibbles(bytes: &[u8; UNIT / 2]) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let low = _mm_loadu_si128(bytes.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16(low, 4), low);
            _mm256_and_si256(both, _mm256_set1_epi8(15))
        }
    }

    #[inline(always)]
    fn spread(bits: [u8; UNIT / 8]) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let byte_of_each =
                _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
            let all = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(bits)), byte_of_each);
            // All bits but one are set already: where that one is too, nothing is missing.
            let but_one = _mm256_set1_epi64x(0x7fbf_dfef_f7fb_fdfe);
            _mm256_cmpeq_epi8(_mm256_or_si256(all, but_one), _mm256_set1_epi8(-1))
        }
    }

    #[inline(always)]
    fn field(bytes: __m256i, at: usize, mask: u8) -> __m256i {
        // SAFETY: as above. What comes from the neighbouring byte is masked out.
        Self::and(unsafe { _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(at as i32)) }, mask)
    }

    #[inline(always)]
    fn and(bytes: __m256i, mask: u8) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn or(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn up(bytes: __m256i, by: usize) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_sll_epi16(bytes, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    fn minus(bytes: __m256i, what: u8) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_sub_epi8(bytes, _mm256_set1_epi8(what.cast_signed())) }
    }

    #[inline(always)]
    fn chosen(bytes: __m256i, values: &[i8; 16]) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let values = _mm256_broadcastsi128_si256(_mm_loadu_si128(values.as_ptr().cast()));
            _mm256_shuffle_epi8(values, bytes)
        }
    }

    #[inline(always)]
    fn widened(bytes: __m256i) -> [__m256; 4] {
        // Through memory: a load and a widening in one, where taking eight out of a register is another step.
        let mut stored = [0u64; UNIT / 8];
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(stored.as_mut_ptr().cast(), bytes);
            let eight = |at: *const u64| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())));
            [
                eight(&raw const stored[0]),
                eight(&raw const stored[1]),
                eight(&raw const stored[2]),
                eight(&raw const stored[3]),
            ]
        }
    }

    #[inline(always)]
    fn fours(bytes: __m256i) -> [__m256; 4] {
        // SAFETY: as above.
        unsafe {
            let four = |places: __m256i| _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, places));
            [four(to_top(0)), four(to_top(4)), four(to_top(8)), four(to_top(12))]
        }
    }

    #[inline(always)]
    fn sums_of_four(bytes: __m256i, x: &[i8; UNIT]) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let x = _mm256_loadu_si256(x.as_ptr().cast());
            // The sign goes to the other factor, since the first is read without one.
            _mm256_cvtepi32_ps(S::of_four(_mm256_abs_epi8(bytes), _mm256_sign_epi8(x, bytes)))
        }
    }

    #[inline(always)]
    fn read(floats: &[f32; 8]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(floats.as_ptr()) }
    }

    #[inline(always)]
    fn write(floats: __m256, to: &mut [f32; 8]) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), floats) }
    }

    #[inline(always)]
    fn halves(low: f32, high: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low)) }
    }

    #[inline(always)]
    fn all(number: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(number) }
    }

    #[inline(always)]
    fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn multiply(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn half(bytes: [u8; 2]) -> f32 {
        let bits = i16::from_le_bytes(bytes);
        // SAFETY: as above. To all places, so that it does not wait for what was in the register.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16(bits))) }
    }
}
