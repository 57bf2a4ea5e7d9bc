//! The backward pass: a task per run of queries, which owns their `dq` and its own sums of `dk` and `dv`.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::ops::Range;

use rayon::iter::{ParallelBridge, ParallelIterator};

use super::forward::soft_cap;
use super::product::{factors, product};
use super::rows::{RowRuns, gather, room, scatter, transpose};
use super::split::{Part, Split};
use super::visible::{VisibleGroup, even_runs};
use crate::ops::attention::shape::AttentionShape;
use crate::ops::attention::visibility::Visibility;
use crate::ops::cpu::matmul::{Matrix, Product};
use crate::ops::cpu::simd::exp;
use crate::quant::simd::widest;

/// Rows of a tile, a row being a query of one head.
const ROWS: usize = 128;
/// About as many tasks as a call is cut into. A constant, since the sums of `dk` and `dv` must not depend on the
/// machine; each task more keeps more of them.
const TASKS: usize = 8;
/// A run of queries is not cut shorter than this.
const TASK_QUERIES: usize = 128;

thread_local! {
    /// Kept from call to call: fresh pages cost more than the products of short segments.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What the pass needs of the forward pass.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    shape: &'a AttentionShape,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
}

/// The gradients of [`forward`] for `q`, `k` and `v`, given `dout`, that of its result.
///
/// With `p = exp(s - lse)`: `dv = pᵀ dout`, `ds = p (dout vᵀ - Σ dout · out)`, `dq = scaling · ds k`,
/// `dk = scaling · dsᵀ q`. The gradients overwrite what their slices held.
///
/// [`forward`]: super::forward
///
/// # Shapes
/// - `q`, `out`, `dout`, `dq`: `[n, h, e]`
/// - `k`, `v`, `dk`, `dv`: `[t, g, e]`
/// - `lse`: `[n, h]`
///
/// # Panics
/// When a slice is shorter than the shape and the groups say, or when groups overlap.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    shape: &AttentionShape,
    visibility: &Visibility,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let inputs = Inputs { shape, q, k, v, out, lse, dout };
    let groups = VisibleGroup::all(visibility);
    let total: usize = groups.iter().map(|group| group.pairs(&(0..group.queries.len()))).sum();
    let mut dq = RowRuns::new(dq, shape.query_width(), 0.0);
    let mut dk = RowRuns::new(dk, shape.key_width(), 0.0);
    let mut dv = RowRuns::new(dv, shape.key_width(), 0.0);

    let mut splits = Vec::new();
    let mut tasks = Vec::new();
    for group in &groups {
        let (dk, dv) = (dk.take(&group.keys), dv.take(&group.keys));
        let all = 0..group.queries.len();
        let share = (group.pairs(&all) * TASKS).div_ceil(total.max(1));
        let parts = share.min(group.queries.len() / TASK_QUERIES);
        if parts <= 1 {
            // Alone with its keys, the task sums where the result belongs.
            let dq = dq.take(&group.queries);
            dk.fill(0.0);
            dv.fill(0.0);
            tasks.push(Task { inputs, group, queries: all, keys: group.keys.clone(), dq, dk, dv });
            continue;
        }
        let parts = group.split(parts).into_iter().map(|queries| {
            let rows = group.queries.start + queries.start..group.queries.start + queries.end;
            let keys = group.keys_of(&queries);
            let sums = vec![0.0; 2 * keys.len() * shape.key_width()];
            Part { group, queries, dq: dq.take(&rows), keys, sums }
        });
        splits.push(Split { parts: parts.collect(), keys: group.keys.clone(), dk, dv });
    }
    for Part { group, queries, dq, keys, sums } in splits.iter_mut().flat_map(|split| &mut split.parts) {
        let (dk, dv) = sums.split_at_mut(keys.len() * shape.key_width());
        tasks.push(Task { inputs, group, queries: queries.clone(), keys: keys.clone(), dq, dk, dv });
    }
    // The longest first, so that the threads finish together.
    tasks.sort_by_cached_key(|task| Reverse(task.group.pairs(&task.queries)));
    tasks.into_iter().par_bridge().for_each(|task| SCRATCH.with_borrow_mut(|scratch| task.run(scratch)));
    splits.into_iter().for_each(|split| split.sum(shape.key_width()));
}

/// A run of queries, all heads.
struct Task<'a> {
    inputs: Inputs<'a>,
    group: &'a VisibleGroup,
    /// Counted from the first query of the group.
    queries: Range<usize>,
    /// Rows of the keys in `dk` and `dv`, which start out 0.
    keys: Range<usize>,
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

/// What a thread keeps for the tile it works on.
#[derive(Default)]
struct Scratch {
    /// Rows of one key head, `[rows, e]`, where they do not lie together.
    q: Vec<f32>,
    out: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    /// `[e, rows]`.
    q_t: Vec<f32>,
    dout_t: Vec<f32>,
    lse: Vec<f32>,
    /// `Σ dout · out` of each row.
    delta: Vec<f32>,
    /// Scores, then probabilities, `[keys, rows]`.
    p: Vec<f32>,
    /// Gradients of the probabilities, then of the scores, `[keys, rows]`.
    ds: Vec<f32>,
}

