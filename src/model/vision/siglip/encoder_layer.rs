//! A layer of the tower.

use crate::model::vision::siglip::attention::VisionAttention;
use crate::model::vision::siglip::mlp::VisionMlp;
use crate::nn::{BiasedLinear, LayerNorm, SidePath};
use crate::ops::AttentionMask;
use burn::tensor::Tensor;

/// Attention and feed-forward, each after a norm and beside a residual: `h = x + self_attn(layer_norm1(x))`, then
/// `h + mlp(layer_norm2(h))`.
#[derive(Debug, Clone)]
pub struct VisionEncoderLayer {
    /// Before attention.
    pub layer_norm1: LayerNorm,
    /// Attention.
    pub self_attn: VisionAttention,
    /// Before the feed-forward block.
    pub layer_norm2: LayerNorm,
    /// Feed-forward.
    pub mlp: VisionMlp,
}

impl VisionEncoderLayer {
    /// Its linear layers, in the order of [`crate::weights::names::VisionProjection::ALL`].
    pub fn linears(&self) -> [&BiasedLinear; 6] {
        let VisionEncoderLayer { self_attn, mlp, .. } = self;
        [&self_attn.q_proj, &self_attn.k_proj, &self_attn.v_proj, &self_attn.out_proj, &mlp.fc1, &mlp.fc2]
    }

    /// Runs the patches of one picture.
    ///
    /// # Shapes
    /// - `x`, output: `[p, w]`
    pub fn forward(&self, x: Tensor<2>, everyone: &AttentionMask, side: &dyn SidePath) -> Tensor<2> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x), everyone, side);
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x), side)
    }
}
