//! Products whose factors are narrower than their sums.

use super::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, empty, empty_of, reduce, somewhere, tensor};
use burn::backend::Cube;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_cubecl::kernel::{cast, matmul};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// See [`crate::ops::fastest_factors`]; `None` on devices that have no others than f32.
pub fn fastest_factors(device: &Device) -> Option<FloatDType> {
    let beside = somewhere(device)?;
    let units = &beside.client.properties().features.matmul;
    let multiplies = |kind: FloatKind| {
        let (factor, sum) = (ElemType::Float(kind), ElemType::Float(FloatKind::F32));
        let mut units = units.cmma.iter().chain(&units.mma);
        units.any(|unit| (unit.a_type, unit.b_type, unit.cd_type) == (factor, factor, sum))
    };
    match (multiplies(FloatKind::BF16), multiplies(FloatKind::F16)) {
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
    let product = matmul::matmul(x?, w?, None, matmul::MatmulStrategy::default(), DType::F32);
    product.ok().map(|product| tensor(&product))
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
        // Biased exponents: f32's bias is 127. Below 2^-112 the inverse would be no normal number.
        let exponent = max(u32::reinterpret(largest) >> 23, 15u32);
        let factor = f32::reinterpret((268 - exponent) << 23);
        for i in range_stepped(UNIT_POS as usize, k, units as usize) {
            rounded[start + i] = F::cast_from(x[start + i] * factor);
        }
        if UNIT_POS == 0 {
            scales[CUBE_POS] = f32::reinterpret((exponent - 14) << 23);
        }
    }
}
