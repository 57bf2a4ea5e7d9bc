//! Every operation composed of burn's own: what runs where there is no kernel, and what the kernels are tested against.

pub mod attention;
pub mod conv;

use crate::ops::adamw::rates::AdamW;
use crate::ops::product::product;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};

/// See [`super::rms_norm`].
pub fn rms_norm<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, eps: f64, residual: Option<Tensor<D>>) -> Tensor<D> {
    let mean = x.clone().square().mean_dim(D - 1);
    let scale = mean.add_scalar(eps).sqrt().recip(); // [.., 1]
    let y = x * scale * gain.clone().unsqueeze();
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}

/// Half rotation of each head: `(x1 cos - x2 sin, x2 cos + x1 sin)`, with `x1`, `x2` the halves of the head.
///
/// # Shapes
/// - `x`, output: `[n, h, e]`
/// - `cos`, `sin`: `[n, 1, e/2]`
pub fn rotate(x: Tensor<3>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<3> {
    let [_, _, e] = x.dims();
    let x1 = x.clone().narrow(2, 0, e / 2);
    let x2 = x.narrow(2, e / 2, e / 2);
    let first = x1.clone() * cos.clone() - x2.clone() * sin.clone();
    let second = x2 * cos.clone() + x1 * sin.clone();
    Tensor::cat(vec![first, second], 2)
}

/// See [`super::geglu`].
///
/// GELU is written as `x sigmoid(2u)`: one exponential instead of a tanh, and a gradient that stays finite however
/// large `|x|` is.
pub fn geglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    const TWICE_SQRT_2_OVER_PI: f64 = 2.0 * 0.797_884_560_802_865_4;
    let cubic = gate.clone().square().mul_scalar(0.044715).add_scalar(1.0); // 1 + 0.044715 x^2
    let twice_u = (gate.clone() * cubic).mul_scalar(TWICE_SQRT_2_OVER_PI);
    gate * sigmoid(twice_u) * up
}

/// See [`super::top_of_row`].
pub fn top_of_row(x: Tensor<2>, cutoff: f32) -> Tensor<2> {
    // A row of equal numbers has no deviation, and no gradient of one.
    const SMALLEST_VARIANCE: f64 = 1e-30;
    let mean = x.clone().mean_dim(1); // [n, 1]
    let variance = (x.clone() - mean.clone()).square().mean_dim(1);
    let deviation = variance.clamp_min(SMALLEST_VARIANCE).sqrt();
    relu(x - (mean + deviation.mul_scalar(cutoff)))
}

/// `y + s (x A^T) B^T`.
///
/// # Shapes
/// - `x`: `[n, in]`
/// - `y`, output: `[n, out]`
/// - `a`: `[r, in]`, `b`: `[out, r]`
pub fn add_low_rank(y: Tensor<2>, x: &Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Tensor<2> {
    let narrow = product(x.clone(), a.clone().transpose()); // [n, r]
    y + product(narrow.mul_scalar(scaling), b.clone().transpose())
}

/// See [`super::adamw()`].
pub fn adamw(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    first: &Tensor<2>,
    second: &Tensor<2>,
    by: &AdamW,
) -> [Tensor<2>; 3] {
    let parameter = if by.keep == 1.0 { parameter } else { parameter.mul_scalar(by.keep) };
    let gradient = if by.scale == 1.0 { gradient } else { gradient.mul_scalar(by.scale) };
    let first = first.clone().mul_scalar(by.beta1) + gradient.clone().mul_scalar(1.0 - by.beta1);
    let second = second.clone().mul_scalar(by.beta2) + gradient.square().mul_scalar(1.0 - by.beta2);
    let denominator = second.clone().sqrt().div_scalar(by.root_correction).add_scalar(by.epsilon);
    let parameter = parameter - first.clone().mul_scalar(by.step_size) / denominator;
    [parameter, first, second]
}
