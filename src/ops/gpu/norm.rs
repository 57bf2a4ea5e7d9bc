//! RMS norm of rows, alone, with a residual, or with a half rotation behind it: a cube per row.

use super::matmul::power_for;
use super::reduce::{max_of_units, sum_of_units};
use super::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, empty, empty_of, tensor};
use crate::ops::factor::Factor;
use crate::ops::graph::finish;
use crate::ops::input::Input;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{FloatDType, Tensor};
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// See [`crate::ops::rms_norm`].
pub fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    gain: &Tensor<1>,
    eps: f64,
    residual: Option<&Tensor<D>>,
) -> Option<Tensor<D>> {
    let (x, gain) = (Gpu::open(x)?, Gpu::open(gain)?.keep());
    let state = Norm { x: x.keep(), gain, eps: eps as f32, angles: None };
    let Some(residual) = residual else {
        let y = state.forward(None);
        return Some(finish([x], y, state, |state, dy, [wanted]| [wanted.then(|| state.backward(&dy))]));
    };
    let residual = Gpu::open(residual)?;
    let y = state.forward(Some(&residual.keep()));
    Some(finish([x, residual], y, state, |state, dy, [x_wanted, residual_wanted]| {
        let dx = x_wanted.then(|| state.backward(&dy));
        [dx, residual_wanted.then_some(dy)]
    }))
}

/// See [`crate::ops::rms_norm_for`]; `None` where nothing is rounded.
pub fn rms_norm_rounded(x: &Tensor<2>, gain: &Tensor<1>, eps: f64, dtype: FloatDType) -> Option<Input> {
    if dtype == FloatDType::F32 || x.dims().contains(&0) {
        return None;
    }
    let (x, gain) = (Gpu::open(x)?, Gpu::open(gain)?.keep());
    let state = Norm { x: x.keep(), gain, eps: eps as f32, angles: None };
    let (y, factor) = state.forward_rounded(dtype);
    let y = finish([x], y, state, |state, dy, [wanted]| [wanted.then(|| state.backward(&dy))]);
    Some(Input::rounded(y, dtype, factor))
}

/// See [`crate::ops::rotated_rms_norm`].
pub fn rotated_rms_norm(
    x: &Tensor<3>,
    gain: &Tensor<1>,
    eps: f64,
    cos: &Tensor<3>,
    sin: &Tensor<3>,
) -> Option<Tensor<3>> {
    let (x, gain) = (Gpu::open(x)?, Gpu::open(gain)?.keep());
    let angles = Angles { cos: Gpu::open(cos)?.keep(), sin: Gpu::open(sin)?.keep() };
    let state = Norm { x: x.keep(), gain, eps: eps as f32, angles: Some(angles) };
    let y = state.forward(None);
    Some(finish([x], y, state, |state, dy, [wanted]| [wanted.then(|| state.backward(&dy))]))
}

#[derive(Debug, Clone)]
struct Norm {
    x: CubeTensor,
    gain: CubeTensor,
    eps: f32,
    angles: Option<Angles>,
}

/// Cosines and sines, `[n, 1, e/2]`.
#[derive(Debug, Clone)]
struct Angles {
    cos: CubeTensor,
    sin: CubeTensor,
}

/// What follows the norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Then {
    Nothing,
    Residual,
    Rotation,
}

impl Norm {
    fn forward(&self, residual: Option<&CubeTensor>) -> CubeTensor {
        let Norm { x, gain, eps, angles } = self;
        let out = empty(x, x.meta.shape().clone());
        let then = match (residual, angles) {
            (Some(_), _) => Then::Residual,
            (_, Some(_)) => Then::Rotation,
            _ => Then::Nothing,
        };
        let [cos, sin] = self.angles();
        let (count, units) = self.cubes();
        if out.meta.num_elements() > 0 {
            forward_kernel::launch(
                &x.client,
                count,
                CubeDim::new_1d(units),
                buffer(x),
                buffer(gain),
                buffer(residual.unwrap_or(x)),
                buffer(cos),
                buffer(sin),
                buffer(&out),
                *eps,
                self.heads(),
                units,
                then,
            );
        }
        out
    }

    /// The normalised rows, and the same as a factor.
    fn forward_rounded(&self, dtype: FloatDType) -> (CubeTensor, Factor<2>) {
        let Norm { x, gain, eps, .. } = self;
        let is_scaled = dtype == FloatDType::F16;
        let out = empty(x, x.meta.shape().clone());
        let rounded = empty_of(x, x.meta.shape().clone(), dtype.into());
        let scales = empty(x, if is_scaled { [x.meta.shape()[0], 1] } else { [1, 1] });
        let (count, units) = self.cubes();
        forward_rounded_kernel::launch(
            &x.client,
            count,
            CubeDim::new_1d(units),
            buffer(x),
            buffer(gain),
            buffer(&out),
            buffer(&rounded),
            buffer(&scales),
            *eps,
            is_scaled,
            units,
            dtype_to_storage_type(rounded.dtype),
        );
        (out, Factor::of(tensor(&rounded), is_scaled.then(|| tensor(&scales))))
    }

    /// The gradient of `x`: with `s = 1 / rms(x)` and `g` the gradient of `x s`, `dx = s g - x s^3 mean(x g)`.
    fn backward(&self, dy: &CubeTensor) -> CubeTensor {
        let Norm { x, gain, eps, angles } = self;
        let dx = empty(x, x.meta.shape().clone());
        let [cos, sin] = self.angles();
        let (count, units) = self.cubes();
        if dx.meta.num_elements() > 0 {
            backward_kernel::launch(
                &x.client,
                count,
                CubeDim::new_1d(units),
                buffer(x),
                buffer(gain),
                buffer(cos),
                buffer(sin),
                buffer(dy),
                buffer(&dx),
                *eps,
                self.heads(),
                units,
                angles.is_some(),
            );
        }
        dx
    }

