//! Putting the parts of a tower together.

use crate::error::Result;
use crate::model::parts::{Gain, NormShape, Parts};
use crate::model::vision::mobilenet::attention::{MobileAttention, Projected};
use crate::model::vision::mobilenet::block::Block;
use crate::model::vision::mobilenet::config::{BlockConfig, BlockKind};
use crate::model::vision::mobilenet::conv::{Conv, ConvNormAct, DepthwiseConv, FullConv, PointwiseConv};
use crate::model::vision::mobilenet::edge_residual::EdgeResidual;
use crate::model::vision::mobilenet::inverted_residual::UniversalInvertedResidual;
use crate::nn::RmsNorm;
use crate::ops::Weight;
use crate::weights::names::{BlockTensor, MobileNetTensor, TensorId};
use burn::tensor::Tensor;

/// Added to the mean square in every norm.
const EPS: f64 = 1e-6;

pub(super) struct Maker<'a> {
    pub parts: &'a mut dyn Parts,
}

impl Maker<'_> {
    pub fn norm(&mut self, id: MobileNetTensor, width: usize) -> Result<RmsNorm> {
        self.parts.norm(TensorId::MobileNet(id), NormShape { width, eps: EPS, gain: Gain::Plain })
    }

    pub fn pointwise(&mut self, id: MobileNetTensor, [o, c]: [usize; 2]) -> Result<PointwiseConv> {
        Ok(PointwiseConv { weight: self.parts.kernel(TensorId::MobileNet(id), [o, c, 1, 1])? })
    }

    pub fn depthwise(&mut self, id: MobileNetTensor, c: usize, kernel: usize, stride: usize) -> Result<DepthwiseConv> {
        let weight = self.parts.kernel(TensorId::MobileNet(id), [c, 1, kernel, kernel])?;
        Ok(DepthwiseConv { kernel: weight.to_f32().transpose(), stride })
    }

    pub fn full(
        &mut self,
        id: MobileNetTensor,
        [o, c]: [usize; 2],
        kernel: usize,
        stride: usize,
        bias: Option<MobileNetTensor>,
    ) -> Result<FullConv> {
        let weight = self.parts.kernel(TensorId::MobileNet(id), [o, c, kernel, kernel])?.to_f32();
        // Cells of the kernel one after the other, each with its channels, as patches have them.
        let cells = weight.reshape([o, c, kernel * kernel]).swap_dims(1, 2).reshape([o, kernel * kernel * c]);
        let bias = bias.map(|bias| self.parts.vector(TensorId::MobileNet(bias), o)).transpose()?;
        Ok(FullConv { weight: Weight::new(cells), bias, kernel, stride })
    }

    /// A pointwise convolution and its norm.
    pub fn pointwise_norm(
        &mut self,
        [conv, bn]: [MobileNetTensor; 2],
        [o, c]: [usize; 2],
        act: bool,
    ) -> Result<ConvNormAct> {
        Ok(ConvNormAct { conv: Conv::Pointwise(self.pointwise(conv, [o, c])?), bn: self.norm(bn, o)?, act })
    }

    /// The block `index` of a stage.
    pub fn block(&mut self, stage: usize, index: usize, config: &BlockConfig) -> Result<Block> {
        let (c, o, f, stride) = (config.in_channels, config.out_channels, config.expanded(), config.stride);
        let has_skip = config.has_skip();
        let id = |part| MobileNetTensor::Block(stage, index, part);
        match config.kind {
            BlockKind::EdgeResidual { kernel, .. } => {
                let conv = Conv::Full(self.full(id(BlockTensor::ConvExp), [f, c], kernel, stride, None)?);
                let expansion = ConvNormAct { conv, bn: self.norm(id(BlockTensor::Bn1), f)?, act: true };
                let projection = [BlockTensor::ConvPwl, BlockTensor::Bn2].map(id);
                let projection = self.pointwise_norm(projection, [o, f], false)?;
                Ok(Block::EdgeResidual(EdgeResidual { expansion, projection, has_skip }))
            }
            BlockKind::UniversalInvertedResidual { start, mid, end, .. } => {
                // The first convolution that has more than one cell and stands as late as it may makes the steps.
                let at_mid = if mid > 0 { stride } else { 1 };
                let at_start = if start > 0 && mid == 0 { stride } else { 1 };
                let at_end = if start == 0 && mid == 0 { stride } else { 1 };
                let mut maybe = |[conv, bn]: [BlockTensor; 2], channels, kernel, stride, act| -> Result<_> {
                    if kernel == 0 {
                        return Ok(None);
                    }
                    let conv = Conv::Depthwise(self.depthwise(id(conv), channels, kernel, stride)?);
                    Ok(Some(ConvNormAct { conv, bn: self.norm(id(bn), channels)?, act }))
                };
                let dw_start = maybe([BlockTensor::DwStartConv, BlockTensor::DwStartBn], c, start, at_start, false)?;
                let dw_mid = maybe([BlockTensor::DwMidConv, BlockTensor::DwMidBn], f, mid, at_mid, true)?;
                let dw_end = maybe([BlockTensor::DwEndConv, BlockTensor::DwEndBn], o, end, at_end, false)?;
                Ok(Block::UniversalInvertedResidual(UniversalInvertedResidual {
                    dw_start,
                    pw_exp: self.pointwise_norm(
                        [BlockTensor::PwExpConv, BlockTensor::PwExpBn].map(id),
                        [f, c],
                        true,
                    )?,
                    dw_mid,
                    pw_proj: self.pointwise_norm(
                        [BlockTensor::PwProjConv, BlockTensor::PwProjBn].map(id),
                        [o, f],
                        false,
                    )?,
                    dw_end,
                    layer_scale: Some(self.layer_scale(id(BlockTensor::LayerScale), o)?),
                    has_skip,
                }))
            }
            BlockKind::MobileAttention { num_heads, key_dim, kv_stride, kernel } => {
                let mut projected = |down: [BlockTensor; 2], proj| -> Result<Projected> {
                    let [conv, norm] = down.map(id);
                    let down_conv = match kv_stride {
                        1 => None,
                        _ => Some(ConvNormAct {
                            conv: Conv::Depthwise(self.depthwise(conv, c, kernel, kv_stride)?),
                            bn: self.norm(norm, c)?,
                            act: false,
                        }),
                    };
                    Ok(Projected { down_conv, proj: self.pointwise(id(proj), [key_dim, c])? })
                };
                let key = projected([BlockTensor::KeyDownConv, BlockTensor::KeyNorm], BlockTensor::Key)?;
                let value = projected([BlockTensor::ValueDownConv, BlockTensor::ValueNorm], BlockTensor::Value)?;
                Ok(Block::MobileAttention(MobileAttention {
                    norm: self.norm(id(BlockTensor::Norm), c)?,
                    num_heads,
                    query: self.pointwise(id(BlockTensor::Query), [num_heads * key_dim, c])?,
                    key,
                    value,
                    output: self.pointwise(id(BlockTensor::Output), [o, num_heads * key_dim])?,
                    layer_scale: self.layer_scale(id(BlockTensor::LayerScale), o)?,
                    has_skip,
                }))
            }
        }
    }

    fn layer_scale(&mut self, id: MobileNetTensor, o: usize) -> Result<Tensor<3>> {
        Ok(self.parts.vector(TensorId::MobileNet(id), o)?.reshape([1, 1, o]))
    }
}
