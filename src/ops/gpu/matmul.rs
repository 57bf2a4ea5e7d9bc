//! Products whose factors are narrower than their sums.

use super::product::{has_units_for, multiply};
use super::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, empty, empty_of, reduce, somewhere, tensor};
use burn::backend::Cube;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_cubecl::kernel::cast;
use cubecl::prelude::*;

/// See [`crate::ops::fastest_factors`]; `None` on devices that have no others than f32.
pub fn fastest_factors(device: &Device) -> Option<FloatDType> {
    let client = somewhere(device)?.client;
    let multiplies = |dtype: DType| has_units_for(&client, dtype);
    match (multiplies(DType::BF16), multiplies(DType::F16)) {
        (true, _) if device.supports_dtype(FloatDType::BF16) => Some(FloatDType::BF16),
        (_, true) if device.supports_dtype(FloatDType::F16) => Some(FloatDType::F16),
        _ => None,
    }
}

/// Rows rounded to bf16, or scaled and rounded to f16, and what their products are to be multiplied by; `None` on
/// devices that cannot.
///
/// # Shapes
/// - `x`: `[.., n, k]`
/// - output: `[.., n, k]` and `[.., n, 1]`
pub fn round_rows<const D: usize>(x: &Tensor<D>, dtype: FloatDType) -> Option<(Tensor<D>, Option<Tensor<D>>)> {
    let x = Gpu::open(x)?;
    let x = x.primitive();
    match dtype {
        FloatDType::BF16 => Some((tensor(&cast(x.clone(), DType::BF16)), None)),
        FloatDType::F16 => {
            let mut rows = x.meta.shape().clone();
            rows[D - 1] = 1;
            let (scales, rounded) = (empty(x, rows), empty_of(x, x.meta.shape().clone(), DType::F16));
            if x.meta.num_elements() > 0 {
                scale_rows(x, &scales, &rounded);
            }
            Some((tensor(&rounded), Some(tensor(&scales))))
        }
        _ => None,
    }
}

/// Columns scaled and rounded to f16, and what products with the transpose are to be multiplied by; `None` on devices that
/// cannot.
///
/// # Shapes
/// - `x`: `[.., n, k]`
/// - output: `[.., n, k]` and `[.., k, 1]`
pub fn round_columns<const D: usize>(x: &Tensor<D>) -> Option<(Tensor<D>, Tensor<D>)> {
    let x = Gpu::open(x)?;
    let x = x.primitive();
    let mut columns = x.meta.shape().clone();
    let (n, k) = (columns[D - 2], columns[D - 1]);
    (columns[D - 2], columns[D - 1]) = (k, 1);
    let (scales, rounded) = (empty(x, columns), empty_of(x, x.meta.shape().clone(), DType::F16));
    if x.meta.num_elements() > 0 {
        let batches = x.meta.num_elements() / (n * k);
        scale_columns_kernel::launch::<half::f16>(
            &x.client,
            CubeCount::new_2d(k.div_ceil(ACROSS) as u32, batches as u32),
            CubeDim::new_2d(ACROSS as u32, DOWN as u32),
            buffer(x),
            buffer(&scales),
            buffer(&rounded),
            n as u32,
            k as u32,
        );
    }
    Some((tensor(&rounded), tensor(&scales)))
}

/// `x w` in f32 of narrower factors; `None` on devices that cannot.
///
/// # Shapes
/// - `x`: `[.., n, k]`
/// - `w`: `[.., k, out]`, of the same dtype
/// - output: `[.., n, out]`
pub fn product_in_f32<const D: usize>(x: &Tensor<D>, w: &Tensor<D>) -> Option<Tensor<D>> {
    if x.dtype() != w.dtype() {
        return None;
    }
    let [x, w] = [x, w].map(|factor| factor.clone().try_into_primitive::<Cube>().ok());
    Some(tensor(&multiply(&x?, &w?)))
}

fn scale_rows(x: &CubeTensor, scales: &CubeTensor, rounded: &CubeTensor) {
    let (rows, elements) = (scales.meta.num_elements(), x.meta.num_elements());
    scale_rows_kernel::launch::<half::f16>(
        &x.client,
        cube_per_row(x, rows),
        CubeDim::new_1d(UNITS),
        buffer(x),
        buffer(scales),
        buffer(rounded),
        (elements / rows) as u32,
        UNITS,
    );
}

/// Columns of a cube that scales columns, and units that share each.
const ACROSS: usize = 32;
const DOWN: usize = 8;

/// The power of two that brings a largest value to `[2^14, 2^15)`, which is exact, and its inverse.
#[cube]
pub fn power_for(largest: f32) -> (f32, f32) {
    // Biased exponents: f32's bias is 127. Below 2^-112 the inverse would be no normal number.
    let exponent = max(u32::reinterpret(largest) >> 23, 15u32);
    (f32::reinterpret((268 - exponent) << 23), f32::reinterpret((exponent - 14) << 23))
}

/// As [`scale_rows_kernel`], of columns: a cube for some columns of one matrix.
#[cube(launch)]
fn scale_columns_kernel<F: Float>(x: &[f32], scales: &mut [f32], rounded: &mut [F], n: u32, k: u32) {
    let (n, k) = (n as usize, k as usize);
    let column = CUBE_POS_X as usize * ACROSS + UNIT_POS_X as usize;
    let batch = CUBE_POS_Y as usize;
    let start = batch * n * k + column;
    let mut largest = 0.0f32;
    if column < k {
        for row in range_stepped(UNIT_POS_Y as usize, n, DOWN) {
            largest = max(largest, x[start + row * k].abs());
        }
    }
    let mut of_units = Shared::<[f32]>::new_slice(ACROSS * DOWN);
    of_units[UNIT_POS as usize] = largest;
    sync_cube();
    for unit in 0..DOWN {
        largest = max(largest, of_units[unit * ACROSS + UNIT_POS_X as usize]);
    }
    let (factor, inverse) = power_for(largest);
    if column < k {
        for row in range_stepped(UNIT_POS_Y as usize, n, DOWN) {
            rounded[start + row * k] = F::cast_from(x[start + row * k] * factor);
        }
        if UNIT_POS_Y == 0 {
            scales[batch * k + column] = inverse;
        }
    }
}

/// Brings the largest value of each row to `[2^14, 2^15)` by a power of two, which is exact, and keeps its inverse.
#[cube(launch)]
fn scale_rows_kernel<F: Float>(x: &[f32], scales: &mut [f32], rounded: &mut [F], k: u32, #[comptime] units: u32) {
    let k = k as usize;
    let start = CUBE_POS * k;
    if start < x.len() {
        let mut largest = 0.0f32;
        for i in range_stepped(UNIT_POS as usize, k, units as usize) {
            largest = max(largest, x[start + i].abs());
        }
        let largest = reduce::max_of_units(largest, units);
        let (factor, inverse) = power_for(largest);
        for i in range_stepped(UNIT_POS as usize, k, units as usize) {
            rounded[start + i] = F::cast_from(x[start + i] * factor);
        }
        if UNIT_POS == 0 {
            scales[CUBE_POS] = inverse;
        }
    }
}
