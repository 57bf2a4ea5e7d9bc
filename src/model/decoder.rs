//! The decoder block that the Gemma models share.

use crate::nn::{Attention, AttentionPlan, LayerCache, Linear, Mlp, RmsNorm, RopeTable, SidePath};
use crate::ops::Input;
use burn::tensor::Tensor;
use std::ops::Range;

/// One block: attention and feed-forward, each between two norms and beside a residual.
///
/// `h = x + post_attention_layernorm(self_attn(input_layernorm(x)))`, then
/// `h + post_feedforward_layernorm(mlp(pre_feedforward_layernorm(h)))`.
///
/// # Source
/// Gemma 2 report (2024), section 2; checked per layer by the goldens.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// After attention, before its residual.
    pub post_attention_layernorm: RmsNorm,
    /// Before the feed-forward block.
    pub pre_feedforward_layernorm: RmsNorm,
    /// Feed-forward.
    pub mlp: Mlp,
    /// After the feed-forward block, before its residual.
    pub post_feedforward_layernorm: RmsNorm,
}

impl DecoderLayer {
    /// Its linear layers, in the order of a forward pass.
    pub fn linears(&self) -> [&Linear; 7] {
        let DecoderLayer { self_attn, mlp, .. } = self;
        let [q, k, v, o] = [&self_attn.q_proj, &self_attn.k_proj, &self_attn.v_proj, &self_attn.o_proj];
        [q, k, v, o, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
    }

    /// Runs whole sequences.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward(&self, x: Tensor<2>, rope: &RopeTable, plan: &AttentionPlan, side: &dyn SidePath) -> Tensor<2> {
        self.block(x, side, |h| self.self_attn.forward(h, rope, plan, side))
    }

    /// Runs the next tokens of cached sequences (see [`Attention::forward_cached`]).
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward_cached(
        &self,
        x: Tensor<2>,
        rope: &RopeTable,
        lengths: &[usize],
        spans: &[Range<usize>],
        cache: &mut LayerCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        self.block(x, side, |h| self.self_attn.forward_cached(h, rope, lengths, spans, cache, side))
    }

    fn block(&self, x: Tensor<2>, side: &dyn SidePath, attend: impl FnOnce(Input) -> Tensor<2>) -> Tensor<2> {
        let h = attend(self.input_layernorm.forward_for(&self.self_attn.q_proj.weight, x.clone()));
        let x = self.post_attention_layernorm.forward_onto(x, h);
        let h =
            self.mlp.forward(self.pre_feedforward_layernorm.forward_for(&self.mlp.gate_proj.weight, x.clone()), side);
        self.post_feedforward_layernorm.forward_onto(x, h)
    }
}
