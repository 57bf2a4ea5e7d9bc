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
use super::{Reach, delta};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::factor::Factor;
use crate::ops::gpu::reduce::{max_of_units, sum_of_units};
use crate::ops::gpu::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, cubes_for, empty, empty_of, primitive, tensor};
use crate::ops::graph::finish;
use crate::ops::sizes::{GPU_QUERIES as MOST_QUERIES, GPU_SCORE_BYTES as SCORE_BYTES};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
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
    let inputs = Inputs::new(shape, &reach, [&q, &k, &v].map(Gpu::keep));
    let tiles = tiles(&reach.runs()[..n], t, shape.heads);
    let (parts, lse) = tiles.iter().map(|tile| inputs.forward(tile)).unzip::<_, _, Vec<_>, Vec<_>>();
    let out = primitive(Tensor::cat(parts, 0));
    let state = State { shape: *shape, reach, tiles, lse, inputs: [&q, &k, &v].map(Gpu::keep), out: out.clone() };
    finish([q, k, v], out, state, State::backward)
}

#[derive(Debug, Clone)]
struct State {
    shape: AttentionShape,
    reach: Reach,
    tiles: Vec<Tile>,
    /// The logarithms of the sums of each tile's exponentials, `[h, queries]`.
    lse: Vec<CubeTensor>,
    /// `q`, `k`, `v`.
    inputs: [CubeTensor; 3],
    out: CubeTensor,
}

impl State {
    fn backward(self, dout: CubeTensor, wanted: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let State { shape, reach, tiles, lse, inputs: [q, k, v], out } = self;
        let delta = delta(&dout, &out, &shape);
        let [dk, dv] =
            [&k, &v].map(|like| primitive(Tensor::<3>::zeros(tensor::<3>(like).dims(), &tensor::<3>(like).device())));
        let dout = tensor::<2>(&dout).reshape(tensor::<3>(&q).dims());
        let inputs = Inputs::new(&shape, &reach, [q, k, v]);
        let parts = tiles.iter().zip(&lse).map(|(tile, lse)| inputs.backward(tile, lse, &delta, &dout, [&dk, &dv]));
        let dq = primitive(Tensor::cat(parts.collect(), 0));
        let mut wanted = wanted.into_iter();
        [dq, dk, dv].map(|gradient| wanted.next()?.then_some(gradient))
    }
}

/// What tiles are taken from. Heads are folded: the query heads that share a key head lie one after the other, so that
/// keys are never repeated.
struct Inputs<'a> {
    shape: &'a AttentionShape,
    reach: &'a Reach,
    /// `scaling q`, f32, `[n, h, e]`.
    q: Tensor<3>,
    /// Rounded, `[g, t, e]`.
    k: Tensor<3>,
    v: Tensor<3>,
}

impl<'a> Inputs<'a> {
    fn new(shape: &'a AttentionShape, reach: &'a Reach, [q, k, v]: [CubeTensor; 3]) -> Self {
        let rounded = |rows: CubeTensor| {
            let heads_first = tensor::<3>(&rows).cast(shape.compute_dtype).swap_dims(0, 1);
            tensor(&primitive(heads_first))
        };
        Inputs { shape, reach, q: tensor::<3>(&q).mul_scalar(shape.scaling), k: rounded(k), v: rounded(v) }
    }

    /// The rows of the output, `[queries, h e]`, and the logarithms of the sums.
    fn forward(&self, tile: &Tile) -> (Tensor<2>, CubeTensor) {
        let (rows, len) = (self.shape.heads * tile.queries.len(), tile.queries.len());
        if tile.keys.is_empty() {
            let nothing = Tensor::zeros([len, self.shape.heads * self.shape.head_dim], &self.q.device());
            return (nothing, primitive(Tensor::<1>::zeros([rows], &self.q.device())));
        }
        let scores = primitive(self.scores(&self.queries(tile), tile));
        let weights = empty_of(&scores, scores.meta.shape().clone(), self.shape.compute_dtype.into());
        let [lse, inverse] = [(); 2].map(|()| empty(&scores, [rows]));
        softmax_kernel::launch(
            &scores.client,
            cube_per_row(&scores, rows),
            CubeDim::new_1d(UNITS),
            buffer(&scores),
            self.reach.of_queries(),
            buffer(&weights),
            buffer(&lse),
            buffer(&inverse),
            Place::of(tile),
            self.shape.softcap.unwrap_or(1.0),
            self.shape.softcap.is_some(),
            UNITS,
            dtype_to_storage_type(weights.dtype),
        );
        let mixed = Factor::as_is(tensor(&weights)).times(self.keys(&self.v, tile));
        let [g, folded, _] = mixed.dims();
        let mixed = mixed * tensor::<1>(&inverse).reshape([g, folded, 1]);
        (self.unfold(mixed), lse)
    }

