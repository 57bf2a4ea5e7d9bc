//! Work on the rows of matrices, on all threads, and sums that run in vectors.

use rayon::prelude::*;
use std::ops::Range;

use crate::quant::simd::LANES;

/// Values that a thread takes at a time: enough that handing them out costs nothing, few enough to balance.
const GRAIN: usize = 1 << 14;

/// Rows of `width` values that make a fair share of work.
fn grain(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// The values of rows `rows` of a matrix of this width.
pub fn of<'a>(values: &'a [f32], width: usize, rows: &Range<usize>) -> &'a [f32] {
    &values[rows.start * width..rows.end * width]
}

/// Calls `body(rows, values)` with runs of the rows of `out`. A row is written by one thread alone, so the result is
/// the same for any number of threads.
pub fn each(out: &mut [f32], width: usize, body: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    let grain = grain(width);
    out.par_chunks_mut(grain * width).enumerate().for_each(|(chunk, values)| {
        let first = chunk * grain;
        body(first..first + values.len() / width, values);
    });
}

/// As [`each`], for two results at once.
pub fn each_pair(
    a: &mut [f32],
    b: &mut [f32],
    width: usize,
    body: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    let grain = grain(width);
    let chunks = a.par_chunks_mut(grain * width).zip(b.par_chunks_mut(grain * width)).enumerate();
    chunks.for_each(|(chunk, (a, b))| {
        let first = chunk * grain;
        body(first..first + a.len() / width, a, b);
    });
}

/// The largest value, minus infinity of nothing. NaN is not looked for.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        for i in 0..LANES {
            lanes[i] = larger(chunk[i], lanes[i]);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| larger(x, max))
}
