//! The block of the later stages.

use crate::model::vision::mobilenet::conv::ConvNormAct;
use burn::tensor::Tensor;

/// What widens and narrows, with convolutions of each channel before, between and after where they are there; each has a
/// norm behind it, and those inside an activation.
///
/// # Source
/// timm's `UniversalInvertedResidual`; Qin et al. 2024, section 3.
#[derive(Debug, Clone)]
pub struct UniversalInvertedResidual {
    /// Before: no activation.
    pub dw_start: Option<ConvNormAct>,
    /// What widens.
    pub pw_exp: ConvNormAct,
    /// Between.
    pub dw_mid: Option<ConvNormAct>,
    /// What narrows: no activation.
    pub pw_proj: ConvNormAct,
    /// After: no activation.
    pub dw_end: Option<ConvNormAct>,
    /// What is multiplied with each channel before the residual sum, `[1, 1, o]`; `None` of 1.
    pub layer_scale: Option<Tensor<3>>,
    /// Whether its input is added to its output.
    pub has_skip: bool,
}

impl UniversalInvertedResidual {
    /// Runs the block.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let maybe = |conv: &Option<ConvNormAct>, x: Tensor<3>| match conv {
            Some(conv) => conv.forward(x),
            None => x,
        };
        let y = self.pw_exp.forward(maybe(&self.dw_start, x.clone()));
        let y = self.pw_proj.forward(maybe(&self.dw_mid, y));
        let y = scaled(maybe(&self.dw_end, y), self.layer_scale.as_ref());
        if self.has_skip { y + x } else { y }
    }
}

/// Each channel times a number.
pub(super) fn scaled(x: Tensor<3>, scale: Option<&Tensor<3>>) -> Tensor<3> {
    match scale {
        Some(scale) => x * scale.clone(),
        None => x,
    }
}