    /// The rows of `dq`, `[queries, h, e]`; adds to `dk` and `dv`.
    fn backward(
        &self,
        tile: &Tile,
        lse: &CubeTensor,
        delta: &CubeTensor,
        dout: &Tensor<3>,
        [dk, dv]: [&CubeTensor; 2],
    ) -> Tensor<3> {
        let &AttentionShape { heads, head_dim, scaling, compute_dtype, .. } = self.shape;
        let len = tile.queries.len();
        if tile.keys.is_empty() {
            return Tensor::zeros([len, heads, head_dim], &self.q.device());
        }
        // Laid out once for all that reads them.
        let laid_out = |rows: Tensor<3>| -> Tensor<3> { tensor(&primitive(rows)) };
        let q = laid_out(self.queries(tile));
        let scores = primitive(self.scores(&q, tile));
        let dout = laid_out(self.fold(dout.clone().narrow(0, tile.queries.start, len)));
        let [dout, dout_turned] = Factor::both_ways(&dout, compute_dtype);
        let d_weights = dout.times(self.keys(&self.v, tile).swap_dims(1, 2));
        let d_scores = primitive(d_weights);
        let weights = empty_of(&scores, scores.meta.shape().clone(), compute_dtype.into());
        scores_gradient_kernel::launch(
            &scores.client,
            cube_per_row(&scores, heads * len),
            CubeDim::new_1d(UNITS),
            buffer(&scores),
            self.reach.of_queries(),
            buffer(lse),
            buffer(delta),
            buffer(&weights),
            buffer(&d_scores),
            Place::of(tile),
            heads as u32,
            self.shape.softcap.unwrap_or(1.0),
            self.shape.softcap.is_some(),
            UNITS,
            dtype_to_storage_type(weights.dtype),
        );
        let [d_scores, d_scores_turned] = Factor::both_ways(&tensor::<3>(&d_scores), compute_dtype);
        let d_keys = d_scores_turned.times(q.cast(compute_dtype));
        add_to_keys(&primitive(d_keys), dk, tile, false);
        let d_values = dout_turned.times(tensor(&weights));
        add_to_keys(&primitive(d_values), dv, tile, true);
        let dq = d_scores.times(self.keys(&self.k, tile)).mul_scalar(scaling);
        self.unfold(dq).reshape([len, heads, head_dim])
    }

    /// The tile's queries, `[g, h/g queries, e]`.
    fn queries(&self, tile: &Tile) -> Tensor<3> {
        self.fold(self.q.clone().narrow(0, tile.queries.start, tile.queries.len()))
    }

    /// The tile's rows of keys or values, `[g, keys, e]`.
    fn keys(&self, rows: &Tensor<3>, tile: &Tile) -> Tensor<3> {
        rows.clone().narrow(1, tile.keys.start, tile.keys.len())
    }

    /// `[g, h/g queries, keys]`.
    fn scores(&self, queries: &Tensor<3>, tile: &Tile) -> Tensor<3> {
        Factor::new(queries, self.shape.compute_dtype).times(self.keys(&self.k, tile).swap_dims(1, 2))
    }

    /// `[queries, h, e]` as `[g, h/g queries, e]`.
    fn fold(&self, rows: Tensor<3>) -> Tensor<3> {
        let &AttentionShape { heads, kv_heads: g, head_dim: e, .. } = self.shape;
        let [len, _, _] = rows.dims();
        let fold = heads / g;
        rows.reshape([len, g, fold, e]).permute([1, 2, 0, 3]).reshape([g, fold * len, e])
    }

