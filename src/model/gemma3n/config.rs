//! What a Gemma 3n text model looks like: read from a Hugging Face `config.json`, as strictly as a Gemma 3.

mod audio;
mod gguf;
mod hf;
#[cfg(test)]
mod tests;
mod vision;
mod write;
mod write_gguf;

pub use audio::SoundConfig;
pub use vision::ImageConfig;

use crate::error::{Error, Kind, Place, Result};
use crate::nn::{AttentionKind, Rope};
use crate::weights::gguf::Metadata;
use std::path::Path;

/// The shape and constants of a Gemma 3n text model, named as in Hugging Face.
///
/// Its fixed parts carry no field: GeGLU with tanh, no biases, no dropout, scores that are not scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding: words, then the soft tokens of the towers.
    pub vocab_size: usize,
    /// Rows of the per-layer embedding: words alone.
    pub vocab_size_per_layer_input: usize,
    /// Width of each stream, `d`.
    pub hidden_size: usize,
    /// Width of what a layer is told of a word, `p`.
    pub hidden_size_per_layer_input: usize,
    /// Width of each layer's MLP, `f`.
    pub intermediate_size: Vec<usize>,
    /// Query heads, `h`.
    pub num_attention_heads: usize,
    /// Key and value heads, `g`; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head, `e`; even.
    pub head_dim: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Positions that a [`AttentionKind::Sliding`] layer sees, the current one included.
    pub sliding_window: usize,
    /// The kind of each layer.
    pub layer_types: Vec<AttentionKind>,
    /// The last layers that read the keys and values of the last layer of their kind before them.
    pub num_kv_shared_layers: usize,
    /// The share of each layer's gate that is cut off; 0 of none.
    pub activation_sparsity_pattern: Vec<f64>,
    /// Inner width of LAuReL.
    pub laurel_rank: usize,
    /// AltUp's streams, `s`.
    pub altup_num_inputs: usize,
    /// The stream that the layers compute with.
    pub altup_active_idx: usize,
    /// What transformers clamps AltUp's coefficients to while it trains, and nobody anywhere else.
    pub altup_coef_clip: Option<f64>,
    /// Whether the active stream is scaled before it meets the per-layer input.
    pub altup_correct_scale: bool,
    /// Bends the logits into `(-c, c)`.
    pub final_logit_softcapping: Option<f64>,
    /// Rotary embedding of the sliding layers.
    pub rope_local: Rope,
    /// Rotary embedding of the full layers.
    pub rope_global: Rope,
    /// Longest sequence that the model was made for.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The token that begins every sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end generation: `generation_config.json`'s where it has them, else the config's.
    pub eos_token_ids: Vec<u32>,
    /// The token for padding.
    pub pad_token_id: Option<u32>,
    /// Whether the checkpoint is `Gemma3nForConditionalGeneration`, of which this is the language model.
    pub multimodal: bool,
    /// What a multimodal checkpoint makes soft tokens of pictures with.
    pub images: Option<ImageConfig>,
    /// What it makes soft tokens of sounds with.
    pub sounds: Option<SoundConfig>,
}

impl TextConfig {
    /// Whether the text of a `config.json` says that it is of a Gemma 3n.
    pub fn is_meant(text: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Named {
            model_type: String,
        }
        serde_json::from_str::<Named>(text).is_ok_and(|named| named.model_type.starts_with("gemma3n"))
    }

    /// Reads the text of a Hugging Face `config.json`; `path` is for messages. Also returns the ignored keys.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem at once: not JSON, another architecture, a key with an unsupported or
    /// impossible value, a key that this program does not act on.
    pub fn from_hf_json(text: &str, path: &Path) -> Result<(TextConfig, Vec<String>)> {
        hf::read(text, path)
    }

    /// Reads the metadata of a GGUF file; `path` is for messages. Also returns the ignored `gemma3n.*` keys.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem at once: another architecture, a missing key, an unsupported or impossible
    /// value.
    pub fn from_gguf(metadata: &Metadata, path: &Path) -> Result<(TextConfig, Vec<String>)> {
        gguf::read(metadata, path)
    }

    /// The word that stands where a sound is shorter than its soft tokens: the last one.
    pub fn padding_word(&self) -> u32 {
        (self.vocab_size - 1) as u32
    }

    /// Decoder layers, `L`.
    pub fn num_hidden_layers(&self) -> usize {
        self.layer_types.len()
    }

    /// The first of the layers that make no keys and values.
    pub fn first_shared_layer(&self) -> usize {
        self.num_hidden_layers() - self.num_kv_shared_layers.min(self.num_hidden_layers())
    }

    /// The layer whose keys and values a layer reads: itself, or of one that makes none the last of its kind that does.
    pub fn kv_source(&self, layer: usize) -> usize {
        let first = self.first_shared_layer();
        let same_kind = |other: &usize| self.layer_types[*other] == self.layer_types[layer];
        if layer < first { layer } else { (0..first).rev().find(same_kind).unwrap_or(layer) }
    }

    /// The layers whose keys and values later ones read, in ascending order.
    pub fn kv_makers(&self) -> Vec<usize> {
        let readers = self.first_shared_layer()..self.num_hidden_layers();
        let mut makers: Vec<usize> = readers.map(|layer| self.kv_source(layer)).collect();
        makers.sort_unstable();
        makers.dedup();
        makers
    }

    /// Checks what no single key shows: sizes that fit together and products that cannot overflow.
    fn check(&self, place: &Place, problems: &mut Vec<Error>) {
        let mut wrong = |what: String| problems.push(Error::new(Kind::Config, what).at(place.clone()));
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(groups.max(1)) {
            wrong(format!("`num_attention_heads` ({heads}) is not a multiple of `num_key_value_heads` ({groups})"));
        }
        if !self.hidden_size.is_multiple_of(heads.max(1)) {
            wrong(format!("`hidden_size` ({}) is not a multiple of `num_attention_heads` ({heads})", self.hidden_size));
        }
        if !self.head_dim.is_multiple_of(2) {
            wrong(format!("`head_dim` ({}) is odd; rotary embeddings turn pairs", self.head_dim));
        }
        if self.vocab_size_per_layer_input > self.vocab_size {
            let (more, words) = (self.vocab_size_per_layer_input, self.vocab_size);
            wrong(format!("`vocab_size_per_layer_input` ({more}) is more than `vocab_size` ({words})"));
        }
        let (active, streams) = (self.altup_active_idx, self.altup_num_inputs);
        if active >= streams {
            wrong(format!("`altup_active_idx` ({active}) names none of `altup_num_inputs` ({streams})"));
        }
        let (shared, layers, first) = (self.num_kv_shared_layers, self.num_hidden_layers(), self.first_shared_layer());
        if shared > 0 && shared >= layers {
            wrong(format!("`num_kv_shared_layers` ({shared}) leaves none of the {layers} layers to share with"));
        } else if (first..layers).any(|layer| self.kv_source(layer) >= first) {
            let what = "the last {shared} layers are to read others' keys and values (`num_kv_shared_layers`), but `layer_types` \
                        has a kind among them that no earlier layer has";
            wrong(what.replace("{shared}", &shared.to_string()));
        }
    }
}
