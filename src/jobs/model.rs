//! Opening a model: its files, configuration, tokenizer and weights.

use crate::error::{Error, Kind, Result};
use crate::hub::{self, ModelFiles};
use crate::model::gemma3::{Gemma3, TextConfig};
use crate::progress::Progress;
use crate::text::{ChatTemplate, Encoder, Tokenizer};
use crate::weights::{HostDtype, Source};
use burn::tensor::Device;
use std::path::{Path, PathBuf};

/// A base model whose small files are read and whose weights are mapped, but not loaded.
pub struct Base {
    /// The name the user gave.
    pub name: String,
    /// Where its files are.
    pub files: ModelFiles,
    /// Its configuration.
    pub config: TextConfig,
    /// Keys of its configuration that have no effect here.
    pub ignored_keys: Vec<String>,
    /// Its weights.
    pub source: Source,
    /// Tokenizer and chat template; without a tokenizer it takes token ids only.
    pub encoder: Encoder,
}

impl Base {
    /// Finds the model that the user named and reads everything but its weights.
    ///
    /// # Errors
    /// When the model cannot be found, or one of its small files is wrong.
    pub fn open(name: &str, progress: &dyn Progress) -> Result<Self> {
        let files = hub::find_model(name, progress)?;
        let (config, ignored_keys, source, encoder) = match &files {
            ModelFiles::Folder { dir, .. } => {
                let (config, ignored) = TextConfig::from_folder(dir)?;
                (config, ignored, Source::open_folder(dir)?, folder_encoder(dir)?)
            }
            ModelFiles::Gguf { path } => {
                let source = Source::open_gguf(path)?;
                let gguf = source.gguf().ok_or_else(|| Error::new(Kind::Run, "a GGUF source without its header"))?;
                let (config, ignored) = TextConfig::from_gguf(gguf, path)?;
                let encoder = match gguf.vocabulary()? {
                    Some(vocabulary) => {
                        Encoder::new(Tokenizer::from_gguf(&vocabulary)?, ChatTemplate::from_gguf(&vocabulary)?)
                    }
                    None => Encoder::tokens_only(),
                };
                (config, ignored, source, encoder)
            }
        };
        let encoder = encoder.with_vocab_size(config.vocab_size);
        Ok(Base { name: name.to_owned(), files, config, ignored_keys, source, encoder })
    }

    /// The model in a line.
    pub fn describe(&self) -> String {
        let config = &self.config;
        let ignored = match self.ignored_keys.len() {
            0 => String::new(),
            _ => format!("; config keys without effect here: {}", self.ignored_keys.join(", ")),
        };
        format!(
            "Model: {}: Gemma 3, {} layers of {}, {} words{ignored}",
            self.name, config.num_hidden_layers, config.hidden_size, config.vocab_size
        )
    }

    /// Loads the weights; `None` holds them as they are stored.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(&self, held: Option<HostDtype>, device: &Device, progress: &dyn Progress) -> Result<Gemma3> {
        Gemma3::load(self.config.clone(), &self.source, held, device, progress)
    }

    /// Bytes per held weight under this choice.
    pub fn held_bytes(&self, held: Option<HostDtype>) -> u64 {
        match held {
            Some(HostDtype::F32) => 4,
            Some(HostDtype::BF16 | HostDtype::F16) => 2,
            None => match self.source.stored_dtype(&crate::weights::names::TensorId::EmbedTokens).as_deref() {
                Some("F32") => 4,
                _ => 2,
            },
        }
    }

    /// The file or folder that holds the model.
    pub fn path(&self) -> PathBuf {
        match &self.files {
            ModelFiles::Folder { dir, .. } => dir.clone(),
            ModelFiles::Gguf { path } => path.clone(),
        }
    }

    /// The text of ids, special tokens included; without a tokenizer the ids themselves.
    pub fn decode(&self, ids: &[u32]) -> String {
        match self.encoder.tokenizer() {
            Some(tokenizer) => tokenizer.decode(ids, false),
            None => ids.iter().map(|id| format!("{id} ")).collect(),
        }
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut stop = self.config.eos_token_ids.clone();
        stop.extend(self.encoder.stop_ids());
        stop.sort_unstable();
        stop.dedup();
        stop
    }
}

fn folder_encoder(dir: &Path) -> Result<Encoder> {
    let file = dir.join("tokenizer.json");
    if !file.exists() {
        return Ok(Encoder::tokens_only());
    }
    Ok(Encoder::new(Tokenizer::from_file(&file)?, ChatTemplate::from_model_folder(dir)?))
}
