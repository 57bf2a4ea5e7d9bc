//! The block of the first stage.

use crate::model::vision::mobilenet::conv::ConvNormAct;
use burn::tensor::Tensor;

/// A convolution that widens, and what narrows: `x + bn2(conv_pwl(gelu_tanh(bn1(conv_exp(x)))))`, where both ends have one
/// shape.
///
/// # Source
/// timm's `EdgeResidual`; Gupta & Akin 2020, section 3.2.
#[derive(Debug, Clone)]
pub struct EdgeResidual {
    /// `conv_exp` and `bn1`.
    pub expansion: ConvNormAct,
    /// `conv_pwl` and `bn2`.
    pub projection: ConvNormAct,
    /// Whether its input is added to its output.
    pub has_skip: bool,
}

impl EdgeResidual {
    /// Runs the block.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = self.projection.forward(self.expansion.forward(x.clone()));
        if self.has_skip { y + x } else { y }
    }
}
