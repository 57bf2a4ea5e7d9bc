//! The tower that looks at pictures: SigLIP, without its pooling head.

use crate::error::Result;
use crate::model::parts::Parts;
use crate::model::site::Site;
use crate::model::vision::siglip::attention::{VisionAttention, everyone};
use crate::model::vision::siglip::config::VisionConfig;
use crate::model::vision::siglip::embeddings::VisionEmbeddings;
use crate::model::vision::siglip::encoder_layer::VisionEncoderLayer;
use crate::model::vision::siglip::mlp::VisionMlp;
use crate::nn::{BiasedLinear, LayerNorm, Linear, SidePath};
use crate::weights::names::{TensorId, VisionModule, VisionProjection, VisionTensor};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

/// A frozen SigLIP tower.
///
/// # Source
/// Zhai et al. 2023; checked layer by layer by the goldens of `scripts/make_vision_goldens.py`.
#[derive(Debug, Clone)]
pub struct VisionTower {
    /// From pixels to patches.
    pub embeddings: VisionEmbeddings,
    /// First to last.
    pub layers: Vec<VisionEncoderLayer>,
    /// After the last layer.
    pub post_layernorm: LayerNorm,
}

impl VisionTower {
    /// Puts together the tower that `config` describes, whose linear layers are these `sites`.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: &VisionConfig, sites: &[Site], parts: &mut dyn Parts) -> Result<Self> {
        let w = config.hidden_size;
        let (side, channels) = (config.patch_size, config.num_channels);
        let patches = VisionModule::PatchEmbedding;
        let positions = TensorId::Vision(VisionTensor::PositionEmbedding);
        let embeddings = VisionEmbeddings {
            patch_embedding: parts.kernel(weight(patches), [w, channels, side, side])?,
            patch_bias: parts.vector(bias(patches), w)?,
            position_embedding: parts.matrix(positions, [config.num_patches(), w])?.to_f32(),
            patch_size: side,
        };
        let sites: BTreeMap<_, _> = sites.iter().map(|site| (site.weight, site)).collect();
        let layers = (0..config.num_hidden_layers).map(|index| layer(config, index, &sites, parts));
        let layers = layers.collect::<Result<_>>()?;
        let post_layernorm = layer_norm(VisionModule::PostLayernorm, config, parts)?;
        Ok(VisionTower { embeddings, layers, post_layernorm })
    }

    /// What the tower sees in a picture.
    ///
    /// # Shapes
    /// - `pixels`: `[channels, height, width]`, prepared: from -1 to 1
    /// - output: `[p, w]`
    pub fn forward(&self, pixels: Tensor<3>, side: &dyn SidePath) -> Tensor<2> {
        let x = self.embeddings.forward(pixels);
        let everyone = everyone(x.dims()[0]);
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, &everyone, side));
        self.post_layernorm.forward(x)
    }
}

fn weight(module: VisionModule) -> TensorId {
    TensorId::Vision(VisionTensor::Weight(module))
}

fn bias(module: VisionModule) -> TensorId {
    TensorId::Vision(VisionTensor::Bias(module))
}

fn layer(
    config: &VisionConfig,
    index: usize,
    sites: &BTreeMap<TensorId, &Site>,
    parts: &mut dyn Parts,
) -> Result<VisionEncoderLayer> {
    let mut linear = |part| -> Result<BiasedLinear> {
        let module = VisionModule::Projection(index, part);
        let site = sites[&weight(module)];
        let linear = Linear { site: site.index, weight: parts.matrix(site.weight, site.dims())? };
        Ok(BiasedLinear { linear, bias: parts.vector(bias(module), site.out_features)? })
    };
    let self_attn = VisionAttention {
        num_heads: config.num_attention_heads,
        q_proj: linear(VisionProjection::Q)?,
        k_proj: linear(VisionProjection::K)?,
        v_proj: linear(VisionProjection::V)?,
        out_proj: linear(VisionProjection::Out)?,
    };
    let mlp = VisionMlp { fc1: linear(VisionProjection::Fc1)?, fc2: linear(VisionProjection::Fc2)? };
    let layer_norm1 = layer_norm(VisionModule::LayerNorm1(index), config, parts)?;
    let layer_norm2 = layer_norm(VisionModule::LayerNorm2(index), config, parts)?;
    Ok(VisionEncoderLayer { layer_norm1, self_attn, layer_norm2, mlp })
}

fn layer_norm(module: VisionModule, config: &VisionConfig, parts: &mut dyn Parts) -> Result<LayerNorm> {
    let w = config.hidden_size;
    let [weight, bias] = [parts.vector(weight(module), w)?, parts.vector(bias(module), w)?];
    Ok(LayerNorm { weight, bias, eps: config.layer_norm_eps })
}
