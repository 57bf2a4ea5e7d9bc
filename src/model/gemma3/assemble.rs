//! Putting a Gemma 3 together from its matrices and norms.

use crate::error::Result;
use crate::model::DecoderLayer;
use crate::model::gemma3::{Gemma3, TextConfig};
use crate::nn::{Attention, AttentionConfig, Linear, Mlp, RmsNorm};
use crate::ops::Weight;
use crate::weights::names::{LayerNorm, Projection, TensorId};
use burn::tensor::Device;
use std::collections::BTreeMap;

/// Where the parts of a model come from: the files of one, or random numbers.
pub trait Parts {
    /// The matrix `[out, in]` of this name.
    ///
    /// # Errors
    /// When there is none.
    fn matrix(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight>;

    /// The norm of this name.
    ///
    /// # Errors
    /// When there is none.
    fn norm(&mut self, id: TensorId, width: usize) -> Result<RmsNorm>;

    /// Called after each layer.
    fn layer_done(&mut self) {}
}

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
        let norm = parts.norm(TensorId::Norm, config.hidden_size)?;
        parts.layer_done();
        let numbers = config.sites().into_iter().map(|site| (site.weight, site.index)).collect();
        let layers = (0..config.num_hidden_layers)
            .map(|index| layer(&config, index, &numbers, parts).inspect(|_| parts.layer_done()))
            .collect::<Result<_>>()?;
        Ok(Gemma3 { config, embed_tokens, layers, norm, lm_head, device: device.clone() })
    }
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
    let mut norm = |which, width| parts.norm(TensorId::LayerNorm(layer, which), width);
    let config = AttentionConfig {
        num_attention_heads: h,
        num_key_value_heads: g,
        head_dim: e,
        scaling: config.attention_scale(),
        kind: config.layer_types[layer],
        sliding_window: config.sliding_window,
    };
    let [q_norm, k_norm] = [norm(LayerNorm::QNorm, e)?, norm(LayerNorm::KNorm, e)?];
    Ok(DecoderLayer {
        input_layernorm: norm(LayerNorm::InputLayernorm, d)?,
        self_attn: Attention { config, q_proj, k_proj, v_proj, o_proj, q_norm, k_norm },
        post_attention_layernorm: norm(LayerNorm::PostAttentionLayernorm, d)?,
        pre_feedforward_layernorm: norm(LayerNorm::PreFeedforwardLayernorm, d)?,
        mlp,
        post_feedforward_layernorm: norm(LayerNorm::PostFeedforwardLayernorm, d)?,
    })
}