    /// `[g, h/g queries, e]` as `[queries, h e]`.
    fn unfold(&self, rows: Tensor<3>) -> Tensor<2> {
        let &AttentionShape { heads, kv_heads: g, head_dim: e, .. } = self.shape;
        let [_, folded, _] = rows.dims();
        let fold = heads / g;
        let len = folded / fold;
        rows.reshape([g, fold, len, e]).permute([2, 0, 1, 3]).reshape([len, heads * e])
    }
}

/// Adds `part`, `[g, keys, e]` or transposed `[g, e, keys]`, to the tile's keys in `[t, g, e]`.
fn add_to_keys(part: &CubeTensor, to: &CubeTensor, tile: &Tile, is_transposed: bool) {
    let [_, g, e] = to.meta.shape().dims();
    add_to_keys_kernel::launch(
        &to.client,
        cubes_for(part),
        CubeDim::new_1d(UNITS),
        buffer(part),
        buffer(to),
        tile.keys.start as u32,
        tile.keys.len() as u32,
        g as u32,
        e as u32,
        is_transposed,
    );
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

/// The exponentials of each row's scores less their maximum, the inverse of their sum, and what their logarithms are
/// less: a cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn softmax_kernel<F: Float>(
    scores: &[f32],
    of_queries: &[u32],
    weights: &mut [F],
    lse: &mut [f32],
    inverse: &mut [f32],
    place: Place,
    cap: f32,
    #[comptime] is_capped: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let keys = place.keys as usize;
    let start = CUBE_POS * keys;
    if start < scores.len() {
        let (first, end) = seen_by(query_of(&place), of_queries, &place);
        let mut maximum = HIDDEN.runtime();
        for key in range_stepped(first + UNIT_POS as usize, end, units as usize) {
            maximum = max(maximum, bent(scores[start + key], cap, is_capped));
        }
        let maximum = max_of_units(maximum, units);
        let mut sum = 0.0f32;
        for key in range_stepped(UNIT_POS as usize, keys, units as usize) {
            let mut weight = 0.0f32;
            if key >= first && key < end {
                weight = (bent(scores[start + key], cap, is_capped) - maximum).exp();
            }
            sum += weight;
            weights[start + key] = F::cast_from(weight);
        }
        let sum = sum_of_units(sum, units);
        if UNIT_POS == 0 {
            // A query that sees nothing gets 0.
            let mut logarithm = 0.0f32;
            let mut factor = 0.0f32;
            if sum > 0.0 {
                logarithm = maximum + sum.ln();
                factor = 1.0 / sum;
            }
            lse[CUBE_POS] = logarithm;
            inverse[CUBE_POS] = factor;
        }
    }
}

/// The probabilities `p = exp(s - lse)`, and from their gradient that of the scores, `p (dp - delta)`, in its place: a
/// cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn scores_gradient_kernel<F: Float>(
    scores: &[f32],
    of_queries: &[u32],
    lse: &[f32],
    delta: &[f32],
    weights: &mut [F],
    gradient: &mut [f32],
    place: Place,
    heads: u32,
    cap: f32,
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
        for key in range_stepped(UNIT_POS as usize, keys, units as usize) {
            let mut p = 0.0f32;
            let mut ds = 0.0f32;
            if key >= first && key < end {
                let score = bent(scores[start + key], cap, is_capped);
                p = (score - lse[CUBE_POS]).exp();
                ds = p * (gradient[start + key] - along);
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

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn add_to_keys_kernel(
    part: &[f32],
    to: &mut [f32],
    first_key: u32,
    keys: u32,
    groups: u32,
    head_dim: u32,
    #[comptime] is_transposed: bool,
) {
    if ABSOLUTE_POS < part.len() {
        let (keys, groups, head_dim) = (keys as usize, groups as usize, head_dim as usize);
        let column = ABSOLUTE_POS % head_dim;
        let key = ABSOLUTE_POS / head_dim % keys;
        let group = ABSOLUTE_POS / (head_dim * keys);
        let mut from = ABSOLUTE_POS;
        if is_transposed {
            from = (group * head_dim + column) * keys + key;
        }
        to[((first_key as usize + key) * groups + group) * head_dim + column] += part[from];
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
