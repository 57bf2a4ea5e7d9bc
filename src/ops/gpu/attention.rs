//! Attention over packed segments: tiles of scores that never leave shared memory, or with narrow factors [`products`]
//! of matrices.
//!
//! As on the CPU the method is FlashAttention's. A cube takes [`TILE`] queries of one head (for the gradients of keys
//! and values: [`TILE`] keys) and walks over the tiles of the other side that they see. The gradients of keys and
//! values are made for each query head and then summed over the heads that share a key head, so that no two cubes write
//! to the same place.
//!
//! # Source
//! Dao 2023 (FlashAttention-2), algorithms 1 and 2.

mod backward;
mod forward;
mod products;
mod reach;
mod rows;
mod tile;

pub use reach::Reach;

use super::reduce::sum_of_units;
use super::{CubeTensor, Gpu, buffer, cube_per_row, empty, primitive, tensor};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::graph::finish;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{FloatDType, Tensor};
use cubecl::ir::ElemType;
use cubecl::prelude::*;
use tile::{MOST_COLUMNS, Rows, SIDE, TILE};

/// See [`crate::ops::attention`]; `None` for heads that are too wide for the registers, and for nothing at all.
pub fn attention(
    q: &Tensor<3>,
    k: &Tensor<3>,
    v: &Tensor<3>,
    shape: &AttentionShape,
    reach: impl FnOnce(&CubeTensor) -> Reach,
) -> Option<Tensor<2>> {
    if shape.compute_dtype != FloatDType::F32 {
        return by_products(q, k, v, shape, reach);
    }
    if shape.head_dim > MOST_COLUMNS {
        return None;
    }
    let ([q, k, v], reach) = open(q, k, v, reach)?;
    let [q_values, k_values, v_values] = [&q, &k, &v].map(Gpu::keep);
    let n = q_values.meta.shape()[0];
    let out = empty(&q_values, [n, shape.heads * shape.head_dim]);
    let lse = empty(&q_values, [n, shape.heads]);
    forward::launch(shape, &reach, [&q_values, &k_values, &v_values, &out, &lse]);
    let state = State { shape: *shape, reach, q: q_values, k: k_values, v: v_values, out: out.clone(), lse };
    Some(finish([q, k, v], out, state, State::backward))
}

/// The same by products of matrices; `None` for nothing at all.
pub fn by_products(
    q: &Tensor<3>,
    k: &Tensor<3>,
    v: &Tensor<3>,
    shape: &AttentionShape,
    reach: impl FnOnce(&CubeTensor) -> Reach,
) -> Option<Tensor<2>> {
    let (inputs, reach) = open(q, k, v, reach)?;
    Some(products::attention(inputs, shape, reach))
}

/// The inputs and the mask beside them; `None` for nothing at all.
fn open(
    q: &Tensor<3>,
    k: &Tensor<3>,
    v: &Tensor<3>,
    reach: impl FnOnce(&CubeTensor) -> Reach,
) -> Option<([Gpu; 3], Reach)> {
    if q.dims()[0] == 0 || k.dims()[0] == 0 {
        return None;
    }
    let (q, k, v) = (Gpu::open(q)?, Gpu::open(k)?, Gpu::open(v)?);
    let reach = reach(q.primitive());
    Some(([q, k, v], reach))
}

#[derive(Debug, Clone)]
struct State {
    shape: AttentionShape,
    reach: Reach,
    q: CubeTensor,
    k: CubeTensor,
    v: CubeTensor,
    out: CubeTensor,
    /// The logarithm of the sum of each row's exponentials, `[n, h]`.
    lse: CubeTensor,
}

