//! The light convolution of a conformer: each channel by itself, over the last few rows.

use crate::model::audio::feed_forward::clipped;
use crate::nn::{Linear, RmsNorm, SidePath};
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu};

/// `x + end(silu(norm(clip(conv(glu(start(norm(x))))))))`.
#[derive(Debug, Clone)]
pub struct LightConv {
    /// Before all of it.
    pub pre_layer_norm: RmsNorm,
    /// `[2 w, w]`: what passes, then its gate.
    pub linear_start: Linear,
    /// `[rows, w]`, the oldest row first.
    pub depthwise_conv1d: Tensor<2>,
    /// What activations are held within.
    pub gradient_clipping: f64,
    /// After the convolution.
    pub conv_norm: RmsNorm,
    /// `[w, w]`.
    pub linear_end: Linear,
}

impl LightConv {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`, output: `[t, w]`
    pub fn forward(&self, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let [_, w] = x.dims();
        let h = self.linear_start.forward(self.pre_layer_norm.forward(x.clone()), side); // [t, 2 w]
        let h = h.clone().narrow(1, 0, w) * sigmoid(h.narrow(1, w, w));
        let h = self.conv_norm.forward(clipped(self.convolved(h), self.gradient_clipping));
        x + self.linear_end.forward(silu(h), side)
    }

    /// Each row and those before it, weighed channel by channel; before the first row there is 0.
    fn convolved(&self, x: Tensor<2>) -> Tensor<2> {
        let ([t, _], [rows, w]) = (x.dims(), self.depthwise_conv1d.dims());
        let nothing = Tensor::<2>::zeros([rows - 1, w], &x.device());
        let x = Tensor::cat(vec![nothing, x], 0);
        let weighed = |at: usize| x.clone().narrow(0, at, t) * self.depthwise_conv1d.clone().narrow(0, at, 1);
        (1..rows).fold(weighed(0), |sum, at| sum + weighed(at))
    }
}
