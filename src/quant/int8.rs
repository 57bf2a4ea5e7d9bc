//! Signed bytes with one scale per row.
//!
//! `w = scale * q`, `scale = absmax / 127` of the row, `q` in `-127..=127`.

/// The largest magnitude of a code.
const LARGEST: f32 = 127.0;

/// Quantises numbers that share a scale into `codes` and returns its scale; `None` if a value is not finite.
///
/// # Numerics
/// `q = round(w * (127 / absmax))`, ties to even. Zeros have scale 0.
///
/// # Source
/// Dettmers et al. 2022 (LLM.int8()), section 2.1; the codes are those of bitsandbytes' `int8_vectorwise_quant`.
#[inline(always)]
pub(super) fn quantize_run(values: &[f32], codes: &mut [i8]) -> Option<f32> {
    let absmax = super::absmax::of(values)?;
    if absmax == 0.0 {
        codes.fill(0);
        return Some(0.0);
    }
    let factor = LARGEST / absmax;
    for (code, value) in codes.iter_mut().zip(values) {
        // The product may overflow for subnormal rows; `as` saturates then.
        *code = (value * factor).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
    }
    Some(absmax / LARGEST)
}

/// Quantises rows of `row_len` values, one scale each; `None` if a value is not finite.
pub fn quantize(values: &[f32], row_len: usize, codes: &mut [i8], scales: &mut [f32]) -> Option<()> {
    super::simd::widest(
        #[inline(always)]
        || {
            let rows = values.chunks_exact(row_len.max(1)).zip(codes.chunks_exact_mut(row_len.max(1))).zip(scales);
            for ((values, codes), scale) in rows {
                *scale = quantize_run(values, codes)?;
            }
            Some(())
        },
    )
}

/// Unpacks rows of `row_len` codes.
pub fn dequantize(codes: &[i8], scales: &[f32], row_len: usize, out: &mut [f32]) {
    super::simd::widest(
        #[inline(always)]
        || {
            let rows = codes.chunks_exact(row_len.max(1)).zip(out.chunks_exact_mut(row_len.max(1))).zip(scales);
            for ((codes, out), scale) in rows {
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = f32::from(*code) * scale;
                }
            }
        },
    );
}