impl Task<'_> {
    fn run(mut self, scratch: &mut Scratch) {
        for queries in even_runs(self.queries.clone(), ROWS / self.inputs.shape.fold()) {
            for kv_head in 0..self.inputs.shape.kv_heads {
                self.head(kv_head, queries.clone(), scratch);
            }
        }
    }

    fn head(&mut self, kv_head: usize, queries: Range<usize>, scratch: &mut Scratch) {
        let Inputs { shape, k, v, .. } = self.inputs;
        let (fold, e, key_width) = (shape.fold(), shape.head_dim, shape.key_width());
        let rows = queries.len() * fold;
        let dtype = factors(shape, self.group);
        let all = self.group.queries.start + queries.start..self.group.queries.start + queries.end;
        let q = gather(shape, kv_head, self.inputs.q, &all, &mut scratch.q);
        let out = gather(shape, kv_head, self.inputs.out, &all, &mut scratch.out);
        let dout = gather(shape, kv_head, self.inputs.dout, &all, &mut scratch.dout);
        let q_t = transpose(q, e, &mut scratch.q_t);
        let dout_t = transpose(dout, e, &mut scratch.dout_t);
        row_sums(e, dout, out, &mut scratch.delta);
        let Scratch { lse, delta, p, ds, .. } = scratch;
        lse.clear();
        lse.extend(all.flat_map(|row| &self.inputs.lse[row * shape.heads + kv_head * fold..][..fold]));

        let start = queries.start - self.queries.start;
        let home = &mut self.dq[start * shape.query_width()..(start + queries.len()) * shape.query_width()];
        let dq = if shape.kv_heads == 1 { &mut *home } else { room(&mut scratch.dq, rows * e) };
        dq.fill(0.0);

        for tile in self.group.tiles(queries.clone()) {
            let first = (tile.queries.start - queries.start) * fold;
            let (m, n) = (tile.queries.len() * fold, tile.keys.len());
            let keys = tile.keys.start * key_width + kv_head * e;
            let sums = (tile.keys.start - self.keys.start) * key_width + kv_head * e;
            let (p, ds) = (room(p, m * n), room(ds, m * n));

            let k_t = Matrix { data: &k[keys..], strides: [1, key_width] };
            let v_t = Matrix { data: &v[keys..], strides: [1, key_width] };
            let [q_rows, dout_rows] = [q_t, dout_t].map(|t| Matrix { data: &t[first..], strides: [1, rows] });
            product(dtype, Product::replacing([m, n, e], shape.scaling, q_rows, k_t), p, m);
            product(dtype, Product::replacing([m, n, e], 1.0, dout_rows, v_t), ds, m);
            soft_cap(shape, p);
            gradients(shape, p, ds, &lse[first..first + m], &delta[first..first + m]);
            self.group.fill_hidden(&tile, shape, p, 0.0);
            self.group.fill_hidden(&tile, shape, ds, 0.0);

            // The results lie by rows of `e`, so these are the products of the transposes.
            let q_by_e = Matrix { data: &q[first * e..], strides: [1, e] };
            let dout_by_e = Matrix { data: &dout[first * e..], strides: [1, e] };
            let [p_rows, ds_rows] = [&*p, &*ds].map(|data| Matrix { data, strides: [1, m] });
            let ds_t = Matrix { data: ds, strides: [m, 1] };
            product(dtype, Product::added([e, n, m], 1.0, dout_by_e, p_rows), &mut self.dv[sums..], key_width);
            product(dtype, Product::added([e, n, m], shape.scaling, q_by_e, ds_rows), &mut self.dk[sums..], key_width);
            product(dtype, Product::added([e, m, n], shape.scaling, k_t, ds_t), &mut dq[first * e..], e);
        }
        if shape.kv_heads > 1 {
            scatter(shape, kv_head, &scratch.dq, home);
        }
    }
}

/// `sums = Σ a · b` of each row.
///
/// # Shapes
/// - `a`, `b`: `[rows, e]`
fn row_sums(e: usize, a: &[f32], b: &[f32], sums: &mut Vec<f32>) {
    sums.resize(a.len() / e, 0.0);
    widest(
        #[inline(always)]
        || sums.iter_mut().zip(a.chunks_exact(e).zip(b.chunks_exact(e))).for_each(|(sum, (a, b))| *sum = dot(a, b)),
    );
}

/// `Σ a · b`, in lanes that fill vector registers.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Turns scores into probabilities and `ds`, the gradients of the probabilities, into those of the scores.
///
/// # Shapes
/// - `p`, `ds`: `[keys, rows]`
/// - `lse`, `delta`: `[rows]`
fn gradients(shape: &AttentionShape, p: &mut [f32], ds: &mut [f32], lse: &[f32], delta: &[f32]) {
    let rows = lse.len();
    widest(
        #[inline(always)]
        || {
            for (p, ds) in p.chunks_exact_mut(rows).zip(ds.chunks_exact_mut(rows)) {
                if let Some(cap) = shape.softcap {
                    // The derivative of `c tanh(s / c)` is `1 - tanh²`.
                    p.iter().zip(&mut *ds).zip(delta).for_each(|((s, ds), delta)| {
                        *ds = (*ds - delta) * (1.0 - (s / cap) * (s / cap)) + delta;
                    });
                }
                for (((p, ds), lse), delta) in p.iter_mut().zip(ds).zip(lse).zip(delta) {
                    *p = exp(*p - lse);
                    *ds = *p * (*ds - delta);
                }
            }
        },
    );
}
