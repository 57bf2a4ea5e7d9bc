//! RMS norm with its own gradient.

use super::cpu::norm::{self as kernel, Angles};
use super::input::Input;
use super::node::{Cpu, Kept, finish, tensor};
use super::plain;
use super::weight::Weight;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};

/// `x / sqrt(mean(x^2) + eps) * gain` over the last axis, plus `residual` where there is one. Keeps `x`.
///
/// # Shapes
/// - `x`, `residual`, output: `[.., d]`
/// - `gain`: `[d]`
pub fn rms_norm<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, eps: f64, residual: Option<Tensor<D>>) -> Tensor<D> {
    let (Some(on_cpu), Some(gain_on_cpu)) = (Cpu::new(&x), Cpu::new(gain)) else {
        #[cfg(feature = "gpu")]
        if let Some(y) = super::gpu::rms_norm(&x, gain, eps, residual.as_ref()) {
            return y;
        }
        return plain::rms_norm(x, gain, eps, residual);
    };
    cpu_rms_norm(on_cpu, gain_on_cpu, eps as f32, residual.as_ref().and_then(Cpu::new))
}

/// As [`rms_norm`], of rows that are multiplied with `weight` and its like: a GPU that rounds them for that does so in the
/// same kernel.
///
/// # Shapes
/// - `x`, output: `[n, d]`
/// - `gain`: `[d]`
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn rms_norm_for(weight: &Weight, x: Tensor<2>, gain: &Tensor<1>, eps: f64) -> Input {
    #[cfg(feature = "gpu")]
    if let Some(rows) = super::gpu::rms_norm_rounded(&x, gain, eps, weight.compute_dtype()) {
        return rows;
    }
    rms_norm(x, gain, eps, None).into()
}

fn cpu_rms_norm<const D: usize>(x: Cpu, gain: Cpu, eps: f32, residual: Option<Cpu>) -> Tensor<D> {
    let mut y = vec![0.0; x.values().len()];
    kernel::forward(x.values(), gain.values(), eps, residual.as_ref().map(Cpu::values), &mut y);
    let (shape, state) = (x.shape(), Norm { x: x.keep(), gain: gain.keep(), eps });
    match residual {
        None => finish([x], tensor(y, shape), state, |norm, dy, [x]| [x.then(|| norm.backward(dy))]),
        Some(residual) => finish([x, residual], tensor(y, shape), state, |norm, dy, [x, residual]| {
            let shape = norm.x.shape();
            [x.then(|| norm.backward(dy)), residual.then(|| tensor(dy.to_vec(), shape))]
        }),
    }
}

#[derive(Debug, Clone)]
struct Norm {
    x: Kept,
    gain: Kept,
    eps: f32,
}

impl Norm {
    fn backward(&self, dy: &[f32]) -> FlexTensor {
        let mut dx = vec![0.0; dy.len()];
        kernel::backward(self.x.values(), self.gain.values(), self.eps, dy, &mut dx);
        tensor(dx, self.x.shape())
    }
}

/// RMS norm over each head, then its half rotation: `(y1 cos - y2 sin, y2 cos + y1 sin)`. Keeps `x`.
///
/// # Shapes
/// - `x`, output: `[n, h, e]`
/// - `gain`: `[e]`
/// - `cos`, `sin`: `[n, 1, e/2]`
pub fn rotated_rms_norm(x: Tensor<3>, gain: &Tensor<1>, eps: f64, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<3> {
    match (Cpu::new(&x), Cpu::new(gain), Cpu::new(cos), Cpu::new(sin)) {
        (Some(x), Some(gain), Some(cos), Some(sin)) => cpu_rotated_rms_norm(x, gain, eps as f32, cos, sin),
        _ => {
            #[cfg(feature = "gpu")]
            if let Some(y) = super::gpu::rotated_rms_norm(&x, gain, eps, cos, sin) {
                return y;
            }
            plain::rotate(plain::rms_norm(x, gain, eps, None), cos, sin)
        }
    }
}

fn cpu_rotated_rms_norm(x: Cpu, gain: Cpu, eps: f32, cos: Cpu, sin: Cpu) -> Tensor<3> {
    let shape = x.shape();
    let heads = shape[1];
    let mut y = vec![0.0; x.values().len()];
    let angles = Angles { cos: cos.values(), sin: sin.values(), heads };
    kernel::rotated_forward(x.values(), gain.values(), eps, angles, &mut y);
    let state = Rotated { x: x.keep(), gain: gain.keep(), eps, cos: cos.keep(), sin: sin.keep() };
    finish([x], tensor(y, shape), state, |state, dy, [wanted]| [wanted.then(|| state.backward(dy))])
}

#[derive(Debug, Clone)]
struct Rotated {
    x: Kept,
    gain: Kept,
    eps: f32,
    cos: Kept,
    sin: Kept,
}

impl Rotated {
    fn backward(&self, dy: &[f32]) -> FlexTensor {
        let shape: Shape = self.x.shape();
        let angles = Angles { cos: self.cos.values(), sin: self.sin.values(), heads: shape[1] };
        let mut dx = vec![0.0; dy.len()];
        kernel::rotated_backward(self.x.values(), self.gain.values(), self.eps, angles, dy, &mut dx);
        tensor(dx, shape)
    }
}
