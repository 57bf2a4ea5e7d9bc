//! The tower that listens: convolutions that shorten a clip, then a conformer.

use crate::error::Result;
use crate::model::audio::attention::{AudioAttention, ConformerAttention};
use crate::model::audio::block::ConformerBlock;
use crate::model::audio::config::AudioConfig;
use crate::model::audio::feed_forward::ConformerFeedForward;
use crate::model::audio::light_conv::LightConv;
use crate::model::audio::position::RelativePositions;
use crate::model::audio::subsample::{ConvBlock, CumulativeGroupNorm, SubSampleConvProjection};
use crate::model::parts::{Gain, NormShape, Parts};
use crate::model::site::Site;
use crate::nn::{Linear, RmsNorm, SidePath};
use crate::weights::names::{AudioModule, AudioNorm, AudioProjection, AudioTensor, TensorId};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Int, Tensor};
use std::collections::BTreeMap;
use std::f64::consts::LN_2;

/// What the norms of a block but those of its light convolution add to the mean square, whatever the configuration says.
const NORM_EPS: f64 = 1e-6;

/// A frozen Gemma 3n audio tower.
///
/// # Source
/// Zhang et al. 2023 (Universal Speech Model), section 2; checked part by part by the goldens of
/// `scripts/make_gemma3n_audio_goldens.py`.
#[derive(Debug, Clone)]
pub struct AudioTower {
    /// From frames to rows.
    pub subsample_conv_projection: SubSampleConvProjection,
    /// First to last.
    pub conformer: Vec<ConformerBlock>,
    /// Of so many rows the first is handed on.
    pub reduction_factor: usize,
}

impl AudioTower {
    /// Puts together the tower that `config` describes, whose linear layers are among these `sites`.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(
        config: &AudioConfig,
        sites: &BTreeMap<TensorId, Site>,
        parts: &mut dyn Parts,
        device: &Device,
    ) -> Result<Self> {
        let mut maker = Maker { config, sites, parts, device };
        let convs = [maker.conv(0)?, maker.conv(1)?];
        let input_proj_linear = maker.linear(AudioModule::InputProjection)?;
        let conformer = (0..config.conf_num_hidden_layers).map(|block| maker.block(block)).collect::<Result<_>>()?;
        Ok(AudioTower {
            subsample_conv_projection: SubSampleConvProjection { convs, input_proj_linear },
            conformer,
            reduction_factor: config.conf_reduction_factor,
        })
    }

    /// Its linear layers, in the order of [`AudioConfig::linears`].
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let blocks = self.conformer.iter().flat_map(ConformerBlock::linears);
        std::iter::once(&self.subsample_conv_projection.input_proj_linear).chain(blocks)
    }

    /// What the tower hears in one clip.
    ///
    /// # Shapes
    /// - `frames`: `[1, frames, bins]`, log-mel
    /// - output: `[t, w]`
    pub fn forward(&self, frames: Tensor<3>, side: &dyn SidePath) -> Tensor<2> {
        let x = self.subsample_conv_projection.forward(frames.permute([1, 2, 0]), side);
        let ([rows, _], device) = (x.dims(), x.device().inner());
        let mask = self.conformer.first().map(|block| block.attention.attn.mask(rows, &device));
        let x = match mask {
            Some(mask) => self.conformer.iter().fold(x, |x, block| block.forward(x, &mask, side)),
            None => x,
        };
        let kept = Tensor::<1, Int>::arange_step(0..rows as i64, self.reduction_factor, &device);
        x.select(0, kept)
    }
}

struct Maker<'a> {
    config: &'a AudioConfig,
    sites: &'a BTreeMap<TensorId, Site>,
    parts: &'a mut dyn Parts,
    device: &'a Device,
}

fn weight(module: AudioModule) -> TensorId {
    TensorId::Audio(AudioTensor::Weight(module))
}

