//! Putting a Gemma 3 together from its matrices and norms.

use crate::error::Result;
use crate::model::gemma3::{Gemma3, TextConfig, Vision};
use crate::model::vision::siglip::{MultiModalProjector, VisionTower};
use crate::model::{DecoderConfig, DecoderLayer, Gain, NormShape, Parts, Rotary};
use crate::nn::{Attention, Linear, Mlp};
use crate::weights::names::{LayerNorm, Projection, TensorId};
use burn::tensor::Device;
use std::collections::BTreeMap;

impl Gemma3 {
    /// Puts together the model that `config` describes, from the embedding to the last layer.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: TextConfig, parts: &mut dyn Parts, device: &Device) -> Result<Self> {
        let vocabulary = [config.vocab_size, config.hidden_size];
        let embed_tokens = parts.matrix(TensorId::EmbedTokens, vocabulary)?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => parts.matrix(TensorId::LmHead, vocabulary)?,
        };
        let norm = parts.norm(TensorId::Norm, norm_shape(&config, config.hidden_size))?;
        parts.layer_done();
        let numbers = config.sites().into_iter().map(|site| (site.weight, site.index)).collect();
        let layers = (0..config.num_hidden_layers)
            .map(|index| layer(&config, index, &numbers, parts).inspect(|_| parts.layer_done()))
            .collect::<Result<_>>()?;
        let vision = Vision::assemble(&config, parts)?;
        let rotary = Rotary::new([config.rope_local, config.rope_global], config.head_dim, device);
        Ok(Gemma3 { config, embed_tokens, layers, norm, lm_head, vision, rotary, device: device.clone() })
    }
}

impl Vision {
    /// Puts together what looks at pictures in the model that `config` describes; `None` where nothing does.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: &TextConfig, parts: &mut dyn Parts) -> Result<Option<Self>> {
        let Some(images) = &config.images else { return Ok(None) };
        let (tower, tokens) = (&images.vision_config, images.mm_tokens_per_image);
        let sites = config.tower_sites();
        let vision_tower = images.has_tower.then(|| VisionTower::assemble(tower, &sites, parts)).transpose()?;
        let multi_modal_projector = MultiModalProjector::assemble(tower, tokens, config.hidden_size, parts)?;
        Ok(Some(Vision { vision_tower, multi_modal_projector }))
    }
}

fn norm_shape(config: &TextConfig, width: usize) -> NormShape {
    NormShape { width, eps: config.rms_norm_eps, gain: Gain::OnePlus }
}

fn layer(
    config: &TextConfig,
    layer: usize,
    numbers: &BTreeMap<TensorId, usize>,
    parts: &mut dyn Parts,
) -> Result<DecoderLayer> {
    let &TextConfig { hidden_size: d, intermediate_size: f, head_dim: e, .. } = config;
    let &TextConfig { num_attention_heads: h, num_key_value_heads: g, .. } = config;
    let mut linear = |projection, out, input| -> Result<Linear> {
        let id = TensorId::Projection(layer, projection);
        Ok(Linear { site: numbers[&id], weight: parts.matrix(id, [out, input])? })
    };
    let [q_proj, k_proj] = [linear(Projection::Q, h * e, d)?, linear(Projection::K, g * e, d)?];
    let [v_proj, o_proj] = [linear(Projection::V, g * e, d)?, linear(Projection::O, d, h * e)?];
    let mlp = Mlp {
        gate_proj: linear(Projection::Gate, f, d)?,
        up_proj: linear(Projection::Up, f, d)?,
        down_proj: linear(Projection::Down, d, f)?,
    };
    let mut norm = |which, width| parts.norm(TensorId::LayerNorm(layer, which), norm_shape(config, width));
    let [q_norm, k_norm] = [norm(LayerNorm::QNorm, e)?, norm(LayerNorm::KNorm, e)?];
    Ok(DecoderLayer {
        input_layernorm: norm(LayerNorm::InputLayernorm, d)?,
        self_attn: Attention { config: config.attention(layer), q_proj, k_proj, v_proj, o_proj, q_norm, k_norm },
        post_attention_layernorm: norm(LayerNorm::PostAttentionLayernorm, d)?,
        pre_feedforward_layernorm: norm(LayerNorm::PreFeedforwardLayernorm, d)?,
        mlp,
        post_feedforward_layernorm: norm(LayerNorm::PostFeedforwardLayernorm, d)?,
    })
}
