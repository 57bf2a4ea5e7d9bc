//! RMS norm of rows, alone, with a residual, or with a rotation behind it.

use super::rows;
use super::simd::vectorised;
use crate::quant::simd::sum2;

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
fn reciprocal_rms(x: &[f32], eps: f32) -> f32 {
    let sum = sum2(x, x, |a, b| a * b);
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}

/// From the gradient of the normalised row (in `dx`) to that of the row.
#[inline(always)]
fn project_out(x: &[f32], eps: f32, dx: &mut [f32]) {
    let scale = reciprocal_rms(x, eps);
    let along = sum2(x, dx, |x, g| x * g) / x.len() as f32 * scale * scale * scale;
    dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = *dx * scale - x * along);
}

/// `out = x / rms(x) * gain`, and `+ residual` where there is one.
pub fn forward(x: &[f32], gain: &[f32], eps: f32, residual: Option<&[f32]>, out: &mut [f32]) {
    let d = gain.len();
    rows::each(out, d, |rows, out| {
        let residual = residual.map(|residual| rows::of(residual, d, &rows));
        forward_rows(rows::of(x, d, &rows), gain, eps, residual, out);
    });
}

/// The gradient of `x`, given that of the norm's output:
/// `dx = s (g dy) - x s^3 mean(x g dy)` with `s = 1 / rms(x)`.
pub fn backward(x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let d = gain.len();
    rows::each(dx, d, |rows, dx| backward_rows(rows::of(x, d, &rows), gain, eps, rows::of(dy, d, &rows), dx));
}

/// The angles of a rotation, as `[n, e/2]` cosines and sines, for rows `[n, heads]`.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
    /// Rows that share a token's angles.
    pub heads: usize,
}

impl<'a> Angles<'a> {
    #[inline(always)]
    fn of(&self, row: usize, half: usize) -> (&'a [f32], &'a [f32]) {
        let token = row / self.heads;
        let at = token * half..(token + 1) * half;
        (&self.cos[at.clone()], &self.sin[at])
    }
}

/// Norm and half rotation of each of a token's `heads`.
pub fn rotated_forward(x: &[f32], gain: &[f32], eps: f32, angles: Angles, out: &mut [f32]) {
    let e = gain.len();
    rows::each(out, e, |rows, out| {
        rotated_forward_rows(rows::of(x, e, &rows), gain, eps, rows.start, angles, out);
    });
}

/// The gradient of `x`, given that of the rotated output.
pub fn rotated_backward(x: &[f32], gain: &[f32], eps: f32, angles: Angles, dy: &[f32], dx: &mut [f32]) {
    let e = gain.len();
    rows::each(dx, e, |rows, dx| {
        let (x, dy) = (rows::of(x, e, &rows), rows::of(dy, e, &rows));
        rotated_backward_rows(x, gain, eps, rows.start, angles, dy, dx);
    });
}

vectorised! {
    fn forward_rows(x: &[f32], gain: &[f32], eps: f32, residual: Option<&[f32]>, out: &mut [f32]) {
        let d = gain.len();
        for (row, (out, x)) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)).enumerate() {
            let scale = reciprocal_rms(x, eps);
            match residual {
                None => out.iter_mut().zip(x).zip(gain).for_each(|((out, x), g)| *out = x * scale * g),
                Some(residual) => {
                    let inputs = x.iter().zip(gain).zip(&residual[row * d..(row + 1) * d]);
                    out.iter_mut().zip(inputs).for_each(|(out, ((x, g), r))| *out = r + x * scale * g);
                }
            }
        }
    }

    fn backward_rows(x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        let d = gain.len();
        for ((dx, x), dy) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dy.chunks_exact(d)) {
            dx.iter_mut().zip(dy).zip(gain).for_each(|((dx, dy), g)| *dx = dy * g);
            project_out(x, eps, dx);
        }
    }

    fn rotated_forward_rows(
        x: &[f32],
        gain: &[f32],
        eps: f32,
        first: usize,
        angles: Angles,
        out: &mut [f32],
    ) {
        let e = gain.len();
        let half = e / 2;
        let (g1, g2) = gain.split_at(half);
        for (row, (out, x)) in (first..).zip(out.chunks_exact_mut(e).zip(x.chunks_exact(e))) {
            let scale = reciprocal_rms(x, eps);
            let (cos, sin) = angles.of(row, half);
            let (x1, x2) = x.split_at(half);
            let (out1, out2) = out.split_at_mut(half);
            for i in 0..half {
                let (a, b) = (x1[i] * scale * g1[i], x2[i] * scale * g2[i]);
                out1[i] = a * cos[i] - b * sin[i];
                out2[i] = b * cos[i] + a * sin[i];
            }
        }
    }

    fn rotated_backward_rows(
        x: &[f32],
        gain: &[f32],
        eps: f32,
        first: usize,
        angles: Angles,
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let e = gain.len();
        let half = e / 2;
        let (g1, g2) = gain.split_at(half);
        for (row, ((dx, x), dy)) in (first..).zip(dx.chunks_exact_mut(e).zip(x.chunks_exact(e)).zip(dy.chunks_exact(e))) {
            let (cos, sin) = angles.of(row, half);
            let (dy1, dy2) = dy.split_at(half);
            let (dx1, dx2) = dx.split_at_mut(half);
            for i in 0..half {
                dx1[i] = (dy1[i] * cos[i] + dy2[i] * sin[i]) * g1[i];
                dx2[i] = (dy2[i] * cos[i] - dy1[i] * sin[i]) * g2[i];
            }
            project_out(x, eps, dx);
        }
    }
}