impl Maker<'_> {
    fn linear(&mut self, module: AudioModule) -> Result<Linear> {
        let site = self.sites[&weight(module)];
        Ok(Linear { site: site.index, weight: self.parts.matrix(site.weight, site.dims())? })
    }

    fn norm(&mut self, block: usize, norm: AudioNorm, eps: f64) -> Result<RmsNorm> {
        let shape = NormShape { width: self.config.hidden_size, eps, gain: Gain::Plain };
        self.parts.norm(weight(AudioModule::Norm(block, norm)), shape)
    }

    fn conv(&mut self, at: usize) -> Result<ConvBlock> {
        let (dims, config) = (self.config.kernel(at), self.config);
        let kernel = self.parts.kernel(weight(AudioModule::Conv(at)), dims)?.to_f32();
        let weight = self.parts.vector(weight(AudioModule::ConvNorm(at)), dims[0])?;
        let norm = CumulativeGroupNorm { weight, eps: config.sscp_conv_group_norm_eps };
        Ok(ConvBlock::new(kernel, dims, config.sscp_conv_stride_size[at], norm))
    }

    fn block(&mut self, block: usize) -> Result<ConformerBlock> {
        let gradient_clipping = self.config.gradient_clipping;
        let start = [AudioProjection::StartUp, AudioProjection::StartDown];
        let end = [AudioProjection::EndUp, AudioProjection::EndDown];
        Ok(ConformerBlock {
            ffw_layer_start: self.feed_forward(block, start, [AudioNorm::StartPre, AudioNorm::StartPost])?,
            attention: ConformerAttention {
                pre_attn_norm: self.norm(block, AudioNorm::PreAttn, NORM_EPS)?,
                attn: self.attention(block)?,
                post: self.linear(AudioModule::Projection(block, AudioProjection::Post))?,
                post_norm: self.norm(block, AudioNorm::PostAttn, NORM_EPS)?,
                gradient_clipping,
            },
            lconv1d: self.light_conv(block)?,
            ffw_layer_end: self.feed_forward(block, end, [AudioNorm::EndPre, AudioNorm::EndPost])?,
            gradient_clipping,
            norm: self.norm(block, AudioNorm::Block, NORM_EPS)?,
        })
    }

    fn feed_forward(
        &mut self,
        block: usize,
        [up, down]: [AudioProjection; 2],
        [pre, post]: [AudioNorm; 2],
    ) -> Result<ConformerFeedForward> {
        Ok(ConformerFeedForward {
            pre_layer_norm: self.norm(block, pre, NORM_EPS)?,
            ffw_layer_1: self.linear(AudioModule::Projection(block, up))?,
            ffw_layer_2: self.linear(AudioModule::Projection(block, down))?,
            post_layer_norm: self.norm(block, post, NORM_EPS)?,
            post_layer_scale: self.config.conf_residual_weight,
            gradient_clipping: self.config.gradient_clipping,
        })
    }

    fn attention(&mut self, block: usize) -> Result<AudioAttention> {
        let config = self.config;
        let (h, e) = (config.conf_num_attention_heads, config.head_dim());
        let (past, future) = (config.past(), config.conf_attention_context_right);
        let linear = |maker: &mut Self, part| maker.linear(AudioModule::Projection(block, part));
        let per_dim_scale = self.parts.vector(TensorId::Audio(AudioTensor::PerDimScale(block)), e)?;
        let query_scale = softplus(per_dim_scale, 1.0).mul_scalar((e as f64).powf(-0.5) / LN_2);
        Ok(AudioAttention {
            num_heads: h,
            chunk_size: config.conf_attention_chunk_size,
            past,
            future,
            softcap: config.conf_attention_logit_cap,
            query_scale: query_scale.reshape([1, e]).repeat_dim(1, h),
            q_proj: linear(self, AudioProjection::Q)?,
            k_proj: linear(self, AudioProjection::K)?,
            v_proj: linear(self, AudioProjection::V)?,
            relative_position_embedding: RelativePositions {
                waves: RelativePositions::waves(past, future, config.hidden_size, self.device),
                pos_proj: linear(self, AudioProjection::Positions)?,
            },
        })
    }

    fn light_conv(&mut self, block: usize) -> Result<LightConv> {
        let eps = self.config.rms_norm_eps;
        let kernel =
            self.parts.row_kernel(weight(AudioModule::DepthwiseConv(block)), self.config.depthwise_kernel())?;
        Ok(LightConv {
            pre_layer_norm: self.norm(block, AudioNorm::ConvPre, eps)?,
            linear_start: self.linear(AudioModule::Projection(block, AudioProjection::LinearStart))?,
            depthwise_conv1d: kernel.to_f32().transpose(),
            gradient_clipping: self.config.gradient_clipping,
            conv_norm: self.norm(block, AudioNorm::Conv, eps)?,
            linear_end: self.linear(AudioModule::Projection(block, AudioProjection::LinearEnd))?,
        })
    }
}
