//! Quantising: from `f32` to the blocks whose unpacked values come nearest to it.
//!
//! For each run of elements many scales are tried side by side, each with the scale that fits its codes best by weighted
//! least squares; scales that are quantised themselves are chosen among the whole numbers around that, with the error that
//! a reader of the block will see.

mod codes;
mod legacy;
mod minima;
mod pack;
mod scales;
mod search;
#[cfg(test)]
mod tests;

use super::QuantType;
use crate::quant::simd;
use crate::quant::usable::{LARGEST_WEIGHT, Unusable};
use half::{bf16, f16};

/// The largest number that goes into a block: its scale is an f16.
pub const LARGEST_IN_BLOCKS: f32 = 65_504.0;

/// What a column counts at least, where the mean column counts 1: a block in which nothing counts has no best scale.
const LEAST_IMPORTANCE: f32 = 1e-4;

/// [`blocks`] by a function that is called directly: passed by its name it would be called through a shim of the standard
/// library, and all that is inlined there is compiled for the least of processors.
macro_rules! blocks {
    ($values:expr, $weights:expr, $out:expr, $($function:tt)+) => {
        blocks(
            $values,
            $weights,
            $out,
            #[inline(always)]
            |x, weights| $($function)+(x, weights),
        )
    };
}
impl QuantType {
    /// Quantises whole rows, on the calling thread, so that `sum importance (x - unpacked)^2` is small; all columns are
    /// alike without `importance`. As many blocks are written as both sides have.
    ///
    /// # Shapes
    /// - `values`: `[rows, columns]`, with columns in whole blocks
    /// - `importance`: `[columns]`, not negative
    /// - `out`: [`QuantType::bytes_of`] the values
    ///
    /// # Numerics
    /// F16 and BF16 round to nearest, ties to even. The same values give the same bytes on every processor.
    ///
    /// # Errors
    /// The first number that is not finite, or too large for the type.
    pub fn quantize(self, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), Unusable> {
        let limit = match self {
            QuantType::F32 | QuantType::BF16 => LARGEST_WEIGHT,
            _ => LARGEST_IN_BLOCKS,
        };
        let is_fit = |value: &f32| value.abs() <= limit;
        if let Some(element) = values.iter().position(|value| !is_fit(value)) {
            return Err(Unusable { element, value: values[element], is_scale: false });
        }
        let columns = importance.map_or(0, <[f32]>::len);
        let mean = importance.unwrap_or_default().iter().sum::<f32>() / columns.max(1) as f32;
        let weights: Vec<f32> = match importance {
            Some(importance) if mean.is_finite() && mean > 0.0 => {
                importance.iter().map(|of| (of / mean).max(LEAST_IMPORTANCE)).collect()
            }
            _ => Vec::new(),
        };
        simd::widest(
            #[inline(always)]
            || self.write(values, &weights, out),
        );
        Ok(())
    }

    #[inline(always)]
    fn write(self, values: &[f32], weights: &[f32], out: &mut [u8]) {
        match self {
            QuantType::F32 => floats(values, out, f32::to_le_bytes),
            QuantType::F16 => floats(values, out, |value| f16::from_f32(value).to_le_bytes()),
            QuantType::BF16 => floats(values, out, |value| bf16::from_f32(value).to_le_bytes()),
            QuantType::Q4_0 => blocks!(values, weights, out, legacy::q4_0),
            QuantType::Q4_1 => blocks!(values, weights, out, legacy::q4_1),
            QuantType::Q5_0 => blocks!(values, weights, out, legacy::q5_0),
            QuantType::Q5_1 => blocks!(values, weights, out, legacy::q5_1),
            QuantType::Q8_0 => blocks!(values, weights, out, legacy::q8_0),
            QuantType::Q2K => blocks!(values, weights, out, minima::q2),
            QuantType::Q3K => blocks!(values, weights, out, scales::q3),
            QuantType::Q4K => blocks!(values, weights, out, minima::q4),
            QuantType::Q5K => blocks!(values, weights, out, minima::q5),
            QuantType::Q6K => blocks!(values, weights, out, scales::q6),
            QuantType::IQ4NL => blocks!(values, weights, out, legacy::iq4_nl),
            QuantType::IQ4XS => blocks!(values, weights, out, scales::iq4_xs),
        }
    }
}

#[inline(always)]
fn floats<const BYTES: usize>(values: &[f32], out: &mut [u8], narrow: impl Fn(f32) -> [u8; BYTES]) {
    out.as_chunks_mut::<BYTES>().0.iter_mut().zip(values).for_each(|(to, value)| *to = narrow(*value));
}

/// Quantises block after block; `weights` are those of a row, or none.
#[inline(always)]
fn blocks<const SIZE: usize, const BYTES: usize>(
    values: &[f32],
    weights: &[f32],
    out: &mut [u8],
    quantize: impl Fn(&[f32; SIZE], &[f32; SIZE]) -> [u8; BYTES],
) {
    let of_row = weights.as_chunks::<SIZE>().0;
    let alike = [1.0; SIZE];
    for (i, (out, x)) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(values.as_chunks::<SIZE>().0).enumerate() {
        let weights = if of_row.is_empty() { &alike } else { &of_row[i % of_row.len()] };
        *out = quantize(x, weights);
    }
}
