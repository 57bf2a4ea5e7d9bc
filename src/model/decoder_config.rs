//! What the configuration of every decoder says.

use crate::model::media_shape::{MediaShape, TowerWork};
use crate::model::site::{Places, Site, WholeTensor};

use crate::error::{Error, Kind, Result};
use crate::nn::{AttentionConfig, AttentionKind};
use crate::weights::gguf;
use crate::weights::names::TensorId;
use crate::weights::slice::Slice;
use serde_json::Value;
use std::fmt;

/// What a model needs beyond a residual stream per layer and what attention and feed-forward keep; what is kept for the way
/// back in numbers of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beyond {
    /// Of each layer's input: further streams.
    pub per_input: usize,
    /// Inside the layer that keeps the most.
    pub in_a_layer: usize,
    /// As much again there, where burn's own operations do what has a kernel on the CPU only.
    pub without_kernels: usize,
    /// Of all layers together: what they share.
    pub shared: usize,
    /// For a moment, on the way back through a layer.
    pub transient: usize,
    /// The last layers, which cache no keys and values of their own.
    pub uncached_layers: usize,
    /// The shape of a table that stays in its file; `None` where there is none.
    pub mapped: Option<(TensorId, [usize; 2])>,
}

/// A decoder's sizes and constants, named as in Hugging Face, whichever architecture it has.
pub trait DecoderConfig: fmt::Debug {
    /// The architecture's name, for people: `Gemma 3`.
    fn architecture(&self) -> &'static str;

    /// Rows of the embedding.
    fn vocab_size(&self) -> usize;

    /// Width of the residual stream, `d`.
    fn hidden_size(&self) -> usize;

    /// Width of the MLP, `f`.
    fn intermediate_size(&self) -> usize;

    /// Query heads, `h`.
    fn num_attention_heads(&self) -> usize;

    /// Key and value heads, `g`.
    fn num_key_value_heads(&self) -> usize;

    /// Width of a head, `e`.
    fn head_dim(&self) -> usize;

    /// Positions that a [`AttentionKind::Sliding`] layer sees, the current one included.
    fn sliding_window(&self) -> usize;

    /// The kind of each layer.
    fn layer_types(&self) -> &[AttentionKind];

    /// What attention scores are multiplied by.
    fn attention_scale(&self) -> f64;

    /// The heads of a layer.
    fn attention(&self, layer: usize) -> AttentionConfig {
        AttentionConfig {
            num_attention_heads: self.num_attention_heads(),
            num_key_value_heads: self.num_key_value_heads(),
            head_dim: self.head_dim(),
            scaling: self.attention_scale(),
            kind: self.layer_types()[layer],
            sliding_window: self.sliding_window(),
        }
    }

    /// Bends logits into `(-c, c)`: `z -> c tanh(z / c)`.
    fn final_logit_softcapping(&self) -> Option<f32>;

    /// Longest sequence that the model was made for.
    fn max_position_embeddings(&self) -> usize;

    /// Whether the output head is the embedding.
    fn tie_word_embeddings(&self) -> bool;

    /// The token that begins every sequence.
    fn bos_token_id(&self) -> Option<u32>;

    /// Tokens that end generation.
    fn eos_token_ids(&self) -> &[u32];

    /// The token for padding.
    fn pad_token_id(&self) -> Option<u32>;

    /// Whether the checkpoint is multimodal, and this its language model.
    fn multimodal(&self) -> bool;

    /// Whether a head that judges texts stands in the place of the one that writes them: a whole reward model.
    fn judges(&self) -> bool {
        false
    }

    /// The linear layers that an adapter can go on, in order of their number.
    fn sites(&self) -> Vec<Site>;

    /// Those of its towers, numbered after [`DecoderConfig::sites`]: an adapter goes on them only where they are named.
    fn tower_sites(&self) -> Vec<Site> {
        Vec::new()
    }

    /// The linear layers of the model, and of its towers.
    fn all_sites(&self) -> Vec<Site> {
        let mut sites = self.sites();
        sites.extend(self.tower_sites());
        sites
    }

    /// The tensors outside of linear layers that can be trained as they are, where they are named.
    fn whole_tensors(&self) -> Vec<WholeTensor> {
        Vec::new()
    }

    /// Every place where something can be trained.
    fn places(&self) -> Places {
        Places { sites: self.all_sites(), whole: self.whole_tensors() }
    }

    /// The same with the head that makes a reward model of it.
    fn places_of_judge(&self) -> Places {
        let mut places = self.places();
        places.whole.extend(self.score());
        places
    }

    /// The head that makes a reward model of it, where transformers has such a class.
    fn score(&self) -> Option<WholeTensor> {
        Some(WholeTensor::score(self.hidden_size()))
    }

    /// The pictures and sounds that it takes beside text.
    fn media(&self) -> Vec<MediaShape> {
        Vec::new()
    }

    /// What each tower takes with adapters on those of its layers that `has_adapter`; none without one.
    fn tower_work(&self, has_adapter: &dyn Fn(&TensorId) -> bool) -> Vec<TowerWork> {
        let _ = has_adapter;
        Vec::new()
    }

    /// Every tensor of its towers.
    fn tower_tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        Vec::new()
    }

    /// The `config.json` of a checkpoint of the language model alone; `dtype` is `float32`, `bfloat16` or `float16`.
    fn to_hf_json(&self, dtype: &str) -> Value;

    /// The metadata with which a GGUF file tells its readers this language model: what is named after the architecture, and
    /// the architecture.
    ///
    /// # Errors
    /// What cannot be said there.
    fn to_gguf(&self) -> Result<Vec<(String, gguf::Value)>>;

    /// A smaller model that lies inside this one: without some layers, and with feed-forward blocks of these widths (one for
    /// all layers that stay, one for each, or none where they stay as they are).
    ///
    /// # Errors
    /// A model that holds none, and what cannot be left out.
    fn slice(&self, _without: &[usize], _widths: &[usize]) -> Result<Slice> {
        let what = format!("no smaller model lies inside a {}", self.architecture());
        Err(Error::new(Kind::Config, what).hint("Gemma 3n is trained nested (MatFormer), and can be cut"))
    }

    /// What readers of GGUF files ask of one with this language model beyond its own tensors.
    fn gguf_demands(&self) -> gguf::Demands {
        gguf::Demands::default()
    }

    /// The metadata with which a GGUF file tells llama.cpp its towers, but for how pictures are prepared.
    ///
    /// # Errors
    /// A model without towers, and towers that are not written so.
    fn to_mmproj(&self) -> Result<Vec<(String, gguf::Value)>>;

    /// What it needs beyond what every decoder needs.
    fn beyond(&self) -> Beyond {
        Beyond::default()
    }

    /// Decoder layers.
    fn num_hidden_layers(&self) -> usize {
        self.layer_types().len()
    }
}
