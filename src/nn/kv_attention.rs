//! Attention whose keys and values may be those of another layer.

use crate::nn::attention::AttentionConfig;
use crate::nn::cache::Seen;
use crate::nn::{AttentionPlan, LayerCache, Linear, RmsNorm, RopeTable, SidePath};
use crate::ops::Input;
use burn::tensor::{FloatDType, Tensor};
use std::ops::Range;

/// What asks in an attention layer, and what is made of the answer.
#[derive(Debug, Clone)]
pub struct Queries {
    /// The shape of the layer.
    pub config: AttentionConfig,
    /// `[h e, d]`.
    pub q_proj: Linear,
    /// `[d, h e]`.
    pub o_proj: Linear,
    /// Over `e`.
    pub q_norm: RmsNorm,
}

/// What is asked in an attention layer.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// `[g e, d]`.
    pub k_proj: Linear,
    /// `[g e, d]`.
    pub v_proj: Linear,
    /// Over `e`.
    pub k_norm: RmsNorm,
    /// Over `e`.
    pub v_norm: RmsNorm,
}

/// Keys and values of the tokens of a batch, each `[n, g e]`.
#[derive(Debug, Clone)]
pub struct Kv {
    /// Normalised and rotated.
    pub keys: Tensor<2>,
    /// Normalised.
    pub values: Tensor<2>,
}

impl KeysValues {
    /// The keys and values of some tokens.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    pub fn of(&self, x: Input, config: &AttentionConfig, rope: &RopeTable, side: &dyn SidePath) -> Kv {
        let &AttentionConfig { num_key_value_heads: g, head_dim: e, .. } = config;
        let [n, _] = x.rows().dims();
        let k = self.k_proj.forward(x.clone(), side).reshape([n, g, e]);
        let v = self.v_proj.forward(x, side).reshape([n, g, e]);
        Kv {
            keys: self.k_norm.forward_rotated(k, rope).reshape([n, g * e]),
            values: self.v_norm.forward(v).reshape([n, g * e]),
        }
    }
}

impl Kv {
    fn heads(self, config: &AttentionConfig) -> (Tensor<3>, Tensor<3>) {
        let [n, width] = self.keys.dims();
        let heads = |tensor: Tensor<2>| tensor.reshape([n, width / config.head_dim, config.head_dim]);
        (heads(self.keys), heads(self.values))
    }

    /// Adds those of the new tokens of cached sequences to the cache, and says what each of the sequences that have any
    /// may look at. `lengths` and `spans` are as in [`crate::nn::Attention::forward_cached`].
    pub fn cached(
        self,
        config: &AttentionConfig,
        lengths: &[usize],
        spans: &[Range<usize>],
        cache: &mut LayerCache,
    ) -> Vec<Seen> {
        let (k, v) = self.heads(config);
        cache.extend_each(k, v, lengths, spans).collect()
    }
}

impl Queries {
    /// Attends within whole sequences.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn attend(&self, x: Input, kv: Kv, rope: &RopeTable, plan: &AttentionPlan, side: &dyn SidePath) -> Tensor<2> {
        let q = self.heads(x, rope, side);
        let (k, v) = kv.heads(&self.config);
        self.o_proj.forward(self.config.mix(q, k, v, plan, self.compute_dtype()), side)
    }

    /// Attends from the new tokens of cached sequences to what each of them may look at.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn attend_cached(
        &self,
        x: Input,
        seen: &[Seen],
        rope: &RopeTable,
        lengths: &[usize],
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let q = self.heads(x, rope, side);
        let mixed = self.config.mix_seen(&q, seen.iter().cloned(), lengths, self.compute_dtype());
        self.o_proj.forward(mixed, side)
    }

    /// What the factors of scores and mixtures are rounded to: as those of the projections.
    pub fn compute_dtype(&self) -> FloatDType {
        self.q_proj.weight.compute_dtype()
    }

    fn heads(&self, x: Input, rope: &RopeTable, side: &dyn SidePath) -> Tensor<3> {
        let AttentionConfig { num_attention_heads: h, head_dim: e, .. } = self.config;
        let [n, _] = x.rows().dims();
        self.q_norm.forward_rotated(self.q_proj.forward(x, side).reshape([n, h, e]), rope)
    }
}
