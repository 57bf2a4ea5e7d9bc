//! The gated activation `gelu_tanh(gate) * up`.

use super::matmul::power_for;
use super::reduce::max_of_units;
use super::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, cubes_for, empty, empty_of, tensor};
use crate::ops::factor::Factor;
use crate::ops::graph::finish;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{FloatDType, Tensor};
use cubecl::ir::ElemType;
use cubecl::prelude::*;

const TWICE_SQRT_2_OVER_PI: f32 = 2.0 * 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// From here out GELU is the identity or 0, and the exponential is still finite.
const FAR: f32 = 10.0;

/// See [`crate::ops::geglu`].
pub fn geglu(gate: &Tensor<2>, up: &Tensor<2>) -> Option<Tensor<2>> {
    let (gate, up) = (Gpu::open(gate)?, Gpu::open(up)?);
    let halves = Halves::new(gate.keep(), up.keep());
    let y = halves.product();
    Some(finish([gate, up], y, halves, |halves, dy, [gate_wanted, up_wanted]| {
        let (d_gate, d_up) = halves.gradients(&dy);
        [gate_wanted.then_some(d_gate), up_wanted.then_some(d_up)]
    }))
}

/// The two halves of a gated product, as a backward pass keeps them: in f32, or rounded as factors are.
#[derive(Debug, Clone)]
pub struct Halves {
    /// `[n, f]`.
    gate: CubeTensor,
    /// `[n, f]`, of the same dtype.
    up: CubeTensor,
    /// What the rows of the two are to be multiplied by, where it is anything: `[2, n]`.
    scales: Option<CubeTensor>,
}

impl Halves {
    /// As they are, in f32.
    pub fn new(gate: CubeTensor, up: CubeTensor) -> Self {
        Halves { gate, up, scales: None }
    }

    /// The halves rounded, their product, and that as a factor: one kernel reads the halves and writes all of it.
    pub fn rounded(gate: CubeTensor, up: CubeTensor, dtype: FloatDType) -> (Self, CubeTensor, Factor<2>) {
        let [n, width] = gate.meta.shape().dims();
        if dtype == FloatDType::F32 || n * width == 0 {
            let halves = Halves::new(gate, up);
            let product = halves.product();
            let factor = Factor::new(&tensor(&product), dtype);
            return (halves, product, factor);
        }
        let is_scaled = dtype == FloatDType::F16;
        let product = empty(&gate, [n, width]);
        let [gate_rounded, up_rounded, factor] = [(); 3].map(|()| empty_of(&gate, [n, width], dtype.into()));
        let scales = empty(&gate, if is_scaled { [2, n] } else { [1, 1] });
        let factor_scales = empty(&gate, if is_scaled { [n, 1] } else { [1, 1] });
        rounded_kernel::launch(
            &gate.client,
            cube_per_row(&gate, n),
            CubeDim::new_1d(UNITS),
            buffer(&gate),
            buffer(&up),
            buffer(&product),
            buffer(&factor),
            buffer(&gate_rounded),
            buffer(&up_rounded),
            buffer(&factor_scales),
            buffer(&scales),
            width as u32,
            is_scaled,
            UNITS,
            dtype_to_storage_type(factor.dtype),
        );
        let halves = Halves { gate: gate_rounded, up: up_rounded, scales: is_scaled.then_some(scales) };
        let factor = Factor::of(tensor(&factor), is_scaled.then(|| tensor(&factor_scales)));
        (halves, product, factor)
    }

    /// `gelu_tanh(gate) * up`, in f32.
    pub fn product(&self) -> CubeTensor {
        let Halves { gate, up, scales } = self;
        let out = empty(gate, gate.meta.shape().clone());
        if out.meta.num_elements() > 0 {
            product_kernel::launch(
                &gate.client,
                cubes_for(gate),
                CubeDim::new_1d(UNITS),
                buffer(gate),
                buffer(up),
                buffer(scales.as_ref().unwrap_or(&out)),
                buffer(&out),
                self.width(),
                scales.is_some(),
                dtype_to_storage_type(gate.dtype),
            );
        }
        out
    }

    /// The gradients of the two from that of their product, in f32.
    pub fn gradients(&self, dy: &CubeTensor) -> (CubeTensor, CubeTensor) {
        let Halves { gate, up, scales } = self;
        let [d_gate, d_up] = [(); 2].map(|()| empty(gate, gate.meta.shape().clone()));
        if dy.meta.num_elements() > 0 {
            gradients_kernel::launch(
                &gate.client,
                cubes_for(gate),
                CubeDim::new_1d(UNITS),
                buffer(gate),
                buffer(up),
                buffer(scales.as_ref().unwrap_or(dy)),
                buffer(dy),
                buffer(&d_gate),
                buffer(&d_up),
                self.width(),
                scales.is_some(),
                dtype_to_storage_type(gate.dtype),
            );
        }
        (d_gate, d_up)
    }

