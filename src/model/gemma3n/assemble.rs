//! Putting a Gemma 3n together from its matrices and norms.

use crate::error::Result;
use crate::model::gemma3n::altup::AltUp;
use crate::model::gemma3n::audio::Audio;
use crate::model::gemma3n::gate::SparseMlp;
use crate::model::gemma3n::layer::{Laurel, Layer, PerLayer};
use crate::model::gemma3n::vision::Vision;
use crate::model::gemma3n::{Gemma3n, TextConfig};
use crate::model::{DecoderConfig, Gain, NormShape, Parts, Rotary, Site};
use crate::nn::{KeysValues, Linear, Mlp, Queries, RmsNorm};
use crate::weights::names::{LayerNorm, Projection, TensorId};
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;

impl Gemma3n {
    /// Puts together the model that `config` describes, from the embedding to the last layer.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(config: TextConfig, parts: &mut dyn Parts, device: &Device) -> Result<Self> {
        let (d, p, layers) = (config.hidden_size, config.hidden_size_per_layer_input, config.num_hidden_layers());
        let embed_tokens = parts.matrix(TensorId::EmbedTokens, [config.vocab_size, d])?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => parts.matrix(TensorId::LmHead, [config.vocab_size, d])?,
        };
        let embed_tokens_per_layer = parts.table(TensorId::EmbedTokensPerLayer, config.per_layer_table())?;
        let sites = config.sites().into_iter().chain(config.tower_sites()).map(|site| (site.weight, site)).collect();
        let mut maker = Maker { config: &config, sites, parts, device };
        let streams = 1..config.altup_num_inputs;
        let per_layer_model_projection = maker.linear(TensorId::PerLayerModelProjection)?;
        let altup_projections: Result<_> =
            streams.clone().map(|at| maker.linear(TensorId::AltupProjection(at - 1))).collect();
        let altup_unembed_projections: Result<_> =
            streams.map(|at| maker.linear(TensorId::AltupUnembedProjection(at - 1))).collect();
        let (altup_projections, altup_unembed_projections) = (altup_projections?, altup_unembed_projections?);
        let per_layer_projection_norm = maker.norm(TensorId::PerLayerProjectionNorm, p)?;
        let norm = maker.norm(TensorId::Norm, d)?;
        maker.parts.layer_done();
        let layers =
            (0..layers).map(|index| maker.layer(index).inspect(|_| maker.parts.layer_done())).collect::<Result<_>>()?;
        let vision = config.images.as_ref();
        let vision = vision.map(|images| Vision::assemble(images, d, &maker.sites, maker.parts, device)).transpose()?;
        // The last word of all pads clips, as transformers has it.
        let (audio, padding) = (config.sounds.as_ref(), config.padding_word());
        let audio = audio.map(|sounds| Audio::assemble(sounds, d, padding, &maker.sites, maker.parts, device));
        let audio = audio.transpose()?;
        Ok(Gemma3n {
            embed_tokens,
            embed_tokens_per_layer,
            per_layer_model_projection,
            per_layer_projection_norm,
            altup_projections,
            altup_unembed_projections,
            layers,
            norm,
            lm_head,
            vision,
            audio,
            rotary: Rotary::new([config.rope_local, config.rope_global], config.head_dim, device),
            device: device.clone(),
            config,
        })
    }
}

struct Maker<'a> {
    config: &'a TextConfig,
    sites: BTreeMap<TensorId, Site>,
    parts: &'a mut dyn Parts,
    device: &'a Device,
}

impl Maker<'_> {
    fn linear(&mut self, id: TensorId) -> Result<Linear> {
        let site = self.sites[&id];
        Ok(Linear { site: site.index, weight: self.parts.matrix(id, site.dims())? })
    }

    fn norm(&mut self, id: TensorId, width: usize) -> Result<RmsNorm> {
        self.parts.norm(id, NormShape { width, eps: self.config.rms_norm_eps, gain: Gain::Plain })
    }

    fn layer(&mut self, layer: usize) -> Result<Layer> {
        let &TextConfig { hidden_size: d, head_dim: e, altup_active_idx: active, .. } = self.config;
        let linear = |maker: &mut Self, id| maker.linear(TensorId::Projection(layer, id));
        let norm = |maker: &mut Self, id, width| maker.norm(TensorId::LayerNorm(layer, id), width);
        let keys_values = match layer < self.config.first_shared_layer() {
            false => None,
            true => Some(KeysValues {
                k_proj: linear(self, Projection::K)?,
                v_proj: linear(self, Projection::V)?,
                k_norm: norm(self, LayerNorm::KNorm, e)?,
                v_norm: RmsNorm::new(Tensor::ones([e], self.device), self.config.rms_norm_eps),
            }),
        };
        let correct_output_scale = match self.config.altup_correct_scale {
            false => None,
            true => Some(self.parts.vector(TensorId::LayerNorm(layer, LayerNorm::CorrectScale), d)?.reshape([1, d])),
        };
        Ok(Layer {
            altup: AltUp {
                active,
                router_norm: norm(self, LayerNorm::RouterNorm, d)?,
                modality_router: linear(self, Projection::AltupRouter)?,
                prediction_coefs: linear(self, Projection::AltupPrediction)?,
                correction_coefs: linear(self, Projection::AltupCorrection)?,
                correct_output_scale,
            },
            input_layernorm: norm(self, LayerNorm::InputLayernorm, d)?,
            laurel: Laurel {
                linear_left: linear(self, Projection::LaurelLeft)?,
                linear_right: linear(self, Projection::LaurelRight)?,
                post_laurel_norm: norm(self, LayerNorm::PostLaurelNorm, d)?,
            },
            queries: Queries {
                config: self.config.attention(layer),
                q_proj: linear(self, Projection::Q)?,
                o_proj: linear(self, Projection::O)?,
                q_norm: norm(self, LayerNorm::QNorm, e)?,
            },
            keys_values,
            post_attention_layernorm: norm(self, LayerNorm::PostAttentionLayernorm, d)?,
            pre_feedforward_layernorm: norm(self, LayerNorm::PreFeedforwardLayernorm, d)?,
            mlp: SparseMlp {
                mlp: Mlp {
                    gate_proj: linear(self, Projection::Gate)?,
                    up_proj: linear(self, Projection::Up)?,
                    down_proj: linear(self, Projection::Down)?,
                },
                cutoff: SparseMlp::cutoff_of(self.config.activation_sparsity_pattern[layer]),
            },
            post_feedforward_layernorm: norm(self, LayerNorm::PostFeedforwardLayernorm, d)?,
            per_layer: PerLayer {
                gate: linear(self, Projection::PerLayerGate)?,
                projection: linear(self, Projection::PerLayerProjection)?,
                norm: norm(self, LayerNorm::PostPerLayerInputNorm, d)?,
            },
        })
    }
}