    /// The tables, or something in their place.
    fn angles(&self) -> [&CubeTensor; 2] {
        self.angles.as_ref().map_or([&self.gain, &self.gain], |angles| [&angles.cos, &angles.sin])
    }

    /// Rows that share a token's angles.
    fn heads(&self) -> u32 {
        let shape = self.x.meta.shape();
        if shape.num_dims() > 1 { shape[shape.num_dims() - 2] as u32 } else { 1 }
    }

    /// A cube per row, and its units: few for the rows of heads.
    fn cubes(&self) -> (CubeCount, u32) {
        let width = self.gain.meta.num_elements();
        let rows = self.x.meta.num_elements() / width.max(1);
        (cube_per_row(&self.x, rows), if width <= 512 { 64 } else { UNITS })
    }
}

/// `1 / sqrt(mean(x^2) + eps)` of the row that begins at `start`.
#[cube]
fn reciprocal_rms(x: &[f32], start: usize, width: usize, eps: f32, #[comptime] units: u32) -> f32 {
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, units as usize) {
        squares += x[start + i] * x[start + i];
    }
    1.0 / (sum_of_units(squares, units) / f32::cast_from(width) + eps).sqrt()
}

/// Element `i` of the half rotation of `(a, b)`, by the angles that begin at `angles`:
/// `(a cos - b sin, b cos + a sin)`.
#[cube]
fn rotated(a: f32, b: f32, cos: f32, sin: f32, is_first: bool) -> f32 {
    let mut value = b * cos + a * sin;
    if is_first {
        value = a * cos - b * sin;
    }
    value
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn forward_kernel(
    x: &[f32],
    gain: &[f32],
    residual: &[f32],
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
    eps: f32,
    heads: u32,
    #[comptime] units: u32,
    #[comptime] then: Then,
) {
    let width = gain.len();
    let start = CUBE_POS * width;
    if start < x.len() {
        let scale = reciprocal_rms(x, start, width, eps, units);
        for i in range_stepped(UNIT_POS as usize, width, units as usize) {
            let at = start + i;
            out[at] = match then {
                Then::Nothing => x[at] * scale * gain[i],
                Then::Residual => residual[at] + x[at] * scale * gain[i],
                Then::Rotation => {
                    let half = width / 2;
                    let first = i % half;
                    let angle = CUBE_POS / heads as usize * half + first;
                    let a = x[start + first] * scale * gain[first];
                    let b = x[start + half + first] * scale * gain[half + first];
                    rotated(a, b, cos[angle], sin[angle], i < half)
                }
            };
        }
    }
}

/// As [`forward_kernel`] without anything behind the norm; its rows as a factor too.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn forward_rounded_kernel<F: Float>(
    x: &[f32],
    gain: &[f32],
    out: &mut [f32],
    rounded: &mut [F],
    scales: &mut [f32],
    eps: f32,
    // Otherwise `scales` is not written.
    #[comptime] is_scaled: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let width = gain.len();
    let start = CUBE_POS * width;
    if start < x.len() {
        let scale = reciprocal_rms(x, start, width, eps, units);
        let mut factor = 1.0f32;
        if is_scaled {
            let mut largest = 0.0f32;
            for i in range_stepped(UNIT_POS as usize, width, units as usize) {
                largest = max(largest, (x[start + i] * scale * gain[i]).abs());
            }
            let (by, inverse) = power_for(max_of_units(largest, units));
            factor = by;
            if UNIT_POS == 0 {
                scales[CUBE_POS] = inverse;
            }
        }
        for i in range_stepped(UNIT_POS as usize, width, units as usize) {
            let value = x[start + i] * scale * gain[i];
            out[start + i] = value;
            rounded[start + i] = F::cast_from(value * factor);
        }
    }
}

/// Element `i` of the gradient of the normalised row.
#[cube]
fn upstream(
    dy: &[f32],
    gain: &[f32],
    cos: &[f32],
    sin: &[f32],
    start: usize,
    i: usize,
    heads: u32,
    #[comptime] is_rotated: bool,
) -> f32 {
    if is_rotated {
        let half = gain.len() / 2;
        let first = i % half;
        let angle = CUBE_POS / heads as usize * half + first;
        // Back by the same angle.
        gain[i] * rotated(dy[start + first], dy[start + half + first], cos[angle], -sin[angle], i < half)
    } else {
        gain[i] * dy[start + i]
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn backward_kernel(
    x: &[f32],
    gain: &[f32],
    cos: &[f32],
    sin: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    eps: f32,
    heads: u32,
    #[comptime] units: u32,
    #[comptime] is_rotated: bool,
) {
    let width = gain.len();
    let start = CUBE_POS * width;
    if start < x.len() {
        let scale = reciprocal_rms(x, start, width, eps, units);
        let mut products = 0.0f32;
        for i in range_stepped(UNIT_POS as usize, width, units as usize) {
            products += x[start + i] * upstream(dy, gain, cos, sin, start, i, heads, is_rotated);
        }
        let along = sum_of_units(products, units) / f32::cast_from(width) * scale * scale * scale;
        for i in range_stepped(UNIT_POS as usize, width, units as usize) {
            let g = upstream(dy, gain, cos, sin, start, i, heads, is_rotated);
            dx[start + i] = g * scale - x[start + i] * along;
        }
    }
}
