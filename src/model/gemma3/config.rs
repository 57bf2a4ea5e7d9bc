//! What a Gemma 3 text model looks like: read from a Hugging Face `config.json` or from GGUF metadata.
//!
//! Reading is strict. A key that changes the model's numbers and that this program does not act on is an error, all
//! such problems at once; every other key that was not used is returned by name, so that the caller can list it.

mod generation;
pub(in crate::model) mod gguf;
pub(in crate::model) mod hf;
mod images;
#[cfg(test)]
mod tests;
pub(in crate::model) mod write;
mod write_gguf;
mod write_mmproj;

pub use generation::GenerationConfig;
pub use images::ImageConfig;

use crate::error::{Error, Kind, Place, Result};
use crate::nn::{AttentionKind, Rope};
use crate::weights::gguf::Metadata;
use std::path::{Path, PathBuf};

/// The shape and constants of a Gemma 3 text model, named as in Hugging Face.
///
/// Gemma 3's fixed parts carry no field: GeGLU with tanh, no biases, no dropout, no softcapping, causal attention.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding: 262,144 in text-only checkpoints, 262,208 in multimodal ones.
    pub vocab_size: usize,
    /// Width of the residual stream, `d`.
    pub hidden_size: usize,
    /// Width of the MLP, `f`.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads, `h`.
    pub num_attention_heads: usize,
    /// Key and value heads, `g`; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head, `e`; even, and not tied to `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Attention scores are `q k^T / sqrt(query_pre_attn_scalar)`.
    pub query_pre_attn_scalar: f64,
    /// Positions that a [`AttentionKind::Sliding`] layer sees, the current one included.
    pub sliding_window: usize,
    /// The kind of each layer, `num_hidden_layers` of them.
    pub layer_types: Vec<AttentionKind>,
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
    /// Whether the checkpoint is `Gemma3ForConditionalGeneration`, of which this is the language model.
    pub multimodal: bool,
    /// What a multimodal checkpoint makes soft tokens of pictures with.
    pub images: Option<ImageConfig>,
    /// Whether a head that gives one number for a text stands in the place of the one that writes: a reward model.
    pub judges: bool,
}

impl TextConfig {
    /// Reads `dir/config.json` (and the stop tokens of `dir/generation_config.json`); also returns the ignored keys.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem at once: not JSON, another architecture, a key with an unsupported or
    /// impossible value, a key that this program does not act on.
    pub fn from_folder(dir: &Path) -> Result<(TextConfig, Vec<String>)> {
        let (path, text) = config_text(dir)?;
        let (mut config, ignored) = TextConfig::from_hf_json(&text, &path)?;
        if let Some(ids) = GenerationConfig::from_folder(dir)?.and_then(|g| g.eos_token_ids) {
            config.eos_token_ids = ids;
        }
        Ok((config, ignored))
    }

    /// Reads the text of a Hugging Face `config.json`; `path` is for messages. Also returns the ignored keys.
    ///
    /// # Errors
    /// As [`TextConfig::from_folder`].
    pub fn from_hf_json(text: &str, path: &Path) -> Result<(TextConfig, Vec<String>)> {
        hf::read(text, path)
    }

    /// Reads the metadata of a GGUF file; `path` is for messages. Also returns the ignored `gemma3.*` keys.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem at once: another architecture, a missing key, an unsupported or impossible
    /// value.
    pub fn from_gguf(metadata: &Metadata, path: &Path) -> Result<(TextConfig, Vec<String>)> {
        gguf::read(metadata, path)
    }

    /// The factor on attention scores, `query_pre_attn_scalar^-0.5`.
    pub fn attention_scale(&self) -> f64 {
        self.query_pre_attn_scalar.powf(-0.5)
    }

    /// Checks what no single key shows: sizes that fit together and products that cannot overflow.
    fn check(&self, place: &Place, problems: &mut Vec<Error>) {
        let mut wrong = |what: String| problems.push(Error::new(Kind::Config, what).at(place.clone()));
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if groups > 0 && !heads.is_multiple_of(groups) {
            wrong(format!("`num_attention_heads` ({heads}) is not a multiple of `num_key_value_heads` ({groups})"));
        }
        if heads > 0 && !self.hidden_size.is_multiple_of(heads) {
            wrong(format!("`hidden_size` ({}) is not a multiple of `num_attention_heads` ({heads})", self.hidden_size));
        }
        if !self.head_dim.is_multiple_of(2) {
            wrong(format!("`head_dim` ({}) is odd; rotary embeddings turn pairs", self.head_dim));
        }
    }
}

/// The path and the text of `dir/config.json`.
///
/// # Errors
/// When there is none, or it is no text.
pub(in crate::model) fn config_text(dir: &Path) -> Result<(PathBuf, String)> {
    let path = dir.join("config.json");
    let text = crate::input::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Kind::Config, "a model folder needs a `config.json`, and this has none")
                .at_path(dir)
                .hint("name the folder that holds `config.json` and the `.safetensors` files")
        }
        std::io::ErrorKind::InvalidData => Error::new(Kind::Config, "not a text file").at_path(&path).caused_by(e),
        _ => Error::input(Kind::Config, "reading", &path, e),
    })?;
    Ok((path, text))
}

/// Upper bounds, some sixteen times the largest published model, so that no product of sizes overflows an allocation;
/// and ranges, far beyond any published model, in which f32 computes with what is not a size.
pub(in crate::model) mod limit {
    use std::ops::RangeInclusive;

    pub const EPS: RangeInclusive<f64> = 1e-30..=1.0;
    pub const ATTENTION_SCALAR: RangeInclusive<f64> = 1e-6..=1e9;
    pub const THETA: RangeInclusive<f64> = 1.0..=1e15;
    pub const ROPE_FACTOR: RangeInclusive<f64> = 1e-6..=1e9;

    pub const VOCABULARY: u64 = 1 << 22;
    pub const HIDDEN: u64 = 1 << 17;
    pub const INTERMEDIATE: u64 = 1 << 19;
    pub const LAYERS: u64 = 1 << 10;
    pub const HEADS: u64 = 1 << 10;
    pub const HEAD_DIM: u64 = 1 << 12;
    pub const POSITIONS: u64 = 1 << 30;
    pub const CHANNELS: u64 = 1 << 6;
    pub const PIXELS: u64 = 1 << 14;
    pub const SOFT_TOKENS: u64 = 1 << 20;
}

/// The layer pattern of every published Gemma 3: each `pattern`-th layer is full, the others slide.
pub(in crate::model) fn every_nth_is_full(layers: usize, pattern: usize) -> Vec<AttentionKind> {
    (1..=layers).map(|i| if i % pattern.max(1) == 0 { AttentionKind::Full } else { AttentionKind::Sliding }).collect()
}
