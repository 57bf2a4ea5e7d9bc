//! The backward pass: with `p = exp(s - lse)` and `ds = p (dout v^T - delta)`, `dq = scaling · ds k`,
//! `dk = scaling · ds^T q`, `dv = p^T dout`.

use super::tile::{PITCH, Rows, TILE, add_weighted, column, products, row, sees, soft_cap, store};
use super::{Reach, Sizes, cubes, key_rows, query_rows};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::gpu::{CubeTensor, buffer};
use cubecl::prelude::*;

/// Computes `dq` from `q`, `k`, `v`, `dout`, `lse` and `delta`: a cube per tile of queries and head.
pub fn launch_queries(shape: &AttentionShape, reach: &Reach, inputs: [&CubeTensor; 6], dq: &CubeTensor) {
    let (count, dim) = cubes(dq.meta.shape()[0], shape);
    let [q, k, v, dout, lse, delta] = inputs.map(buffer);
    queries_kernel::launch(
        &dq.client,
        count,
        dim,
        q,
        k,
        v,
        dout,
        lse,
        delta,
        reach.of_queries(),
        reach.of_query_tiles(),
        buffer(dq),
        shape.scaling,
        shape.softcap.unwrap_or(1.0),
        Sizes::of(shape),
    );
}

/// Computes `dk` and `dv` (`[t, h, e]`) from the same: a cube per tile of keys and query head.
pub fn launch_keys(shape: &AttentionShape, reach: &Reach, inputs: [&CubeTensor; 6], [dk, dv]: [&CubeTensor; 2]) {
    let (count, dim) = cubes(dk.meta.shape()[0], shape);
    let [q, k, v, dout, lse, delta] = inputs.map(buffer);
    keys_kernel::launch(
        &dk.client,
        count,
        dim,
        q,
        k,
        v,
        dout,
        lse,
        delta,
        reach.of_queries(),
        reach.of_key_tiles(),
        buffer(dk),
        buffer(dv),
        shape.scaling,
        shape.softcap.unwrap_or(1.0),
        Sizes::of(shape),
    );
}

/// The probability of a key, and the factor from the gradient of a probability (less its row's `delta`) to that of the
/// product `q k`.
#[cube]
fn probability(product: f32, lse: f32, scaling: f32, cap: f32, #[comptime] is_capped: bool) -> (f32, f32) {
    let mut score = product * scaling;
    let mut slope = scaling;
    if is_capped {
        score = soft_cap(score, cap);
        // The derivative of `c tanh(s / c)` is `1 - tanh²`.
        slope *= 1.0 - (score / cap) * (score / cap);
    }
    let p = (score - lse).exp();
    (p, p * slope)
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn queries_kernel(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    lse: &[f32],
    delta: &[f32],
    of_queries: &[u32],
    of_query_tiles: &[u32],
    dq: &mut [f32],
    scaling: f32,
    cap: f32,
    #[comptime] sizes: Sizes,
) {
    let head_dim = sizes.head_dim;
    let q_rows = query_rows(q, CUBE_POS_X as usize * TILE, sizes);

    let mut a_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut weights = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut acc = Array::<f32>::new(comptime!(4 * head_dim.div_ceil(TILE)));

    let first_key = of_query_tiles[2 * CUBE_POS_X as usize] as usize;
    let end_key = of_query_tiles[2 * CUBE_POS_X as usize + 1] as usize;
    for start in range_stepped(first_key, end_key, TILE) {
        let k_rows = key_rows(k, start, sizes);
        let scores = products(q, &q_rows, k, &k_rows, &mut a_tile, &mut b_tile, head_dim);
        let dp = products(dout, &q_rows, v, &k_rows, &mut a_tile, &mut b_tile, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let mut ds = 0.0f32;
                if sees(of_queries, &q_rows, row(i), &k_rows, column(j)) {
                    let at = (q_rows.first + row(i)) * sizes.heads + CUBE_POS_Y as usize;
                    let (_, slope) = probability(scores[2 * i + j], lse[at], scaling, cap, sizes.is_capped);
                    ds = slope * (dp[2 * i + j] - delta[at]);
                }
                weights[row(i) * PITCH + column(j)] = ds;
            }
        }
        add_weighted(&mut acc, &weights, k, &k_rows, &mut b_tile, head_dim);
    }
    store(&acc, dq, &q_rows, head_dim);
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn keys_kernel(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    lse: &[f32],
    delta: &[f32],
    of_queries: &[u32],
    of_key_tiles: &[u32],
    dk: &mut [f32],
    dv: &mut [f32],
    scaling: f32,
    cap: f32,
    #[comptime] sizes: Sizes,
) {
    let head_dim = sizes.head_dim;
    let k_rows = key_rows(k, CUBE_POS_X as usize * TILE, sizes);

    let mut a_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    // Transposed: a row per key, a column per query.
    let mut weights = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut dk_acc = Array::<f32>::new(comptime!(4 * head_dim.div_ceil(TILE)));
    let mut dv_acc = Array::<f32>::new(comptime!(4 * head_dim.div_ceil(TILE)));

    // Keys beyond the last that any query sees have no tile.
    let mut first_query = 0usize;
    let mut end_query = 0usize;
    if 2 * CUBE_POS_X as usize + 1 < of_key_tiles.len() {
        first_query = of_key_tiles[2 * CUBE_POS_X as usize] as usize;
        end_query = of_key_tiles[2 * CUBE_POS_X as usize + 1] as usize;
    }
    for start in range_stepped(first_query, end_query, TILE) {
        let q_rows = query_rows(q, start, sizes);
        let scores = products(k, &k_rows, q, &q_rows, &mut a_tile, &mut b_tile, head_dim);
        let dp = products(v, &k_rows, dout, &q_rows, &mut a_tile, &mut b_tile, head_dim);
        let mut ds = Array::<f32>::new(4usize);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let mut p = 0.0f32;
                if sees(of_queries, &q_rows, column(j), &k_rows, row(i)) {
                    let at = (q_rows.first + column(j)) * sizes.heads + CUBE_POS_Y as usize;
                    let (seen, slope) = probability(scores[2 * i + j], lse[at], scaling, cap, sizes.is_capped);
                    p = seen;
                    ds[2 * i + j] = slope * (dp[2 * i + j] - delta[at]);
                }
                weights[row(i) * PITCH + column(j)] = p;
            }
        }
        add_weighted(&mut dv_acc, &weights, dout, &q_rows, &mut b_tile, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                weights[row(i) * PITCH + column(j)] = ds[2 * i + j];
            }
        }
        add_weighted(&mut dk_acc, &weights, q, &q_rows, &mut b_tile, head_dim);
    }
    // A row per key, as wide as a row of queries.
    let beside = query_rows(q, k_rows.first, sizes);
    let out_rows = Rows { first: k_rows.first, end: k_rows.end, stride: beside.stride, offset: beside.offset };
    store(&dk_acc, dk, &out_rows, head_dim);
    store(&dv_acc, dv, &out_rows, head_dim);
}
