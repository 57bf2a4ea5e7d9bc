//! Grouped-query self-attention with normalised queries and keys.

use crate::nn::{AttentionKind, AttentionPlan, LayerCache, Linear, RmsNorm, RopeTable, SidePath};
use burn::tensor::{Tensor, activation::softmax};

/// The shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Query heads, h.
    pub num_attention_heads: usize,
    /// Key and value heads, g; h is a multiple of it.
    pub num_key_value_heads: usize,
    /// Width of a head, e.
    pub head_dim: usize,
    /// Scores are multiplied by this.
    pub scaling: f64,
    /// How far the layer looks back.
    pub kind: AttentionKind,
    /// Tokens that a sliding layer sees, itself included.
    pub sliding_window: usize,
}

/// Self-attention: `o(softmax(scaling * q k^T + mask) v)`, with RMS norms on q and k before the rotation.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Its shape.
    pub config: AttentionConfig,
    /// `[h e, d]`.
    pub q_proj: Linear,
    /// `[g e, d]`.
    pub k_proj: Linear,
    /// `[g e, d]`.
    pub v_proj: Linear,
    /// `[d, h e]`.
    pub o_proj: Linear,
    /// Over `e`.
    pub q_norm: RmsNorm,
    /// Over `e`.
    pub k_norm: RmsNorm,
}

impl Attention {
    /// Attends within whole sequences, as in training.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward(&self, x: Tensor<2>, rope: &RopeTable, plan: &AttentionPlan, side: &dyn SidePath) -> Tensor<2> {
        let [n, _] = x.dims();
        let (q, k, v) = self.heads(x, rope, side);
        let tiles = plan.tiles(self.config.kind);
        let mut mixed = Vec::with_capacity(tiles.len());
        for tile in tiles {
            let take = |t: &Tensor<3>, rows: &std::ops::Range<usize>| {
                if *rows == (0..n) { t.clone() } else { t.clone().narrow(0, rows.start, rows.len()) }
            };
            let (q, k, v) = (take(&q, &tile.queries), take(&k, &tile.keys), take(&v, &tile.keys));
            mixed.push(self.mix(q, k, v, tile.mask.clone()));
        }
        let mixed = if mixed.len() == 1 { mixed.remove(0) } else { Tensor::cat(mixed, 0) };
        self.o_proj.forward(mixed, side)
    }

    /// Attends from the new tokens of several sequences to those and to everything in the cache, and adds them to it.
    /// `lengths` says how many of the rows of `x` belong to each sequence, in the order of the cache.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward_cached(
        &self,
        x: Tensor<2>,
        rope: &RopeTable,
        lengths: &[usize],
        cache: &mut LayerCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let (q, k, v) = self.heads(x, rope, side);
        let mut start = 0;
        let mut mixed = Vec::with_capacity(lengths.len());
        for (sequence, &len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let take = |t: &Tensor<3>| t.clone().narrow(0, start, len);
            let seen = cache.extend(sequence, take(&k), take(&v));
            mixed.push(self.mix(take(&q), seen.keys, seen.values, seen.mask));
            start += len;
        }
        let mixed = if mixed.len() == 1 { mixed.remove(0) } else { Tensor::cat(mixed, 0) };
        self.o_proj.forward(mixed, side)
    }

    /// Projected, normalised and rotated queries `[n, h, e]` and keys `[n, g, e]`, and values `[n, g, e]`.
    fn heads(&self, x: Tensor<2>, rope: &RopeTable, side: &dyn SidePath) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let AttentionConfig { num_attention_heads: h, num_key_value_heads: g, head_dim: e, .. } = self.config;
        let [n, _] = x.dims();
        let q = self.q_proj.forward(x.clone(), side).reshape([n, h, e]);
        let k = self.k_proj.forward(x.clone(), side).reshape([n, g, e]);
        let v = self.v_proj.forward(x, side).reshape([n, g, e]);
        (rope.rotate(self.q_norm.forward(q)), rope.rotate(self.k_norm.forward(k)), v)
    }

    /// `softmax(scaling * q k^T + mask) v`.
    ///
    /// The query heads that share a key head are folded into one product, so that keys are never repeated.
    ///
    /// # Shapes
    /// - `q`: `[s, h, e]`
    /// - `k`, `v`: `[t, g, e]`
    /// - `mask`: `[1, s, t]`
    /// - output: `[s, h e]`
    fn mix(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<Tensor<3>>) -> Tensor<2> {
        let AttentionConfig { num_attention_heads: h, num_key_value_heads: g, scaling, .. } = self.config;
        let [s, _, e] = q.dims();
        let [t, _, _] = k.dims();
        let fold = h / g;
        let q = q.mul_scalar(scaling).reshape([s, g, fold, e]).permute([1, 2, 0, 3]).reshape([g, fold * s, e]);
        let k = k.permute([1, 2, 0]); // [g, e, t]
        let v = v.swap_dims(0, 1); // [g, t, e]
        let mut scores = q.matmul(k).reshape([h, s, t]);
        if let Some(mask) = mask {
            scores = scores + mask;
        }
        let weights = softmax(scores, 2).reshape([g, fold * s, t]);
        let mixed = weights.matmul(v).reshape([g, fold, s, e]);
        mixed.permute([2, 0, 1, 3]).reshape([s, h * e])
    }
}
