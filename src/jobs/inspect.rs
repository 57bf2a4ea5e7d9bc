//! What a model is.

use crate::error::{Place, Result};
use crate::hub::{self, Here, HubSettings, Variant};
use crate::jobs::base::Base;
use crate::nn::AttentionKind;
use crate::progress::Progress;
use crate::text::{Conversation, Message, Role};
use crate::weights::TensorInfo;
use crate::weights::names::TensorId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What can be said of a model without loading it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// `Gemma 3`.
    pub architecture: &'static str,
    /// Whether it is pre-trained or instruction-tuned.
    pub variant: Variant,
    /// What tells.
    pub variant_clue: &'static str,
    /// Where it is.
    pub path: String,
    /// Parameters of the language model.
    pub parameters: u64,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Layers that see everything.
    pub full_attention_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads, key heads, width of a head.
    pub attention_heads: [usize; 3],
    /// Tokens that a sliding layer sees.
    pub sliding_window: usize,
    /// The longest sequence that the model was made for.
    pub max_position_embeddings: usize,
    /// Words.
    pub vocab_size: usize,
    /// Whether it is the language model of a multimodal checkpoint.
    pub multimodal: bool,
    /// Bytes by storage type.
    pub stored_bytes: BTreeMap<String, u64>,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// Tensors of its vision and audio towers, and of what embeds what they give.
    pub tower_tensors: usize,
    /// Tensors that are no part of the model as it is known here.
    pub unused_tensors: usize,
    /// Whether there is a tokenizer.
    pub has_tokenizer: bool,
    /// Whether the chat template is the model's own; otherwise Gemma's standard one is used.
    pub has_chat_template: bool,
    /// Why no conversation can be held with it, if so.
    pub chat_problem: Option<String>,
    /// Tokens that end an answer.
    pub stop_token_ids: Vec<u32>,
    /// Configuration keys that have no effect here.
    pub ignored_keys: Vec<String>,
}

/// A stored tensor.
#[derive(Debug, Clone, Serialize)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub dtype: String,
}

/// What keeps `chat` and `generate` from asking the model anything.
fn chat_problem(base: &Base) -> Option<String> {
    if base.config.judges() {
        return Some("it is a reward model, whose `score` head judges texts and writes none".into());
    }
    let question = Conversation { messages: vec![Message::new(Role::User, "Hi")], tools: Vec::new() };
    let asked = base.tokenizer().and_then(|_| base.encoder.encode_prompt(&question));
    asked.err().map(|error| error.what().to_owned())
}

/// The models that are on this machine: near the folder that the program was started in, in the Hub's cache, in Ollama's store.
///
/// # Errors
/// When the environment names a folder that cannot be.
pub fn here() -> Result<Vec<Here>> {
    Ok(hub::models_here(Path::new("."), &HubSettings::from_env()?))
}

/// Reads everything but the weights.
///
/// # Errors
/// When the model cannot be found or a small file is wrong.
pub fn inspect(model: &str, progress: &dyn Progress) -> Result<Inspection> {
    let base = Base::open_any(model, Place::Named(model.into()), progress, &|_| Ok(()))?;
    let config = &base.config;
    let (variant, variant_clue) = base.variant();
    let infos = base.source.tensors();
    let unused = base.source.unused();
    let of_towers = |(id, _): &(TensorId, Vec<usize>)| base.source.contains(id);
    let tower_tensors = config.tower_tensors().iter().filter(|tensor| of_towers(tensor)).count().min(unused.len());
    let mut stored_bytes = BTreeMap::new();
    for TensorInfo { dtype, bytes, .. } in &infos {
        *stored_bytes.entry(dtype.clone()).or_insert(0) += *bytes;
    }
    let parameters = infos.iter().filter(|info| !unused.contains(&info.name));
    let parameters = parameters.map(|info| info.shape.iter().map(|&n| n as u64).product::<u64>()).sum();
    let tensor = |info: TensorInfo| Tensor { name: info.name, shape: info.shape, dtype: info.dtype };
    Ok(Inspection {
        architecture: config.architecture(),
        variant,
        variant_clue,
        path: base.path().display().to_string(),
        parameters,
        num_hidden_layers: config.num_hidden_layers(),
        full_attention_layers: config.layer_types().iter().filter(|kind| **kind == AttentionKind::Full).count(),
        hidden_size: config.hidden_size(),
        intermediate_size: config.intermediate_size(),
        attention_heads: [config.num_attention_heads(), config.num_key_value_heads(), config.head_dim()],
        sliding_window: config.sliding_window(),
        max_position_embeddings: config.max_position_embeddings(),
        vocab_size: config.vocab_size(),
        multimodal: config.multimodal(),
        stored_bytes,
        tensors: infos.into_iter().map(tensor).collect(),
        tower_tensors,
        unused_tensors: unused.len() - tower_tensors,
        has_tokenizer: base.encoder.tokenizer().is_some(),
        has_chat_template: !base.encoder.template().is_built_in(),
        chat_problem: chat_problem(&base),
        stop_token_ids: base.stop_ids(),
        ignored_keys: base.ignored_keys,
    })
}
