//! A block of the conformer.

use crate::model::audio::attention::{ConformerAttention, LocalMask};
use crate::model::audio::feed_forward::{ConformerFeedForward, clipped};
use crate::model::audio::light_conv::LightConv;
use crate::nn::{Linear, RmsNorm, SidePath};
use burn::tensor::Tensor;

/// Half a feed-forward block, attention, a light convolution, the other half; each beside a residual of its own.
///
/// # Source
/// Gulati et al. 2020, section 2; checked part by part by the goldens.
#[derive(Debug, Clone)]
pub struct ConformerBlock {
    /// The first half.
    pub ffw_layer_start: ConformerFeedForward,
    /// Attention.
    pub attention: ConformerAttention,
    /// The light convolution.
    pub lconv1d: LightConv,
    /// The other half.
    pub ffw_layer_end: ConformerFeedForward,
    /// What activations are held within before the norm.
    pub gradient_clipping: f64,
    /// After all of it.
    pub norm: RmsNorm,
}

impl ConformerBlock {
    /// Its linear layers, in the order of [`crate::weights::names::AudioProjection::ALL`].
    pub fn linears(&self) -> [&Linear; 11] {
        let ConformerBlock { ffw_layer_start: start, attention, lconv1d, ffw_layer_end: end, .. } = self;
        let attn = &attention.attn;
        let positions = &attn.relative_position_embedding.pos_proj;
        let [q, k, v] = [&attn.q_proj, &attn.k_proj, &attn.v_proj];
        let (before, after) = ([&start.ffw_layer_1, &start.ffw_layer_2], [&end.ffw_layer_1, &end.ffw_layer_2]);
        let conv = [&lconv1d.linear_start, &lconv1d.linear_end];
        [before[0], before[1], q, k, v, positions, &attention.post, conv[0], conv[1], after[0], after[1]]
    }

    /// Runs the rows of one clip.
    ///
    /// # Shapes
    /// - `x`, output: `[t, w]`
    pub fn forward(&self, x: Tensor<2>, mask: &LocalMask, side: &dyn SidePath) -> Tensor<2> {
        let x = self.ffw_layer_start.forward(x, side);
        let x = self.attention.forward(x, mask, side);
        let x = self.lconv1d.forward(x, side);
        let x = self.ffw_layer_end.forward(x, side);
        self.norm.forward(clipped(x, self.gradient_clipping))
    }
}
