//! The same sums with AVX2, and with the instructions for sums of bytes where a processor has them, to the same bits.

use super::{CHUNK, SUMS};
use std::arch::x86_64::*;

/// Defines the sums for a processor with `features`, which sums the products of four bytes each, unsigned by signed, with
/// `fours`.
macro_rules! sums {
    ($name:ident, $features:literal, $fours:expr) => {
        #[target_feature(enable = $features)]
        fn $name<const RUNS: usize>(
            w: &[[i8; CHUNK]],
            w_scales: &[[f32; RUNS]],
            x: &[[i8; CHUNK]],
            x_scales: &[f32],
        ) -> [f32; SUMS] {
            // SAFETY: called with arrays of 32 bytes.
            let product = |w: &[i8; CHUNK], scales: &[f32; RUNS], x: &[i8; CHUNK], x_scale: f32, sum: __m256| {
                let (w, x) = unsafe { (_mm256_loadu_si256(w.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().cast())) };
                // The sign goes to the other factor, since the first is read without one.
                let fours = $fours(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                let scales = match scales.as_slice() {
                    &[low, high] => _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low)),
                    scales => _mm256_set1_ps(scales.first().copied().unwrap_or(0.0)),
                };
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(fours), _mm256_mul_ps(scales, _mm256_set1_ps(x_scale)), sum)
            };
            let mut sums = [_mm256_setzero_ps(); 2];
            // Two at a time, so that both sums stay in registers.
            let ((w, w_last), (x, x_last)) = (w.as_chunks::<2>(), x.as_chunks::<2>());
            let ((w_scales, w_scale), (x_scales, x_scale)) = (w_scales.as_chunks::<2>(), x_scales.as_chunks::<2>());
            for (((w, w_scales), x), x_scales) in w.iter().zip(w_scales).zip(x).zip(x_scales) {
                for i in 0..2 {
                    sums[i] = product(&w[i], &w_scales[i], &x[i], x_scales[i], sums[i]);
                }
            }
            if let ([w], [w_scale], [x], [x_scale]) = (w_last, w_scale, x_last, x_scale) {
                sums[0] = product(w, w_scale, x, *x_scale, sums[0]);
            }
            let mut out = [0.0; SUMS];
            // SAFETY: there is room for twice eight.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(out[8..].as_mut_ptr(), sums[1]);
            }
            out
        }
    };
}

// Sums of two products each are at most 2 * 128 * 127, which 16 bits hold.
sums!(by_pairs, "avx2,fma", |w, x| _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
sums!(by_fours, "avx2,fma,avxvnni", |w, x| _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, x));
sums!(by_fours_of_512, "avx2,fma,avx512vnni,avx512vl", |w, x| _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x));

/// The sums on this processor; nothing without AVX2.
pub(super) fn whole_sums<const RUNS: usize>(
    w: &[[i8; CHUNK]],
    w_scales: &[[f32; RUNS]],
    x: &[[i8; CHUNK]],
    x_scales: &[f32],
) -> Option<[f32; SUMS]> {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
        return None;
    }
    // SAFETY: each is called where the processor has what it is compiled for.
    Some(unsafe {
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
            by_fours_of_512(w, w_scales, x, x_scales)
        } else if is_x86_feature_detected!("avxvnni") {
            by_fours(w, w_scales, x, x_scales)
        } else {
            by_pairs(w, w_scales, x, x_scales)
        }
    })
}
