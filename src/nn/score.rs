//! What a head of one row makes of hidden rows: a number for each.

use crate::nn::Segments;
use crate::ops::upload;
use burn::tensor::{Int, Tensor, TensorData};

/// `x w^T` of normalised rows, in f32.
///
/// # Shapes
/// - `rows`: `[m, d]`
/// - `head`: `[1, d]`
/// - output: `[m, 1]`
pub fn scores(rows: Tensor<2>, head: Tensor<2>) -> Tensor<2> {
    (rows * head).sum_dim(1)
}

/// The last row of each segment, by which it is judged.
///
/// # Shapes
/// - `rows`: `[n, d]`
/// - output: `[m, d]`
pub fn ends(rows: Tensor<2>, segments: &Segments) -> Tensor<2> {
    let at: Vec<i64> = segments.ranges().iter().map(|range| range.end.saturating_sub(1) as i64).collect();
    let count = at.len();
    let at: Tensor<1, Int> = upload(TensorData::new(at, [count]), &rows.device());
    rows.select(0, at)
}
