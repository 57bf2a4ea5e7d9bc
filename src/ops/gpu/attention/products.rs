//! Attention as products of matrices, with a softmax between them: for devices whose matrix units make products cheap.
//!
//! Queries are taken in tiles, each beside the run of keys that any of them sees, and the scores of one tile exist at a
//! time. The way back makes them again, as FlashAttention does.
//!
//! # Numerics
//! What is a gradient is always the left factor, whose rows [`Factor`] keeps from vanishing in f16; on the right are
//! queries, keys, values and weights, which are neither large nor small.

use super::reach::hull;
use super::tile::{HIDDEN, soft_cap};
use super::{Reach, delta, rows};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::factor::Factor;
use crate::ops::gpu::reduce::{max_of_units, sum_of_units};
use crate::ops::gpu::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, empty, empty_of, primitive, tensor};
use crate::ops::graph::finish;
use crate::ops::sizes::{GPU_QUERIES as MOST_QUERIES, GPU_SCORE_BYTES as SCORE_BYTES};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{FloatDType, Tensor};
use burn_cubecl::kernel::cast;
use cubecl::ir::ElemType;
use cubecl::prelude::*;
use std::ops::Range;

/// Queries that a tile has in any case.
const FEWEST_QUERIES: usize = 32;

/// Keys of a tile begin and end at a multiple of this, so that rows of scores are aligned.
const ALIGNMENT: usize = 16;

/// Queries that are handled together, and the keys that any of them sees.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tile {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// The tiles of queries that see these runs of `keys` keys, under so many heads.
fn tiles(runs: &[Range<usize>], keys: usize, heads: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut start = 0;
    while start < runs.len() {
        let mut len = MOST_QUERIES.min(runs.len() - start);
        let tile = loop {
            let seen = hull(runs[start..start + len].iter().filter(|run| !run.is_empty()).cloned());
            let aligned = seen.start / ALIGNMENT * ALIGNMENT..seen.end.next_multiple_of(ALIGNMENT).min(keys);
            if len <= FEWEST_QUERIES || 4 * heads * len * aligned.len() <= SCORE_BYTES {
                break Tile { queries: start..start + len, keys: aligned };
            }
            len = (len / 2).max(FEWEST_QUERIES);
        };
        start = tile.queries.end;
        tiles.push(tile);
    }
    tiles
}

/// See [`crate::ops::attention()`].
pub fn attention([q, k, v]: [Gpu; 3], shape: &AttentionShape, reach: Reach) -> Tensor<2> {
    let [n, t] = [&q, &k].map(|rows| rows.primitive().meta.shape()[0]);
    let rounded = |rows: &Gpu| rows::cast(rows.primitive(), &(0..t), shape.kv_heads, shape.compute_dtype);
    let (k_rounded, v_rounded) = (rounded(&k), rounded(&v));
    let inputs = Inputs { shape, reach: &reach, q: q.keep(), k: &k_rounded, v: &v_rounded };
    let tiles = tiles(&reach.runs()[..n], t, shape.heads);
    let out = inputs.beside_queries(&tiles);
    let lse = tiles.iter().map(|tile| inputs.forward(tile, &out)).collect();
    let out = primitive(tensor::<3>(&out).reshape([n, shape.heads * shape.head_dim]));
    if ![&q, &k, &v].iter().any(|rows| rows.is_tracked()) {
        return tensor(&out);
    }
    // Cast, as keys and values are: none of them is large or small.
    let [q_kept, out_kept] = [q.primitive(), &out].map(|rows| cast(rows.clone(), shape.compute_dtype.into()));
    let state = State { shape: *shape, reach, tiles, lse, q: q_kept, k: k_rounded, v: v_rounded, out: out_kept };
    finish([q, k, v], out, state, State::backward)
}

#[derive(Debug, Clone)]
struct State {
    shape: AttentionShape,
    reach: Reach,
    tiles: Vec<Tile>,
    /// The logarithms of the sums of each tile's exponentials, `[h, queries]`.
    lse: Vec<CubeTensor>,
    /// Rounded, `[n, h, e]`.
    q: CubeTensor,
    /// Rounded, `[g, t, e]`.
    k: Tensor<3>,
    v: Tensor<3>,
    /// Rounded, `[n, h e]`.
    out: CubeTensor,
}

