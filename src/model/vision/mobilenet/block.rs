//! A block of the tower.

use crate::model::vision::mobilenet::attention::MobileAttention;
use crate::model::vision::mobilenet::edge_residual::EdgeResidual;
use crate::model::vision::mobilenet::inverted_residual::UniversalInvertedResidual;
use burn::tensor::Tensor;

/// Any of the tower's blocks.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "few of them, and each once")]
pub enum Block {
    /// Of the first stage.
    EdgeResidual(EdgeResidual),
    /// Of the later ones.
    UniversalInvertedResidual(UniversalInvertedResidual),
    /// Of the last ones.
    MobileAttention(MobileAttention),
}

impl Block {
    /// Runs the block.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Block::EdgeResidual(block) => block.forward(x),
            Block::UniversalInvertedResidual(block) => block.forward(x),
            Block::MobileAttention(block) => block.forward(x),
        }
    }
}
