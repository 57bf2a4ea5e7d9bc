//! The tower that looks at pictures in Gemma 3n.

use crate::error::Result;
use crate::model::parts::Parts;
use crate::model::vision::mobilenet::block::Block;
use crate::model::vision::mobilenet::config::MobileNetConfig;
use crate::model::vision::mobilenet::conv::{Conv, ConvNormAct};
use crate::model::vision::mobilenet::fusion::MultiScaleFusion;
use crate::model::vision::mobilenet::inverted_residual::UniversalInvertedResidual;
use crate::model::vision::mobilenet::parts::Maker;
use crate::model::vision::mobilenet::shapes::{COLOURS, STEM_KERNEL};
use crate::weights::names::MobileNetTensor;
use burn::tensor::Tensor;

/// The stem halves a picture, and so does every stage.
const STEM_STRIDE: usize = 2;

/// A frozen MobileNetV5 encoder.
///
/// # Source
/// timm's `mobilenetv5_300m_enc`; checked block by block by the goldens of `scripts/make_gemma3n_vision_goldens.py`.
#[derive(Debug, Clone)]
pub struct MobileNet {
    /// From colours to channels.
    pub conv_stem: ConvNormAct,
    /// The blocks of each stage, first to last.
    pub blocks: Vec<Vec<Block>>,
    /// What fuses what the last two stages give.
    pub msfa: MultiScaleFusion,
}

impl MobileNet {
    /// Puts together the tower that `config` describes.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: &MobileNetConfig, parts: &mut dyn Parts) -> Result<Self> {
        let mut maker = Maker { parts };
        let stem = config.stem_size;
        let bias = Some(MobileNetTensor::StemBias);
        let conv = maker.full(MobileNetTensor::StemConv, [stem, COLOURS], STEM_KERNEL, STEM_STRIDE, bias)?;
        let conv_stem =
            ConvNormAct { conv: Conv::Full(conv), bn: maker.norm(MobileNetTensor::StemBn, stem)?, act: true };
        let stages = config.stages.iter().enumerate();
        let blocks = stages.map(|(stage, blocks)| {
            blocks.iter().enumerate().map(|(index, block)| maker.block(stage, index, block)).collect::<Result<_>>()
        });
        let blocks = blocks.collect::<Result<_>>()?;
        let (w, f, c) = (config.hidden_size, config.fusion_expanded(), config.fused_channels());
        let exp = [MobileNetTensor::FusionExpConv, MobileNetTensor::FusionExpBn];
        let proj = [MobileNetTensor::FusionProjConv, MobileNetTensor::FusionProjBn];
        let msfa = MultiScaleFusion {
            ffn: UniversalInvertedResidual {
                dw_start: None,
                pw_exp: maker.pointwise_norm(exp, [f, c], true)?,
                dw_mid: None,
                pw_proj: maker.pointwise_norm(proj, [w, f], false)?,
                dw_end: None,
                layer_scale: None,
                has_skip: false,
            },
            norm: maker.norm(MobileNetTensor::FusionNorm, w)?,
            output_resolution: config.msfa_output_resolution,
        };
        Ok(MobileNet { conv_stem, blocks, msfa })
    }

    /// What the tower sees in a picture, rows of cells one after the other. Nothing of it is in a gradient graph.
    ///
    /// # Shapes
    /// - `pixels`: `[3, height, width]`, prepared: from 0 to 1
    /// - output: `[p, w]`
    pub fn forward(&self, pixels: Tensor<3>) -> Tensor<2> {
        let mut x = self.conv_stem.forward(cells(pixels));
        let mut scales = vec![x.clone()];
        for stage in &self.blocks {
            x = stage.iter().fold(x, |x, block| block.forward(x));
            scales.push(x.clone());
            // Of those before the last two nothing more is needed.
            let done = scales.len().saturating_sub(2);
            scales.drain(..done);
        }
        drop(x);
        let fused = self.msfa.forward(scales);
        let [height, width, w] = fused.dims();
        fused.reshape([height * width, w])
    }
}

/// A prepared picture as a grid of cells.
///
/// # Shapes
/// - `pixels`: `[3, height, width]`
/// - output: `[height, width, 3]`
pub fn cells(pixels: Tensor<3>) -> Tensor<3> {
    pixels.inner().permute([1, 2, 0])
}
