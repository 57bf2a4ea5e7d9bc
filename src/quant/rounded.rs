//! Products of a matrix in blocks with inputs that are rounded to signed bytes: sums of whole numbers, as llama.cpp does it.
//!
//! An input is rounded in runs of 32 with an f32 scale each: `x ~ scale * q`, `q` in `-127..=127`. A run of a row of the matrix
//! is `scale * code + offset` with `code` a signed byte, so that `sum w x = scale_w scale_x sum code q + offset scale_x sum q`.

use super::gguf_blocks::{Inputs, UNIT, Vector};
use super::int8::quantize_run;

/// Elements that share a scale of the input.
pub const CHUNK: usize = UNIT;

/// Inputs `[n, width]`, rounded.
#[derive(Debug, Clone)]
pub struct RoundedRows {
    chunks: usize,
    units: Vec<RoundedUnit>,
    /// Scale times sum of the codes: of each 16, and of each 32.
    sums: [Vec<f32>; 2],
}

/// Numbers that share a scale.
#[derive(Debug, Clone)]
pub struct RoundedUnit {
    codes: [i8; CHUNK],
    scale: f32,
}

impl RoundedRows {
    /// Rounds the rows of `x`, each to its own numbers whatever is beside it. What is not finite makes every product with it
    /// NaN.
    ///
    /// # Shapes
    /// - `x`: `[n, width]`
    ///
    /// # Numerics
    /// To nearest, ties to even.
    pub fn new(x: &[f32], width: usize) -> Self {
        let (width, chunks) = (width.max(1), width.div_ceil(CHUNK));
        let rows = x.len() / width;
        let mut to = RoundedRows {
            chunks,
            units: vec![RoundedUnit { codes: [0; CHUNK], scale: 0.0 }; rows * chunks],
            sums: [vec![0.0; 2 * rows * chunks], vec![0.0; rows * chunks]],
        };
        let runs = x.chunks_exact(width).flat_map(|row| row.chunks(CHUNK));
        for (at, run) in runs.enumerate() {
            let RoundedUnit { codes, scale } = &mut to.units[at];
            *scale = quantize_run(run, &mut codes[..run.len()]).unwrap_or(f32::NAN);
            let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>() as f32;
            let (low, high) = codes.split_at(CHUNK / 2);
            let halves = [sum(low), sum(high)];
            to.sums[0][2 * at..2 * at + 2].copy_from_slice(&halves.map(|sum| sum * *scale));
            to.sums[1][at] = (halves[0] + halves[1]) * *scale;
        }
        to
    }
}

impl Inputs for RoundedRows {
    const SUMS_BYTES: bool = true;
    const TOO_LARGE: f32 = 1.0;
    type Ready<V: Vector> = V::Bytes;
    type Unit = RoundedUnit;

    fn len(&self) -> usize {
        self.units.len() / self.chunks.max(1)
    }

    #[inline(always)]
    fn units(&self) -> usize {
        self.chunks
    }

    #[inline(always)]
    fn input(&self, number: usize) -> &[RoundedUnit] {
        &self.units[number * self.chunks..(number + 1) * self.chunks]
    }

    #[inline(always)]
    fn ready<V: Vector>(codes: V::Bytes) -> V::Bytes {
        codes
    }

    /// # Numerics
    /// Four products each are summed in whole numbers, so every processor gives the same bits.
    #[inline(always)]
    fn add<V: Vector>(x: &RoundedUnit, codes: V::Bytes, scales: &[f32], sums: &mut [V::Floats; 2]) {
        let scale = match *scales {
            [low, high] => V::halves(low * x.scale, high * x.scale),
            [scale] => V::all(scale * x.scale),
            _ => return,
        };
        *sums = [sums[1], V::multiply_add(V::sums_of_four(codes, &x.codes), scale, sums[0])];
    }

    #[inline(always)]
    fn sums(&self, input: usize, are_whole: bool) -> &[f32] {
        let per_row = self.chunks * if are_whole { 1 } else { 2 };
        &self.sums[usize::from(are_whole)][input * per_row..(input + 1) * per_row]
    }
}

#[cfg(test)]
mod tests;
