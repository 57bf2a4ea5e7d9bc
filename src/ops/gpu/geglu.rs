//! The gated activation `gelu_tanh(gate) * up`.

use super::{CubeTensor, Gpu, UNITS, buffer, cubes_for, empty};
use crate::ops::graph::finish;
use burn::tensor::Tensor;
use cubecl::prelude::*;

const TWICE_SQRT_2_OVER_PI: f32 = 2.0 * 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// From here out GELU is the identity or 0, and the exponential is still finite.
const FAR: f32 = 10.0;

/// See [`crate::ops::geglu`].
pub fn geglu(gate: &Tensor<2>, up: &Tensor<2>) -> Option<Tensor<2>> {
    let (gate, up) = (Gpu::open(gate)?, Gpu::open(up)?);
    let kept = (gate.keep(), up.keep());
    let y = forward(&kept.0, &kept.1);
    Some(finish([gate, up], y, kept, |(gate, up), dy, [gate_wanted, up_wanted]| {
        let (d_gate, d_up) = backward(&gate, &up, &dy);
        [gate_wanted.then_some(d_gate), up_wanted.then_some(d_up)]
    }))
}

/// `gelu_tanh(gate) * up`.
pub fn forward(gate: &CubeTensor, up: &CubeTensor) -> CubeTensor {
    let out = empty(gate, gate.meta.shape().clone());
    forward_kernel::launch(
        &gate.client,
        cubes_for(gate),
        CubeDim::new_1d(UNITS),
        buffer(gate),
        buffer(up),
        buffer(&out),
    );
    out
}

/// The gradients of `gate` and `up` from that of the product.
pub fn backward(gate: &CubeTensor, up: &CubeTensor, dy: &CubeTensor) -> (CubeTensor, CubeTensor) {
    let [d_gate, d_up] = [gate, up].map(|like| empty(like, like.meta.shape().clone()));
    backward_kernel::launch(
        &gate.client,
        cubes_for(gate),
        CubeDim::new_1d(UNITS),
        buffer(gate),
        buffer(up),
        buffer(dy),
        buffer(&d_gate),
        buffer(&d_up),
    );
    (d_gate, d_up)
}

/// `sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`: `gelu_tanh(x) = x sigmoid(2u)`.
#[cube]
fn gate_of(x: f32) -> f32 {
    let near = x.clamp(-FAR, FAR);
    let twice_u = TWICE_SQRT_2_OVER_PI * near * (1.0 + CUBIC * near * near);
    1.0 / (1.0 + (-twice_u).exp())
}

#[cube(launch)]
fn forward_kernel(gate: &[f32], up: &[f32], out: &mut [f32]) {
    if ABSOLUTE_POS < out.len() {
        let x = gate[ABSOLUTE_POS];
        out[ABSOLUTE_POS] = x * gate_of(x) * up[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn backward_kernel(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    if ABSOLUTE_POS < gate.len() {
        let x = gate[ABSOLUTE_POS];
        let upstream = dy[ABSOLUTE_POS];
        let sigma = gate_of(x);
        let near = x.clamp(-FAR, FAR);
        let slope = TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * near * near); // d(2u)/dx
        d_up[ABSOLUTE_POS] = upstream * x * sigma;
        d_gate[ABSOLUTE_POS] = upstream * up[ABSOLUTE_POS] * (sigma + near * sigma * (1.0 - sigma) * slope);
    }
}