    fn width(&self) -> u32 {
        self.gate.meta.shape()[1] as u32
    }
}

/// `sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`: `gelu_tanh(x) = x sigmoid(2u)`.
#[cube]
fn gate_of(x: f32) -> f32 {
    let near = x.clamp(-FAR, FAR);
    let twice_u = TWICE_SQRT_2_OVER_PI * near * (1.0 + CUBIC * near * near);
    1.0 / (1.0 + (-twice_u).exp())
}

#[cube]
fn gated(gate: f32, up: f32) -> f32 {
    gate * gate_of(gate) * up
}

/// This unit's element of the two halves.
#[cube]
fn halves_at<F: Float>(
    gate: &[F],
    up: &[F],
    scales: &[f32],
    width: u32,
    // Otherwise `scales` is not read.
    #[comptime] is_scaled: bool,
) -> (f32, f32) {
    let mut of_gate = f32::cast_from(gate[ABSOLUTE_POS]);
    let mut of_up = f32::cast_from(up[ABSOLUTE_POS]);
    if is_scaled {
        let row = ABSOLUTE_POS / width as usize;
        of_gate *= scales[row];
        of_up *= scales[scales.len() / 2 + row];
    }
    (of_gate, of_up)
}

#[cube(launch)]
fn product_kernel<F: Float>(
    gate: &[F],
    up: &[F],
    scales: &[f32],
    out: &mut [f32],
    width: u32,
    #[comptime] is_scaled: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let (gate, up) = halves_at(gate, up, scales, width, is_scaled);
        out[ABSOLUTE_POS] = gated(gate, up);
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn gradients_kernel<F: Float>(
    gate: &[F],
    up: &[F],
    scales: &[f32],
    dy: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    width: u32,
    #[comptime] is_scaled: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < dy.len() {
        let (x, up) = halves_at(gate, up, scales, width, is_scaled);
        let upstream = dy[ABSOLUTE_POS];
        let sigma = gate_of(x);
        let near = x.clamp(-FAR, FAR);
        let slope = TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * near * near); // d(2u)/dx
        d_up[ABSOLUTE_POS] = upstream * x * sigma;
        d_gate[ABSOLUTE_POS] = upstream * up * (sigma + near * sigma * (1.0 - sigma) * slope);
    }
}

/// See [`Halves::rounded`]: a cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn rounded_kernel<F: Float>(
    gate: &[f32],
    up: &[f32],
    product: &mut [f32],
    factor: &mut [F],
    gate_rounded: &mut [F],
    up_rounded: &mut [F],
    factor_scales: &mut [f32],
    scales: &mut [f32],
    width: u32,
    // Otherwise the scales are not written.
    #[comptime] is_scaled: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let width = width as usize;
    let start = CUBE_POS * width;
    if start < gate.len() {
        let mut of_gate = 1.0f32;
        let mut of_up = 1.0f32;
        let mut of_product = 1.0f32;
        if is_scaled {
            let mut largest_gate = 0.0f32;
            let mut largest_up = 0.0f32;
            let mut largest_product = 0.0f32;
            for i in range_stepped(UNIT_POS as usize, width, units as usize) {
                largest_gate = max(largest_gate, gate[start + i].abs());
                largest_up = max(largest_up, up[start + i].abs());
                largest_product = max(largest_product, gated(gate[start + i], up[start + i]).abs());
            }
            let (for_gate, after_gate) = power_for(max_of_units(largest_gate, units));
            let (for_up, after_up) = power_for(max_of_units(largest_up, units));
            let (for_product, after_product) = power_for(max_of_units(largest_product, units));
            of_gate = for_gate;
            of_up = for_up;
            of_product = for_product;
            if UNIT_POS == 0 {
                scales[CUBE_POS] = after_gate;
                scales[scales.len() / 2 + CUBE_POS] = after_up;
                factor_scales[CUBE_POS] = after_product;
            }
        }
        for i in range_stepped(UNIT_POS as usize, width, units as usize) {
            let at = start + i;
            let value = gated(gate[at], up[at]);
            product[at] = value;
            factor[at] = F::cast_from(value * of_product);
            gate_rounded[at] = F::cast_from(gate[at] * of_gate);
            up_rounded[at] = F::cast_from(up[at] * of_up);
        }
    }
}
