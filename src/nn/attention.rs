//! Grouped-query self-attention with normalised queries and keys.

use crate::nn::cache::Seen;
use crate::nn::{AttentionKind, AttentionPlan, LayerCache, Linear, RmsNorm, RopeTable, SidePath};
use crate::ops::{self, AttentionShape, Input, Looking};
use burn::tensor::{FloatDType, Tensor};
use std::ops::Range;

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

impl AttentionConfig {
    /// How many tokens back one sees, itself included.
    pub fn reach(&self) -> usize {
        match self.kind {
            AttentionKind::Sliding => self.sliding_window.max(1),
            AttentionKind::Full => usize::MAX,
        }
    }

    /// An empty cache of the layer for this many sequences.
    pub fn cache(&self, sequences: usize) -> LayerCache {
        LayerCache::new(self.reach(), self.num_key_value_heads * self.head_dim, sequences)
    }

    /// `softmax(scaling * q k^T + mask) v`, the heads side by side, with the mask of whole sequences.
    ///
    /// # Shapes
    /// - `q`: `[n, h, e]`
    /// - `k`, `v`: `[n, g, e]`
    /// - output: `[n, h e]`
    pub fn mix(
        &self,
        q: Tensor<3>,
        k: Tensor<3>,
        v: Tensor<3>,
        plan: &AttentionPlan,
        compute_dtype: FloatDType,
    ) -> Tensor<2> {
        let (k, v) = (plan.looked_at(k), plan.looked_at(v));
        ops::attention(q, k, v, &self.shape(compute_dtype), plan.mask(self.kind))
    }

    /// As [`AttentionConfig::mix`], of the next tokens of cached sequences: `lengths` says how many of the rows are each
    /// one's, and `seen` what those of each sequence that has any look at.
    ///
    /// # Shapes
    /// - `q`: `[n, h, e]`
    /// - output: `[n, h e]`
    pub fn mix_seen(
        &self,
        q: &Tensor<3>,
        seen: impl Iterator<Item = Seen>,
        lengths: &[usize],
        compute_dtype: FloatDType,
    ) -> Tensor<2> {
        let mut start = 0;
        let looking = seen.zip(lengths.iter().filter(|len| **len > 0)).map(|(seen, &len)| {
            start += len;
            let q = q.clone().narrow(0, start - len, len);
            Looking { q, k: seen.keys, v: seen.values, mask: seen.mask }
        });
        ops::attention_each(looking.collect(), &self.shape(compute_dtype))
    }

    fn shape(&self, compute_dtype: FloatDType) -> AttentionShape {
        let &AttentionConfig { num_attention_heads, num_key_value_heads, head_dim, scaling, .. } = self;
        AttentionShape {
            heads: num_attention_heads,
            kv_heads: num_key_value_heads,
            head_dim,
            scaling: scaling as f32,
            softcap: None,
            compute_dtype,
        }
    }
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
    pub fn forward(
        &self,
        x: impl Into<Input>,
        rope: &RopeTable,
        plan: &AttentionPlan,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let (q, k, v) = self.heads(x.into(), rope, side);
        self.o_proj.forward(self.config.mix(q, k, v, plan, self.compute_dtype()), side)
    }

    /// Attends from the new tokens of several sequences to those and to everything in the cache, and adds them to it.
    /// `lengths` says how many of the rows of `x` belong to each sequence, in the order of the cache; of each of the
    /// `spans` of rows, tokens see each other forwards too.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward_cached(
        &self,
        x: impl Into<Input>,
        rope: &RopeTable,
        lengths: &[usize],
        spans: &[Range<usize>],
        cache: &mut LayerCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let (q, k, v) = self.heads(x.into(), rope, side);
        let seen = cache.extend_each(k, v, lengths, spans);
        self.o_proj.forward(self.config.mix_seen(&q, seen, lengths, self.compute_dtype()), side)
    }

    /// What the factors of scores and mixtures are rounded to: as those of the projections.
    pub fn compute_dtype(&self) -> FloatDType {
        self.q_proj.weight.compute_dtype()
    }

    /// Projected, normalised and rotated queries `[n, h, e]` and keys `[n, g, e]`, and values `[n, g, e]`.
    fn heads(&self, x: Input, rope: &RopeTable, side: &dyn SidePath) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let AttentionConfig { num_attention_heads: h, num_key_value_heads: g, head_dim: e, .. } = self.config;
        let [n, _] = x.rows().dims();
        let q = self.q_proj.forward(x.clone(), side).reshape([n, h, e]);
        let k = self.k_proj.forward(x.clone(), side).reshape([n, g, e]);
        let v = self.v_proj.forward(x, side).reshape([n, g, e]);
        (self.q_norm.forward_rotated(q, rope), self.k_norm.forward_rotated(k, rope), v)
    }
}
