//! The softmax of rows whose scores arrive tile by tile.

use crate::ops::cpu::simd::exp;
use crate::quant::simd::widest;

/// The running maximum and sum of each row.
#[derive(Default)]
pub(super) struct Softmax {
    max: Vec<f32>,
    /// `Σ exp(s - max)` over the keys so far.
    sum: Vec<f32>,
    /// What a tile shrinks the sums before it by, `exp(old max - new max)`.
    correction: Vec<f32>,
    /// The sum over the keys of one tile; summing by tiles keeps the rounding error of long rows small.
    tile_sum: Vec<f32>,
}

impl Softmax {
    /// Starts anew with `rows` rows that have seen nothing.
    pub fn reset(&mut self, rows: usize) {
        for field in [&mut self.max, &mut self.sum, &mut self.correction, &mut self.tile_sum] {
            field.clear();
            field.resize(rows, 0.0);
        }
        self.max.fill(f32::NEG_INFINITY);
    }

    /// Takes in the scores of the `m` rows from `first` on: they become `exp(s - max)`, and what `out` holds of the
    /// keys before is corrected to the new maximum.
    ///
    /// # Shapes
    /// - `scores`: `[keys, m]`
    /// - `out`: `[m, e]`
    pub fn update(&mut self, first: usize, m: usize, scores: &mut [f32], out: &mut [f32]) {
        widest(
            #[inline(always)]
            || self.update_inlined(first, m, scores, out),
        );
    }

    #[inline(always)]
    fn update_inlined(&mut self, first: usize, m: usize, scores: &mut [f32], out: &mut [f32]) {
        let rows = first..first + m;
        let (max, sum) = (&mut self.max[rows.clone()], &mut self.sum[rows.clone()]);
        let (correction, tile_sum) = (&mut self.correction[rows.clone()], &mut self.tile_sum[rows]);

        correction.copy_from_slice(max);
        for scores in scores.chunks_exact(m) {
            max.iter_mut().zip(scores).for_each(|(max, &s)| *max = max.max(s));
        }
        tile_sum.fill(0.0);
        for scores in scores.chunks_exact_mut(m) {
            for ((s, max), sum) in scores.iter_mut().zip(&*max).zip(&mut *tile_sum) {
                *s = exp(*s - max);
                *sum += *s;
            }
        }
        for (((correction, max), sum), tile_sum) in correction.iter_mut().zip(&*max).zip(sum).zip(&*tile_sum) {
            // A row that saw nothing before has nothing to correct.
            *correction = if *sum == 0.0 { 1.0 } else { exp(*correction - max) };
            *sum = *sum * *correction + tile_sum;
        }
        for (out, &correction) in out.chunks_exact_mut(out.len() / m).zip(&*correction) {
            if correction != 1.0 {
                out.iter_mut().for_each(|out| *out *= correction);
            }
        }
    }

    /// Divides each row of `out`, `[rows, e]`, by its sum; a row that saw nothing becomes 0.
    pub fn divide(&self, e: usize, out: &mut [f32]) {
        widest(
            #[inline(always)]
            || {
                for (out, &sum) in out.chunks_exact_mut(e).zip(&self.sum) {
                    let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
                    out.iter_mut().for_each(|out| *out *= factor);
                }
            },
        );
    }

    /// The log-sum-exp of a row, negative infinity when it saw nothing.
    pub fn lse(&self, row: usize) -> f32 {
        self.max[row] + self.sum[row].ln()
    }
}
