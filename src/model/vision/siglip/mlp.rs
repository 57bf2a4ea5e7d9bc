//! The feed-forward block of a tower's layer.

use crate::nn::{BiasedLinear, SidePath};
use crate::ops::geglu;
use burn::tensor::Tensor;

/// `fc2(gelu_tanh(fc1(x)))`.
#[derive(Debug, Clone)]
pub struct VisionMlp {
    /// `[f, w]`.
    pub fc1: BiasedLinear,
    /// `[w, f]`.
    pub fc2: BiasedLinear,
}

impl VisionMlp {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`, output: `[p, w]`
    pub fn forward(&self, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let inner = self.fc1.forward(x, side); // [p, f]
        // The gated kernel with a gate that lets everything through: one visit each way.
        let open = inner.ones_like().inner();
        self.fc2.forward(geglu(inner, open), side)
    }
}
