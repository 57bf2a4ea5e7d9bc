//! Products of a matrix in blocks with inputs that are rounded to signed bytes: sums of whole numbers, as llama.cpp does it.
//!
//! An input is rounded in runs of 32 with an f32 scale each: `x ~ scale * q`, `q` in `-127..=127`. A run of a row of the matrix
//! is `scale * code + offset` with `code` a signed byte, so that `sum w x = scale_w scale_x sum code q + offset scale_x sum q`.

use super::gguf_blocks::{Inputs, UNIT, Vector, lay};
use super::int8::quantize_run;
use super::simd;
use rayon::prelude::*;

/// Inputs `[n, width]`, rounded.
#[derive(Debug, Clone)]
pub struct RoundedRows {
    rows: usize,
    chunks: usize,
    /// Laid for products.
    units: Vec<RoundedUnit>,
    /// Scale times sum of the codes: of each 16, and of each 32.
    sums: [Vec<f32>; 2],
}

/// Numbers that share a scale.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
pub struct RoundedUnit {
    codes: [i8; UNIT],
    scale: f32,
}

impl RoundedUnit {
    #[inline(always)]
    fn round(&mut self, run: &[f32]) {
        self.scale = quantize_run(run, &mut self.codes[..run.len()]).unwrap_or(f32::NAN);
    }
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
        let (width, chunks) = (width.max(1), width.div_ceil(UNIT));
        let rows = x.len() / width;
        let mut units = vec![RoundedUnit { codes: [0; UNIT], scale: 0.0 }; rows * chunks];
        let mut sums = [vec![0.0; 2 * rows * chunks], vec![0.0; rows * chunks]];
        let [of_halves, of_whole] = &mut sums;
        let (of_halves, of_whole) = (of_halves.chunks_mut(2 * chunks), of_whole.chunks_mut(chunks));
        let of_rows = x.chunks_exact(width).zip(units.chunks_mut(chunks).zip(of_halves.zip(of_whole)));
        // A few rows are done before another thread has heard of them.
        const FEW: usize = 8;
        if rows <= FEW {
            of_rows.for_each(|(x, (units, (of_halves, of_whole)))| round(x, units, of_halves, of_whole));
        } else {
            of_rows.par_bridge().for_each(|(x, (units, (of_halves, of_whole)))| round(x, units, of_halves, of_whole));
        }
        let nothing = RoundedUnit { codes: [0; UNIT], scale: 0.0 };
        let units = lay(rows, chunks, nothing, |row, unit| units[row * chunks + unit]);
        RoundedRows { rows, chunks, units, sums }
    }
}

/// Rounds a row, and sums the codes of each half and whole unit.
fn round(x: &[f32], units: &mut [RoundedUnit], of_halves: &mut [f32], of_whole: &mut [f32]) {
    let (whole, last) = x.as_chunks::<UNIT>();
    simd::widest(
        #[inline(always)]
        || {
            // Not by `for_each`, which becomes a function of its own, compiled for none of the instructions.
            for (run, unit) in whole.iter().zip(&mut *units) {
                unit.round(run);
            }
            if let [.., unit] = units
                && !last.is_empty()
            {
                unit.round(last);
            }
            let sums = of_halves.as_chunks_mut().0.iter_mut().zip(of_whole);
            for (unit, (halves, whole)) in units.iter().zip(sums) {
                let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>() as f32;
                let (low, high) = unit.codes.split_at(UNIT / 2);
                let (low, high) = (sum(low), sum(high));
                *halves = [low * unit.scale, high * unit.scale];
                *whole = (low + high) * unit.scale;
            }
        },
    );
}

impl Inputs for RoundedRows {
    const SUMS_BYTES: bool = true;
    const TOO_LARGE: f32 = 1.0;
    type Ready<V: Vector> = V::Bytes;
    type Unit = RoundedUnit;

    fn len(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn units(&self) -> usize {
        self.chunks
    }

    #[inline(always)]
    fn laid(&self) -> &[RoundedUnit] {
        &self.units
    }

    #[inline(always)]
    fn ready<V: Vector>(codes: V::Bytes) -> V::Bytes {
        codes
    }

    /// # Numerics
    /// Four products each are summed in whole numbers, so every processor gives the same bits.
    #[inline(always)]
    fn add<V: Vector>(x: &RoundedUnit, codes: V::Bytes, scales: &[f32], sum: &mut V::Floats) {
        let scale = match *scales {
            [low, high] => V::halves(low * x.scale, high * x.scale),
            [scale] => V::all(scale * x.scale),
            _ => return,
        };
        *sum = V::multiply_add(V::sums_of_four(codes, &x.codes), scale, *sum);
    }

    #[inline(always)]
    fn sums(&self, input: usize, are_whole: bool) -> &[f32] {
        let per_row = self.chunks * if are_whole { 1 } else { 2 };
        &self.sums[usize::from(are_whole)][input * per_row..(input + 1) * per_row]
    }
}

#[cfg(test)]
mod tests;
