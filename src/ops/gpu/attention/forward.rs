//! The forward pass: a cube per tile of queries and head.

use super::tile::{HIDDEN, PITCH, TILE, add_weighted, column, products, row, sees, soft_cap, store};
use super::{Reach, Sizes, cubes, key_rows, query_rows};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::gpu::{CubeTensor, buffer};
use cubecl::prelude::*;

/// Computes `out` and `lse` from `q`, `k` and `v`.
pub fn launch(shape: &AttentionShape, reach: &Reach, [q, k, v, out, lse]: [&CubeTensor; 5]) {
    let (count, dim) = cubes(q.meta.shape()[0], shape);
    forward_kernel::launch(
        &q.client,
        count,
        dim,
        buffer(q),
        buffer(k),
        buffer(v),
        reach.of_queries(),
        reach.of_query_tiles(),
        buffer(out),
        buffer(lse),
        shape.scaling,
        shape.softcap.unwrap_or(1.0),
        Sizes::of(shape),
    );
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn forward_kernel(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    of_queries: &[u32],
    of_query_tiles: &[u32],
    out: &mut [f32],
    lse: &mut [f32],
    scaling: f32,
    cap: f32,
    #[comptime] sizes: Sizes,
) {
    let head_dim = sizes.head_dim;
    let q_rows = query_rows(q, CUBE_POS_X as usize * TILE, sizes);

    let mut a_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut b_tile = Shared::<[f32]>::new_slice(TILE * PITCH);
    let mut weights = Shared::<[f32]>::new_slice(TILE * PITCH);
    // Of this unit's two rows, the same in all units of the rows.
    let mut maxima = Array::<f32>::new(2usize);
    let mut sums = Array::<f32>::new(2usize);
    let mut acc = Array::<f32>::new(comptime!(4 * head_dim.div_ceil(TILE)));
    maxima[0] = HIDDEN;
    maxima[1] = HIDDEN;

    let first_key = of_query_tiles[2 * CUBE_POS_X as usize] as usize;
    let end_key = of_query_tiles[2 * CUBE_POS_X as usize + 1] as usize;
    for start in range_stepped(first_key, end_key, TILE) {
        let k_rows = key_rows(k, start, sizes);
        let mut scores = products(q, &q_rows, k, &k_rows, &mut a_tile, &mut b_tile, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let mut score = scores[2 * i + j] * scaling;
                if sizes.is_capped {
                    score = soft_cap(score, cap);
                }
                if !sees(of_queries, &q_rows, row(i), &k_rows, column(j)) {
                    score = HIDDEN;
                }
                scores[2 * i + j] = score;
                weights[row(i) * PITCH + column(j)] = score;
            }
        }
        sync_cube();
        let mut scales = Array::<f32>::new(2usize);
        #[unroll]
        for i in 0..2usize {
            let mut maximum = maxima[i];
            for at in 0..TILE {
                maximum = max(maximum, weights[row(i) * PITCH + at]);
            }
            scales[i] = (maxima[i] - maximum).exp();
            maxima[i] = maximum;
        }
        sync_cube();
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let mut weight = 0.0f32;
                if scores[2 * i + j] > HIDDEN {
                    weight = (scores[2 * i + j] - maxima[i]).exp();
                }
                weights[row(i) * PITCH + column(j)] = weight;
            }
        }
        sync_cube();
        #[unroll]
        for i in 0..2usize {
            let mut sum = sums[i] * scales[i];
            for at in 0..TILE {
                sum += weights[row(i) * PITCH + at];
            }
            sums[i] = sum;
            #[unroll]
            for c in 0..comptime!(head_dim.div_ceil(TILE)) {
                acc[4 * c + 2 * i] *= scales[i];
                acc[4 * c + 2 * i + 1] *= scales[i];
            }
        }
        add_weighted(&mut acc, &weights, v, &k_rows, &mut b_tile, head_dim);
    }

    #[unroll]
    for i in 0..2usize {
        // A query that sees nothing gets 0.
        let mut factor = 0.0f32;
        if sums[i] > 0.0 {
            factor = 1.0 / sums[i];
        }
        #[unroll]
        for c in 0..comptime!(head_dim.div_ceil(TILE)) {
            acc[4 * c + 2 * i] *= factor;
            acc[4 * c + 2 * i + 1] *= factor;
        }
        let query = q_rows.first + row(i);
        if UNIT_POS_X == 0 && query < q_rows.end && sums[i] > 0.0 {
            lse[query * sizes.heads + CUBE_POS_Y as usize] = maxima[i] + sums[i].ln();
        }
    }
    store(&acc, out, &q_rows, head_dim);
}
