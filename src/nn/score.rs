//! What a head of one row makes of hidden rows: a number for each.

use burn::tensor::Tensor;

/// `x w^T` of normalised rows, in f32.
///
/// # Shapes
/// - `rows`: `[m, d]`
/// - `head`: `[1, d]`
/// - output: `[m, 1]`
pub fn scores(rows: Tensor<2>, head: Tensor<2>) -> Tensor<2> {
    (rows * head).sum_dim(1)
}