impl State {
    fn backward(self, dout: CubeTensor, wanted: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let State { shape, reach, tiles, lse, q, k, v, out } = self;
        let delta = delta(&dout, &out, &shape);
        let [g, t, e] = k.dims();
        let [dk, dv] = [(); 2].map(|()| primitive(Tensor::<3>::zeros([t, g, e], &k.device())));
        let dout = primitive(tensor::<2>(&dout).reshape(tensor::<3>(&q).dims()));
        let inputs = Inputs { shape: &shape, reach: &reach, q, k: &k, v: &v };
        let dq = inputs.beside_queries(&tiles);
        for (tile, lse) in tiles.iter().zip(&lse) {
            inputs.backward(tile, lse, &delta, &dout, [&dq, &dk, &dv]);
        }
        let mut wanted = wanted.into_iter();
        [dq, dk, dv].map(|gradient| wanted.next()?.then_some(gradient))
    }
}

/// What tiles are taken from.
struct Inputs<'a> {
    shape: &'a AttentionShape,
    reach: &'a Reach,
    /// `[n, h, e]`, of any float dtype.
    q: CubeTensor,
    /// Rounded, `[g, t, e]`.
    k: &'a Tensor<3>,
    v: &'a Tensor<3>,
}

impl Inputs<'_> {
    /// Room for a row beside each query, `[n, h, e]`; zeros where a tile sees nothing and writes nothing.
    fn beside_queries(&self, tiles: &[Tile]) -> CubeTensor {
        let dims = self.q.meta.shape().dims::<3>();
        match tiles.iter().all(|tile| !tile.keys.is_empty()) {
            true => empty(&self.q, dims),
            false => primitive(Tensor::<3>::zeros(dims, &tensor::<3>(&self.q).device())),
        }
    }

    /// Writes the rows of the output; returns the logarithms of the sums.
    fn forward(&self, tile: &Tile, out: &CubeTensor) -> CubeTensor {
        let rows = self.shape.heads * tile.queries.len();
        if tile.keys.is_empty() {
            return primitive(Tensor::<1>::zeros([rows], &tensor::<3>(&self.q).device()));
        }
        let (scores, scales) = self.scores(&self.queries(tile), tile);
        let weights = empty_of(&scores, scores.meta.shape().clone(), self.shape.compute_dtype.into());
        let [lse, inverse] = [(); 2].map(|()| empty(&scores, [rows]));
        softmax_kernel::launch(
            &scores.client,
            cube_per_row(&scores, rows),
            CubeDim::new_1d(UNITS),
            buffer(&scores),
            buffer(scales.as_ref().unwrap_or(&scores)),
            self.reach.of_queries(),
            buffer(&weights),
            buffer(&lse),
            buffer(&inverse),
            Place::of(tile),
            self.shape.scaling,
            self.shape.softcap.unwrap_or(1.0),
            scales.is_some(),
            self.shape.softcap.is_some(),
            UNITS,
            dtype_to_storage_type(weights.dtype),
        );
        let mixed = Factor::as_is(tensor(&weights)).times_unscaled(self.keys(self.v, tile));
        rows::place(&primitive(mixed), Some(&inverse), out, &tile.queries, self.shape.heads);
        lse
    }

    /// Writes the rows of `dq`; adds to `dk` and `dv`.
    fn backward(
        &self,
        tile: &Tile,
        lse: &CubeTensor,
        delta: &CubeTensor,
        dout: &CubeTensor,
        [dq, dk, dv]: [&CubeTensor; 3],
    ) {
        let &AttentionShape { heads, kv_heads, compute_dtype, .. } = self.shape;
        if tile.keys.is_empty() {
            return;
        }
        let q = self.queries(tile);
        let (scores, scales) = self.scores(&q, tile);
        let [dout, dout_turned] = self.both_ways(dout, tile);
        let d_weights = primitive(dout.times_unscaled(self.keys(self.v, tile).swap_dims(1, 2)));
        let d_scales = dout.scales().map(primitive);
        let weights = empty_of(&scores, scores.meta.shape().clone(), compute_dtype.into());
        scores_gradient_kernel::launch(
            &scores.client,
            cube_per_row(&scores, heads * tile.queries.len()),
            CubeDim::new_1d(UNITS),
            buffer(&scores),
            buffer(scales.as_ref().unwrap_or(&scores)),
            self.reach.of_queries(),
            buffer(lse),
            buffer(delta),
            buffer(d_scales.as_ref().unwrap_or(&scores)),
            buffer(&weights),
            buffer(&d_weights),
            Place::of(tile),
            heads as u32,
            self.shape.scaling,
            self.shape.softcap.unwrap_or(1.0),
            scales.is_some(),
            self.shape.softcap.is_some(),
            UNITS,
            dtype_to_storage_type(weights.dtype),
        );
        // What were gradients of weights are gradients of `q k` now.
        let [d_scores, d_scores_turned] = Factor::both_ways(&tensor::<3>(&d_weights), compute_dtype);
        let q = if scales.is_some() { rows::cast(&self.q, &tile.queries, kv_heads, compute_dtype) } else { q.values() };
        let add = |factor: Factor<3>, to_right: Tensor<3>, to: &CubeTensor, turned: bool| {
            let part = primitive(factor.times_unscaled(to_right));
            rows::add_to_keys(&part, factor.scales().map(primitive).as_ref(), to, &tile.keys, turned);
        };
        add(d_scores_turned, q, dk, false);
        add(dout_turned, tensor(&weights), dv, true);
        let part = primitive(d_scores.times_unscaled(self.keys(self.k, tile)));
        rows::place(&part, d_scores.scales().map(primitive).as_ref(), dq, &tile.queries, heads);
    }

    /// The tile's queries as a left factor.
    fn queries(&self, tile: &Tile) -> Factor<3> {
        rows::factor(&self.q, &tile.queries, self.shape.kv_heads, self.shape.compute_dtype)
    }

    /// The tile's rows of what lies as queries do, as a left factor, and its transpose as another.
    fn both_ways(&self, from: &CubeTensor, tile: &Tile) -> [Factor<3>; 2] {
        let &AttentionShape { kv_heads, compute_dtype, .. } = self.shape;
        if compute_dtype == FloatDType::F16 {
            let rows = rows::cast(from, &tile.queries, kv_heads, FloatDType::F32);
            return Factor::both_ways(&rows, compute_dtype);
        }
        let rows = rows::cast(from, &tile.queries, kv_heads, compute_dtype);
        [Factor::as_is(rows.clone()), Factor::as_is(rows.swap_dims(1, 2))]
    }

    /// The tile's rows of keys or values, `[g, keys, e]`.
    fn keys(&self, rows: &Tensor<3>, tile: &Tile) -> Tensor<3> {
        rows.clone().narrow(1, tile.keys.start, tile.keys.len())
    }

    /// `q k`, `[g, h/g queries, keys]`, and what its rows are yet to be multiplied by.
    fn scores(&self, queries: &Factor<3>, tile: &Tile) -> (CubeTensor, Option<CubeTensor>) {
        let scores = queries.times_unscaled(self.keys(self.k, tile).swap_dims(1, 2));
        (primitive(scores), queries.scales().map(primitive))
    }
}

