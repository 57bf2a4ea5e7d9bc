//! The feed-forward block of a conformer.

use crate::nn::{Linear, RmsNorm, SidePath};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// `x + scale * norm(clip(down(silu(up(norm(clip(x)))))))`.
#[derive(Debug, Clone)]
pub struct ConformerFeedForward {
    /// Before both.
    pub pre_layer_norm: RmsNorm,
    /// `[4 w, w]`.
    pub ffw_layer_1: Linear,
    /// `[w, 4 w]`.
    pub ffw_layer_2: Linear,
    /// After both, before the residual.
    pub post_layer_norm: RmsNorm,
    /// How much is added.
    pub post_layer_scale: f64,
    /// What activations are held within.
    pub gradient_clipping: f64,
}

impl ConformerFeedForward {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`, output: `[t, w]`
    pub fn forward(&self, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let h = self.pre_layer_norm.forward(clipped(x.clone(), self.gradient_clipping));
        let h = self.ffw_layer_2.forward(silu(self.ffw_layer_1.forward(h, side)), side);
        let h = self.post_layer_norm.forward(clipped(h, self.gradient_clipping));
        x + h.mul_scalar(self.post_layer_scale)
    }
}

/// Held within `most` on both sides of 0.
pub(super) fn clipped(x: Tensor<2>, most: f64) -> Tensor<2> {
    x.clamp(-most, most)
}