impl State {
    fn backward(self, dout: CubeTensor, [dq_wanted, dk_wanted, dv_wanted]: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let State { shape, reach, q, k, v, out, lse } = self;
        let delta = self::delta(&dout, &out, &shape);
        let inputs = [&q, &k, &v, &dout, &lse, &delta];
        let dq = dq_wanted.then(|| {
            let dq = empty(&q, q.meta.shape().clone());
            backward::launch_queries(&shape, &reach, inputs, &dq);
            dq
        });
        if !dk_wanted && !dv_wanted {
            return [dq, None, None];
        }
        let t = k.meta.shape()[0];
        let by_query_head = || empty(&k, [t, shape.heads, shape.head_dim]);
        let (dk, dv) = (by_query_head(), by_query_head());
        backward::launch_keys(&shape, &reach, inputs, [&dk, &dv]);
        [dq, dk_wanted.then(|| over_shared_heads(dk, &shape)), dv_wanted.then(|| over_shared_heads(dv, &shape))]
    }
}

/// `Σ dout · out` of each query and head, `[n, h]`; `out` may be of any float dtype.
fn delta(dout: &CubeTensor, out: &CubeTensor, shape: &AttentionShape) -> CubeTensor {
    let delta = empty(dout, [out.meta.shape()[0], shape.heads]);
    let rows = delta.meta.num_elements();
    delta_kernel::launch(
        &dout.client,
        cube_per_row(dout, rows),
        CubeDim::new_1d(DELTA_UNITS),
        buffer(dout),
        buffer(out),
        buffer(&delta),
        shape.head_dim as u32,
        DELTA_UNITS,
        dtype_to_storage_type(out.dtype),
    );
    delta
}

/// Units for the row of a head.
const DELTA_UNITS: u32 = 64;

/// A cube per query and head.
#[cube(launch)]
fn delta_kernel<F: Float>(
    dout: &[f32],
    out: &[F],
    delta: &mut [f32],
    head_dim: u32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let e = head_dim as usize;
    let start = CUBE_POS * e;
    if start < dout.len() {
        let mut sum = 0.0f32;
        for i in range_stepped(UNIT_POS as usize, e, units as usize) {
            sum += dout[start + i] * f32::cast_from(out[start + i]);
        }
        let sum = sum_of_units(sum, units);
        if UNIT_POS == 0 {
            delta[CUBE_POS] = sum;
        }
    }
}

/// Sums over the query heads that share a key head.
fn over_shared_heads(by_query_head: CubeTensor, shape: &AttentionShape) -> CubeTensor {
    let &AttentionShape { heads, kv_heads, head_dim, .. } = shape;
    if heads == kv_heads {
        return by_query_head;
    }
    let by_query_head: Tensor<3> = tensor(&by_query_head);
    let t = by_query_head.dims()[0];
    let sum = by_query_head.reshape([t, kv_heads, heads / kv_heads, head_dim]).sum_dim(2);
    primitive(sum.reshape([t, kv_heads, head_dim]))
}

/// What kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sizes {
    heads: usize,
    /// Query heads per key head.
    fold: usize,
    head_dim: usize,
    is_capped: bool,
}

impl Sizes {
    fn of(shape: &AttentionShape) -> Self {
        let &AttentionShape { heads, kv_heads, head_dim, softcap, .. } = shape;
        Sizes { heads, fold: heads / kv_heads, head_dim, is_capped: softcap.is_some() }
    }
}

/// The queries of this cube's head from `first` on.
#[cube]
fn query_rows(q: &[f32], first: usize, #[comptime] sizes: Sizes) -> Rows {
    let stride = sizes.heads * sizes.head_dim;
    Rows { first, end: q.len() / stride, stride: stride.runtime(), offset: CUBE_POS_Y as usize * sizes.head_dim }
}

/// The keys, or values, of this cube's head from `first` on.
#[cube]
fn key_rows(k: &[f32], first: usize, #[comptime] sizes: Sizes) -> Rows {
    let stride = sizes.heads / sizes.fold * sizes.head_dim;
    Rows {
        first,
        end: k.len() / stride,
        stride: stride.runtime(),
        offset: CUBE_POS_Y as usize / sizes.fold * sizes.head_dim,
    }
}

/// One cube per tile of rows and query head.
fn cubes(rows: usize, shape: &AttentionShape) -> (CubeCount, CubeDim) {
    let count = CubeCount::new_2d(rows.div_ceil(TILE) as u32, shape.heads as u32);
    (count, CubeDim::new_2d(SIDE as u32, SIDE as u32))
}
