//! Rows of heads on their way to products and back: heads go before tokens, so that the query heads which share a key head
//! lie one after the other, and keys are never repeated.

use crate::ops::factor::Factor;
use crate::ops::gpu::matmul::power_for;
use crate::ops::gpu::reduce::max_of_units;
use crate::ops::gpu::{CubeTensor, UNITS, buffer, cube_per_row, cubes_for, empty, empty_of, tensor};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{FloatDType, Tensor};
use cubecl::ir::ElemType;
use cubecl::prelude::*;
use std::ops::Range;

/// Units for a row: heads are narrow.
const ROW_UNITS: u32 = 64;

/// Some tokens' rows of each head, rounded to a dtype as a left factor is.
///
/// # Shapes
/// - `from`: `[n, h, e]`, of any float dtype
/// - output: `[g, h/g tokens, e]`
pub fn factor(from: &CubeTensor, tokens: &Range<usize>, kv_heads: usize, dtype: FloatDType) -> Factor<3> {
    let is_scaled = dtype == FloatDType::F16;
    let (values, scales) = take(from, tokens, dtype, is_scaled);
    let [heads, len, e] = [from.meta.shape()[1], tokens.len(), from.meta.shape()[2]];
    let folded = [kv_heads, heads / kv_heads * len];
    let values = tensor::<3>(&values).reshape([folded[0], folded[1], e]);
    Factor::of(values, is_scaled.then(|| tensor::<3>(&scales).reshape([folded[0], folded[1], 1])))
}

/// The same cast to a dtype, whatever becomes of its largest and smallest: a right factor.
pub fn cast(from: &CubeTensor, tokens: &Range<usize>, kv_heads: usize, dtype: FloatDType) -> Tensor<3> {
    let [heads, len, e] = [from.meta.shape()[1], tokens.len(), from.meta.shape()[2]];
    let (values, _) = take(from, tokens, dtype, false);
    tensor::<3>(&values).reshape([kv_heads, heads / kv_heads * len, e])
}

fn take(from: &CubeTensor, tokens: &Range<usize>, dtype: FloatDType, is_scaled: bool) -> (CubeTensor, CubeTensor) {
    let [_, heads, e] = from.meta.shape().dims();
    let len = tokens.len();
    let values = empty_of(from, [heads, len, e], dtype.into());
    let scales = empty(from, if is_scaled { [heads, len, 1] } else { [1, 1, 1] });
    if values.meta.num_elements() > 0 {
        take_kernel::launch(
            &from.client,
            cube_per_row(from, heads * len),
            CubeDim::new_1d(ROW_UNITS),
            buffer(from),
            buffer(&values),
            buffer(&scales),
            tokens.start as u32,
            len as u32,
            heads as u32,
            e as u32,
            is_scaled,
            ROW_UNITS,
            dtype_to_storage_type(from.dtype),
            dtype_to_storage_type(values.dtype),
        );
    }
    (values, scales)
}

/// Puts rows back in their places, each times its factor where there are any.
///
/// # Shapes
/// - `part`: `[g, h/g tokens, e]`
/// - `factors`: as many as rows
/// - `to`: `[n, h, e]`, or with heads side by side
pub fn place(part: &CubeTensor, factors: Option<&CubeTensor>, to: &CubeTensor, tokens: &Range<usize>, heads: usize) {
    if part.meta.num_elements() == 0 {
        return;
    }
    let e = part.meta.shape()[2];
    place_kernel::launch(
        &to.client,
        cubes_for(part),
        CubeDim::new_1d(UNITS),
        buffer(part),
        buffer(factors.unwrap_or(part)),
        buffer(to),
        tokens.start as u32,
        tokens.len() as u32,
        heads as u32,
        e as u32,
        factors.is_some(),
    );
}

/// Adds `part`, `[g, keys, e]` or transposed `[g, e, keys]`, to some keys in `[t, g, e]`, each of its rows times its factor
/// where there are any.
pub fn add_to_keys(
    part: &CubeTensor,
    factors: Option<&CubeTensor>,
    to: &CubeTensor,
    keys: &Range<usize>,
    turned: bool,
) {
    let [_, g, e] = to.meta.shape().dims();
    add_to_keys_kernel::launch(
        &to.client,
        cubes_for(part),
        CubeDim::new_1d(UNITS),
        buffer(part),
        buffer(factors.unwrap_or(part)),
        buffer(to),
        keys.start as u32,
        keys.len() as u32,
        g as u32,
        e as u32,
        turned,
        factors.is_some(),
    );
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn take_kernel<I: Float, F: Float>(
    from: &[I],
    values: &mut [F],
    scales: &mut [f32],
    first: u32,
    len: u32,
    heads: u32,
    head_dim: u32,
    // Otherwise `scales` is not written.
    #[comptime] is_scaled: bool,
    #[comptime] units: u32,
    #[define(I)] _taken: ElemType,
    #[define(F)] _dtype: ElemType,
) {
    let (first, len, heads, e) = (first as usize, len as usize, heads as usize, head_dim as usize);
    let to = CUBE_POS * e;
    if to < values.len() {
        let start = ((first + CUBE_POS % len) * heads + CUBE_POS / len) * e;
        if is_scaled {
            let mut largest = 0.0f32;
            for i in range_stepped(UNIT_POS as usize, e, units as usize) {
                largest = max(largest, f32::cast_from(from[start + i]).abs());
            }
            let largest = max_of_units(largest, units);
            let (factor, inverse) = power_for(largest);
            for i in range_stepped(UNIT_POS as usize, e, units as usize) {
                values[to + i] = F::cast_from(f32::cast_from(from[start + i]) * factor);
            }
            if UNIT_POS == 0 {
                scales[CUBE_POS] = inverse;
            }
        } else {
            for i in range_stepped(UNIT_POS as usize, e, units as usize) {
                values[to + i] = F::cast_from(from[start + i]);
            }
        }
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn place_kernel(
    part: &[f32],
    factors: &[f32],
    to: &mut [f32],
    first: u32,
    len: u32,
    heads: u32,
    head_dim: u32,
    // Otherwise `factors` is not read.
    #[comptime] is_scaled: bool,
) {
    if ABSOLUTE_POS < part.len() {
        let (first, len, heads, e) = (first as usize, len as usize, heads as usize, head_dim as usize);
        let row = ABSOLUTE_POS / e;
        let mut value = part[ABSOLUTE_POS];
        if is_scaled {
            value *= factors[row];
        }
        to[((first + row % len) * heads + row / len) * e + ABSOLUTE_POS % e] = value;
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn add_to_keys_kernel(
    part: &[f32],
    factors: &[f32],
    to: &mut [f32],
    first_key: u32,
    keys: u32,
    groups: u32,
    head_dim: u32,
    #[comptime] is_transposed: bool,
    // Otherwise `factors` is not read.
    #[comptime] is_scaled: bool,
) {
    if ABSOLUTE_POS < part.len() {
        let (keys, groups, head_dim) = (keys as usize, groups as usize, head_dim as usize);
        let column = ABSOLUTE_POS % head_dim;
        let key = ABSOLUTE_POS / head_dim % keys;
        let group = ABSOLUTE_POS / (head_dim * keys);
        let mut from = ABSOLUTE_POS;
        let mut row = group * keys + key;
        if is_transposed {
            row = group * head_dim + column;
            from = row * keys + key;
        }
        let mut value = part[from];
        if is_scaled {
            value *= factors[row];
        }
        to[((first_key as usize + key) * groups + group) * head_dim + column] += value;
    }
}
