//! The gated activation `gelu_tanh(gate) * up`.

use super::rows;
use super::simd::{self, vectorised};

const TWICE_SQRT_2_OVER_PI: f32 = 2.0 * 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// From here out GELU is the identity or 0, to the last bit.
const FAR: f32 = 1e6;

/// `sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`: `gelu_tanh(x) = x sigmoid(2u)`.
#[inline(always)]
fn gate_of(x: f32) -> f32 {
    let x = x.clamp(-FAR, FAR);
    let twice_u = TWICE_SQRT_2_OVER_PI * x * (1.0 + CUBIC * x * x);
    1.0 / (1.0 + simd::exp(-twice_u))
}

/// `out = gelu_tanh(gate) * up`.
pub fn forward(gate: &[f32], up: &[f32], width: usize, out: &mut [f32]) {
    rows::each(out, width, |rows, out| forward_rows(rows::of(gate, width, &rows), rows::of(up, width, &rows), out));
}

/// From the gradient of the product (in `d_gate`) to those of `gate` and `up`.
pub fn backward(gate: &[f32], up: &[f32], width: usize, d_gate: &mut [f32], d_up: &mut [f32]) {
    rows::each_pair(d_gate, d_up, width, |rows, d_gate, d_up| {
        backward_rows(rows::of(gate, width, &rows), rows::of(up, width, &rows), d_gate, d_up);
    });
}

vectorised! {
    fn forward_rows(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * gate_of(gate) * up;
        }
    }

    fn backward_rows(gate: &[f32], up: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        for ((&x, &up), (d_gate, d_up)) in gate.iter().zip(up).zip(d_gate.iter_mut().zip(d_up)) {
            let dy = *d_gate;
            let sigma = gate_of(x);
            // d(2u)/dx. Far out sigma (1 - sigma) is 0, and must not meet an infinite x^2.
            let near = x.clamp(-FAR, FAR);
            let slope = TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * near * near);
            *d_up = dy * x * sigma;
            *d_gate = dy * up * (sigma + x * sigma * (1.0 - sigma) * slope);
        }
    }
}
