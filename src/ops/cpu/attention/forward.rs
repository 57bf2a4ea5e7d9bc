//! The forward pass: a task per tile of queries.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::ops::Range;

use rayon::iter::{ParallelBridge, ParallelIterator};

use super::product::{factors, product};
use super::rows::{RowRuns, gather, room, scatter, transpose};
use super::softmax::Softmax;
use super::visible::{VisibleGroup, even_runs};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::attention::visibility::Visibility;
use crate::ops::cpu::matmul::{Matrix, Product};
use crate::ops::cpu::simd::{self, vectorised};

/// Rows of a tile, a row being a query of one head. More rows share each tile of keys, but compute more of the scores
/// along the diagonal in vain.
const ROWS: usize = 64;

thread_local! {
    /// Kept from call to call: fresh pages cost more than the products of short segments.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention, `out = softmax(mask(scaling · q kᵀ)) v` for each head.
///
/// `lse` receives the natural logarithm of the sum of the exponentials of each row's scores, which [`backward`] wants.
/// Rows of queries that see no key become 0, and their `lse` negative infinity.
///
/// [`backward`]: super::backward
///
/// # Shapes
/// - `q`, `out`: `[n, h, e]`
/// - `k`, `v`: `[t, g, e]`
/// - `lse`: `[n, h]`
///
/// # Panics
/// When a slice is shorter than the shape and the groups say, or when groups overlap.
pub fn forward(
    shape: &AttentionShape,
    visibility: &Visibility,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    forward_each(shape, &[Part { visibility, q, k, v }], out, lse);
}

/// Queries with the keys and values that they look at.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Who sees whom.
    pub visibility: &'a Visibility,
    /// `[n, h, e]`.
    pub q: &'a [f32],
    /// `[t, g, e]`.
    pub k: &'a [f32],
    /// `[t, g, e]`.
    pub v: &'a [f32],
}

/// [`forward`] of several parts at once, whose results stand one behind the other.
///
/// # Panics
/// As [`forward`].
pub fn forward_each(shape: &AttentionShape, parts: &[Part], out: &mut [f32], lse: &mut [f32]) {
    let groups: Vec<Vec<VisibleGroup>> = parts.iter().map(|part| VisibleGroup::all(part.visibility)).collect();
    let (mut all_out, mut all_lse) = (out, lse);
    let mut tasks = Vec::new();
    for (&Part { q, k, v, .. }, groups) in parts.iter().zip(&groups) {
        let n = q.len() / shape.query_width();
        let (out, rest_out) = std::mem::take(&mut all_out).split_at_mut(n * shape.query_width());
        let (lse, rest_lse) = std::mem::take(&mut all_lse).split_at_mut(n * shape.heads);
        (all_out, all_lse) = (rest_out, rest_lse);
        let mut out = RowRuns::new(out, shape.query_width(), 0.0);
        let mut lse = RowRuns::new(lse, shape.heads, f32::NEG_INFINITY);
        for group in groups {
            for queries in even_runs(0..group.queries.len(), ROWS / shape.fold()) {
                let rows = group.queries.start + queries.start..group.queries.start + queries.end;
                let (out, lse) = (out.take(&rows), lse.take(&rows));
                tasks.push(Task { shape, group, q, k, v, queries, rows, out, lse });
            }
        }
    }
    let run = |task: Task| SCRATCH.with_borrow_mut(|scratch| task.run(scratch));
    if tasks.len() <= 1 {
        return tasks.into_iter().for_each(run); // nobody is woken for it
    }
    // The longest first, so that the threads finish together.
    tasks.sort_by_cached_key(|task| Reverse(task.group.pairs(&task.queries)));
    tasks.into_iter().par_bridge().for_each(run);
}

/// A tile of queries, all heads.
struct Task<'a> {
    shape: &'a AttentionShape,
    group: &'a VisibleGroup,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    /// Counted from the first query of the group.
    queries: Range<usize>,
    /// The same queries as rows of `q`.
    rows: Range<usize>,
    out: &'a mut [f32],
    lse: &'a mut [f32],
}

/// What a thread keeps for the tile it works on.
#[derive(Default)]
struct Scratch {
    /// Queries of one key head, `[rows, e]`, where they do not lie together.
    q: Vec<f32>,
    /// `[e, rows]`.
    q_t: Vec<f32>,
    /// Scores, then their exponentials, `[keys, rows]`.
    scores: Vec<f32>,
    /// The results of one key head, `[rows, e]`, where they do not lie together.
    out: Vec<f32>,
    softmax: Softmax,
}

impl Task<'_> {
    fn run(mut self, scratch: &mut Scratch) {
        for kv_head in 0..self.shape.kv_heads {
            self.head(kv_head, scratch);
        }
    }

    fn head(&mut self, kv_head: usize, scratch: &mut Scratch) {
        let Scratch { q, q_t, scores, out: copy, softmax } = scratch;
        let shape = self.shape;
        let (fold, e, key_width) = (shape.fold(), shape.head_dim, shape.key_width());
        let rows = self.queries.len() * fold;
        let dtype = factors(shape, self.group);
        let q_t = transpose(gather(shape, kv_head, self.q, &self.rows, q), e, q_t);
        let out = if shape.kv_heads == 1 { &mut *self.out } else { room(copy, rows * e) };
        out.fill(0.0);
        softmax.reset(rows);

        for tile in self.group.tiles(self.queries.clone()) {
            let first = (tile.queries.start - self.queries.start) * fold;
            let (m, n) = (tile.queries.len() * fold, tile.keys.len());
            let keys = tile.keys.start * key_width + kv_head * e;
            let scores = room(scores, m * n);

            let q = Matrix { data: &q_t[first..], strides: [1, rows] };
            let k_t = Matrix { data: &self.k[keys..], strides: [1, key_width] };
            product(dtype, Product::replacing([m, n, e], shape.scaling, q, k_t), scores, m);
            soft_cap(shape, scores);
            self.group.fill_hidden(&tile, shape, scores, f32::NEG_INFINITY);

            let out = &mut out[first * e..(first + m) * e];
            softmax.update(first, m, scores, out);
            // The result lies by rows of `e`, so this is the product of the transposes.
            let v_t = Matrix { data: &self.v[keys..], strides: [1, key_width] };
            let p_t = Matrix { data: scores, strides: [m, 1] };
            product(dtype, Product::added([e, m, n], 1.0, v_t, p_t), out, e);
        }

        softmax.divide(e, out);
        if shape.kv_heads > 1 {
            scatter(shape, kv_head, copy, self.out);
        }
        for (i, lse) in self.lse.chunks_exact_mut(shape.heads).enumerate() {
            lse[kv_head * fold..][..fold].iter_mut().enumerate().for_each(|(f, lse)| *lse = softmax.lse(i * fold + f));
        }
    }
}

/// Bends the scores, `s -> c tanh(s / c)`, when the shape asks for it.
pub(super) fn soft_cap(shape: &AttentionShape, scores: &mut [f32]) {
    if let Some(cap) = shape.softcap {
        bend(scores, cap);
    }
}

vectorised! {
    fn bend(scores: &mut [f32], cap: f32) {
        scores.iter_mut().for_each(|s| *s = cap * simd::tanh(*s / cap));
    }
}
