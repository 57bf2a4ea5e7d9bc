//! Softmax cross-entropy over a vocabulary that is seen a tile at a time.

use super::rows;
use super::simd::{self, vectorised};
use crate::quant::simd::sum2;
use rayon::prelude::*;

/// What is known of a row's softmax after some tiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// The largest logit so far.
    max: f32,
    /// `sum exp(logit - max)` so far.
    sum: f64,
}

impl Running {
    /// Before the first tile.
    pub const EMPTY: Running = Running { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Makes `max` the largest logit so far, where it is; the row of `weighted` shrinks with the sum. Returns the largest.
    #[inline(always)]
    fn grow(&mut self, max: f32, weighted: &mut [f32]) -> f32 {
        if max > self.max {
            let shrink = simd::exp(self.max - max);
            self.sum *= f64::from(shrink);
            weighted.iter_mut().for_each(|x| *x *= shrink);
            self.max = max;
        }
        self.max
    }

    /// `log sum exp`, in nats.
    pub fn log_sum(&self) -> f64 {
        self.sum.ln() + f64::from(self.max)
    }
}

/// Takes one tile of logits into the rows' `running` sums, and overwrites it with `exp(logit - max)`, `max` being the
/// largest logit so far. Where that grew, the row of `weighted` (a sum over earlier tiles of the same exponentials; may
/// be empty) shrinks with it.
///
/// # Numerics
/// f32 within a tile, sums over tiles in f64.
pub fn take_tile(logits: &mut [f32], words: usize, running: &mut [Running], weighted: &mut [f32]) {
    each_row(logits, words, running, weighted, take_row);
}

/// As [`take_tile`] of logits that a soft cap bends, `z -> c tanh(z / c)`: what is left in their place is
/// `exp(z - max) (1 - (z / c)^2)`, what the gradient adds up.
pub fn take_bent_tile(cap: f32, logits: &mut [f32], words: usize, running: &mut [Running], weighted: &mut [f32]) {
    each_row(logits, words, running, weighted, |logits, running, weighted| {
        take_bent_row(logits, running, weighted, cap);
    });
}

fn each_row(
    logits: &mut [f32],
    words: usize,
    running: &mut [Running],
    weighted: &mut [f32],
    take: impl Fn(&mut [f32], &mut Running, &mut [f32]) + Sync,
) {
    let width = weighted.len() / running.len().max(1);
    let mut no_rows: Vec<&mut [f32]> = Vec::new();
    let weighted = if width == 0 {
        no_rows.resize_with(running.len(), Default::default);
        no_rows
    } else {
        weighted.chunks_exact_mut(width).collect()
    };
    logits
        .par_chunks_exact_mut(words)
        .zip(running)
        .zip(weighted)
        .for_each(|((logits, running), weighted)| take(logits, running, weighted));
}

/// Turns `sum_j exp_j E_j` (in `weighted`) into the gradient `scale (softmax E - E[target])` of each row.
pub fn finish_gradient(weighted: &mut [f32], width: usize, running: &[Running], target_rows: &[f32], scale: f32) {
    rows::each(weighted, width, |rows, dx| {
        finish_rows(dx, width, &running[rows.clone()], rows::of(target_rows, width, &rows), scale);
    });
}

vectorised! {
    fn take_row(logits: &mut [f32], running: &mut Running, weighted: &mut [f32]) {
        let max = running.grow(rows::max(logits), weighted);
        logits.iter_mut().for_each(|x| *x = simd::exp(*x - max));
        running.sum += f64::from(sum2(logits, logits, |x, _| x));
    }

    fn take_bent_row(logits: &mut [f32], running: &mut Running, weighted: &mut [f32], cap: f32) {
        logits.iter_mut().for_each(|x| *x = cap * simd::tanh(*x / cap));
        let max = running.grow(rows::max(logits), weighted);
        running.sum += f64::from(sum2(logits, logits, |x, _| simd::exp(x - max)));
        let by = 1.0 / cap;
        logits.iter_mut().for_each(|x| *x = simd::exp(*x - max) * (1.0 - (*x * by) * (*x * by)));
    }

    fn finish_rows(weighted: &mut [f32], width: usize, running: &[Running], targets: &[f32], scale: f32) {
        for ((dx, target), running) in weighted.chunks_exact_mut(width).zip(targets.chunks_exact(width)).zip(running) {
            let by = (1.0 / running.sum) as f32;
            dx.iter_mut().zip(target).for_each(|(dx, t)| *dx = (*dx * by - t) * scale);
        }
    }
}
