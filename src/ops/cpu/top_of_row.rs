//! What stands out of a row of normally distributed numbers.

use super::rows;
use super::simd::vectorised;
use crate::quant::simd::sum2;

/// A row of equal numbers has no deviation, and no gradient of one.
const SMALLEST_VARIANCE: f32 = 1e-30;

/// What a row is compared with.
struct Spread {
    mean: f32,
    deviation: f32,
    /// Whether the deviation is that of the row's own numbers, not the smallest there is.
    is_own: bool,
}

impl Spread {
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        let count = x.len() as f32;
        let mean = sum2(x, x, |x, _| x) / count;
        let variance = sum2(x, x, |x, _| (x - mean) * (x - mean)) / count;
        Spread { mean, deviation: variance.max(SMALLEST_VARIANCE).sqrt(), is_own: variance > SMALLEST_VARIANCE }
    }
}

/// `out = relu(x - mean - cutoff deviation)` of each row of this width.
pub fn forward(x: &[f32], cutoff: f32, width: usize, out: &mut [f32]) {
    rows::each(out, width, |rows, out| forward_rows(rows::of(x, width, &rows), cutoff, width, out));
}

/// From the gradient of the result (in `dx`) to that of `x`.
pub fn backward(x: &[f32], cutoff: f32, width: usize, dx: &mut [f32]) {
    rows::each(dx, width, |rows, dx| backward_rows(rows::of(x, width, &rows), cutoff, width, dx));
}

vectorised! {
    fn forward_rows(x: &[f32], cutoff: f32, width: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let Spread { mean, deviation, .. } = Spread::of(x);
            let least = mean + deviation * cutoff;
            out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - least).max(0.0));
        }
    }

    fn backward_rows(x: &[f32], cutoff: f32, width: usize, dx: &mut [f32]) {
        for (x, dx) in x.chunks_exact(width).zip(dx.chunks_exact_mut(width)) {
            let Spread { mean, deviation, is_own } = Spread::of(x);
            let least = mean + deviation * cutoff;
            dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = if x - least > 0.0 { *dx } else { 0.0 });
            // The bar rises by 1/n with each number, and by (x - mean) / (n deviation) for each cutoff.
            let passed = sum2(dx, dx, |dx, _| dx) / width as f32;
            let by = if is_own { passed * cutoff / deviation } else { 0.0 };
            dx.iter_mut().zip(x).for_each(|(dx, x)| *dx -= passed + by * (x - mean));
        }
    }
}
