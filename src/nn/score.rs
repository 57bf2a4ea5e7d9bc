//! What a head of one row makes of hidden rows: a number for each, and how likely that says it is what the head was taught to find.

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

/// `1 / (1 + exp(-x))`: how likely that is of which `x` is the logit. In f64, without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

#[cfg(test)]
mod tests {
    use super::sigmoid;

    #[test]
    fn logits_of_any_size_are_probabilities() {
        assert_eq!([0.0, 800.0, -800.0].map(sigmoid), [0.5, 1.0, 0.0]);
        assert!((sigmoid(3f64.ln()) - 0.75).abs() < 1e-15 && (sigmoid(-3f64.ln()) - 0.25).abs() < 1e-15);
    }
}