/// Where a tile of scores, `[h, queries, keys]`, lies among all.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Place {
    first_query: u32,
    queries: u32,
    first_key: u32,
    keys: u32,
}

impl Place {
    fn of(tile: &Tile) -> PlaceLaunch {
        let [first_query, queries] = [tile.queries.start, tile.queries.len()].map(|n| n as u32);
        let [first_key, keys] = [tile.keys.start, tile.keys.len()].map(|n| n as u32);
        PlaceLaunch::new(first_query, queries, first_key, keys)
    }
}

/// The query of this cube's row.
#[cube]
fn query_of(place: &Place) -> usize {
    place.first_query as usize + CUBE_POS % place.queries as usize
}

/// The keys that a query sees, counted from the tile's first.
#[cube]
fn seen_by(query: usize, of_queries: &[u32], place: &Place) -> (usize, usize) {
    let mut first = 0usize;
    let mut end = 0usize;
    if of_queries[2 * query] < of_queries[2 * query + 1] {
        first = (of_queries[2 * query] - place.first_key) as usize;
        end = (of_queries[2 * query + 1] - place.first_key) as usize;
    }
    (first, end)
}

#[cube]
fn bent(score: f32, cap: f32, #[comptime] is_capped: bool) -> f32 {
    if is_capped { soft_cap(score, cap) } else { score }
}

/// What a row's products are multiplied by to be its scores.
#[cube]
fn factor_of(scales: &[f32], scaling: f32, #[comptime] is_scaled: bool) -> f32 {
    let mut factor = scaling;
    if is_scaled {
        factor *= scales[CUBE_POS];
    }
    factor
}

