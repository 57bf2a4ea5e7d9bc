//! The gated feed-forward block.

use crate::nn::{Linear, SidePath};
use crate::ops::Input;
use burn::tensor::Tensor;

/// GeGLU: `down(gelu_tanh(gate(x)) * up(x))`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `[f, d]`.
    pub gate_proj: Linear,
    /// `[f, d]`.
    pub up_proj: Linear,
    /// `[d, f]`.
    pub down_proj: Linear,
}

impl Mlp {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward(&self, x: impl Into<Input>, side: &dyn SidePath) -> Tensor<2> {
        let x = x.into();
        let gate = self.gate_proj.forward(x.clone(), side); // [n, f]
        let up = self.up_proj.forward(x, side); // [n, f]
        self.down_proj.forward_gated(gate, up, side)
    }
}