/// The exponentials of each row's scores less their maximum, the inverse of their sum, and what their logarithms are
/// less: a cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn softmax_kernel<F: Float>(
    scores: &[f32],
    scales: &[f32],
    of_queries: &[u32],
    weights: &mut [F],
    lse: &mut [f32],
    inverse: &mut [f32],
    place: Place,
    scaling: f32,
    cap: f32,
    // Otherwise `scales` is not read.
    #[comptime] is_scaled: bool,
    #[comptime] is_capped: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let keys = place.keys as usize;
    let start = CUBE_POS * keys;
    if start < scores.len() {
        let (first, end) = seen_by(query_of(&place), of_queries, &place);
        let factor = factor_of(scales, scaling, is_scaled);
        let mut maximum = HIDDEN.runtime();
        for key in range_stepped(first + UNIT_POS as usize, end, units as usize) {
            maximum = max(maximum, bent(scores[start + key] * factor, cap, is_capped));
        }
        let maximum = max_of_units(maximum, units);
        let mut sum = 0.0f32;
        for key in range_stepped(UNIT_POS as usize, keys, units as usize) {
            let mut weight = 0.0f32;
            if key >= first && key < end {
                weight = (bent(scores[start + key] * factor, cap, is_capped) - maximum).exp();
            }
            sum += weight;
            weights[start + key] = F::cast_from(weight);
        }
        let sum = sum_of_units(sum, units);
        if UNIT_POS == 0 {
            // A query that sees nothing gets 0.
            let mut logarithm = 0.0f32;
            let mut one_over = 0.0f32;
            if sum > 0.0 {
                logarithm = maximum + sum.ln();
                one_over = 1.0 / sum;
            }
            lse[CUBE_POS] = logarithm;
            inverse[CUBE_POS] = one_over;
        }
    }
}

/// The probabilities `p = exp(s - lse)`, and from their gradient that of the products `q k`, `scaling p (dp - delta)`, in
/// its place: a cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn scores_gradient_kernel<F: Float>(
    scores: &[f32],
    scales: &[f32],
    of_queries: &[u32],
    lse: &[f32],
    delta: &[f32],
    d_scales: &[f32],
    weights: &mut [F],
    gradient: &mut [f32],
    place: Place,
    heads: u32,
    scaling: f32,
    cap: f32,
    // Otherwise `scales` and `d_scales` are not read.
    #[comptime] is_scaled: bool,
    #[comptime] is_capped: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let keys = place.keys as usize;
    let start = CUBE_POS * keys;
    if start < scores.len() {
        let query = query_of(&place);
        let (first, end) = seen_by(query, of_queries, &place);
        let head = CUBE_POS / place.queries as usize;
        let along = delta[query * heads as usize + head];
        let factor = factor_of(scales, scaling, is_scaled);
        let d_factor = factor_of(d_scales, 1.0f32, is_scaled);
        for key in range_stepped(UNIT_POS as usize, keys, units as usize) {
            let mut p = 0.0f32;
            let mut ds = 0.0f32;
            if key >= first && key < end {
                let score = bent(scores[start + key] * factor, cap, is_capped);
                p = (score - lse[CUBE_POS]).exp();
                ds = scaling * p * (gradient[start + key] * d_factor - along);
                if is_capped {
                    // The derivative of `c tanh(s / c)` is `1 - tanh²`.
                    ds *= 1.0 - (score / cap) * (score / cap);
                }
            }
            weights[start + key] = F::cast_from(p);
            gradient[start + key] = ds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_hold_what_their_queries_see_and_few_scores() {
        let runs: Vec<Range<usize>> = (0..1000).map(|query: usize| query.saturating_sub(99)..query + 1).collect();
        let tiles = tiles(&runs, 1000, 1);
        assert_eq!((tiles[0].queries.start, tiles[tiles.len() - 1].queries.end), (0, 1000));
        for (tile, next) in tiles.iter().zip(&tiles[1..]) {
            assert_eq!(tile.queries.end, next.queries.start);
        }
        for Tile { queries, keys } in tiles {
            assert!(queries.len() == FEWEST_QUERIES || 4 * queries.len() * keys.len() <= SCORE_BYTES);
            assert!(
                keys.start <= runs[queries.start].start && keys.end >= runs[queries.end - 1].end && keys.end <= 1000
            );
            assert!(keys.len() < queries.len() + 99 + 2 * ALIGNMENT);
        }
        assert_eq!(super::tiles(&[3..3, 0..0], 5, 1), [Tile { queries: 0..2, keys: 0..0 }]);
        assert!(super::tiles(&[], 5, 1).is_empty());
    }
}
