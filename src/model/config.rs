//! Configurations of models, read from their files, of whichever architecture.

use crate::error::{Error, Kind, Result};
use crate::model::decoder_config::DecoderConfig;
use crate::model::gemma3::config::{GenerationConfig, config_text};
use crate::model::gemma3::{self, TextConfig};
use crate::model::gemma3n;
use crate::nn::AttentionKind;
use crate::weights::Source;
use crate::weights::gguf::Metadata;
use std::ops::Deref;
use std::path::Path;

/// What a model looks like. What all architectures have in common, it has from [`DecoderConfig`].
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a program has one or two of them")]
pub enum ModelConfig {
    /// Gemma 3: a text-only model, or the language model of a multimodal one.
    Gemma3(TextConfig),
    /// Gemma 3n, likewise.
    Gemma3n(gemma3n::TextConfig),
}

impl ModelConfig {
    /// Reads `dir/config.json` (and the stop tokens of `dir/generation_config.json`); also returns the ignored keys.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] with every problem at once: not JSON, an architecture that is not supported, a key with
    /// an unsupported or impossible value, a key that this program does not act on; a reward model, which writes nothing.
    pub fn from_folder(dir: &Path) -> Result<(Self, Vec<String>)> {
        let (config, ignored) = ModelConfig::from_folder_of_any(dir)?;
        if config.judges() {
            let what = "the model is a reward model: its `score` head judges texts and writes none";
            return Err(Error::new(Kind::Config, what).at_path(dir).hint(
                "`score --model` and `evaluate --model` ask it, and a reward of `kind: model` takes it as its `base`",
            ));
        }
        Ok((config, ignored))
    }

    /// As [`ModelConfig::from_folder`], of a model that may be a reward model.
    ///
    /// # Errors
    /// As there, but of reward models.
    pub fn from_folder_of_any(dir: &Path) -> Result<(Self, Vec<String>)> {
        let (path, text) = config_text(dir)?;
        let (mut config, ignored) = ModelConfig::from_hf_json(&text, &path)?;
        if let Some(ids) = GenerationConfig::from_folder(dir)?.and_then(|g| g.eos_token_ids) {
            match &mut config {
                ModelConfig::Gemma3(config) => config.eos_token_ids = ids,
                ModelConfig::Gemma3n(config) => config.eos_token_ids = ids,
            }
        }
        Ok((config, ignored))
    }

    /// Reads the text of a Hugging Face `config.json`; `path` is for messages. Also returns the ignored keys.
    ///
    /// # Errors
    /// As [`ModelConfig::from_folder`].
    pub fn from_hf_json(text: &str, path: &Path) -> Result<(Self, Vec<String>)> {
        if gemma3n::TextConfig::is_meant(text) {
            let (config, ignored) = gemma3n::TextConfig::from_hf_json(text, path)?;
            return Ok((ModelConfig::Gemma3n(config), ignored));
        }
        TextConfig::from_hf_json(text, path).map(read)
    }

    /// Reads the metadata of a GGUF file; `path` is for messages. Also returns the ignored keys of the model.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] with every problem at once: another architecture, a missing key, an unsupported or
    /// impossible value.
    pub fn from_gguf(metadata: &Metadata, path: &Path) -> Result<(Self, Vec<String>)> {
        match metadata.str("general.architecture") {
            Some("gemma3n") => {
                let (config, ignored) = gemma3n::TextConfig::from_gguf(metadata, path)?;
                Ok((ModelConfig::Gemma3n(config), ignored))
            }
            Some(other) if other != "gemma3" => {
                let what = format!("`general.architecture` is `{other}`; supported: `gemma3`, `gemma3n`");
                let hint = match other {
                    "clip" => "this is what looks at pictures (mmproj): name the file of the language model",
                    _ => "this program tunes the language models of Gemma 3 and Gemma 3n",
                };
                Err(Error::new(Kind::Config, what).at_path(path).hint(hint))
            }
            _ => TextConfig::from_gguf(metadata, path).map(read),
        }
    }

    /// The configuration of the published model that `name` names: `google/gemma-3-12b-it`, also with another owner or a
    /// revision. `None` for every other name, also of quantised copies, whose weights have another size.
    ///
    /// # Errors
    /// None in practice: the files are part of the program, and tests read them all.
    pub fn published(name: &str) -> Result<Option<Self>> {
        let gemma3n = || Ok(gemma3n::published(name)?.map(ModelConfig::Gemma3n));
        gemma3::published(name)?.map_or_else(gemma3n, |config| Ok(Some(ModelConfig::Gemma3(config))))
    }

    /// A small made-up model with a layer of each kind, whose sizes are no multiples of a tile: what a device is tried
    /// with.
    pub fn small() -> Self {
        ModelConfig::Gemma3(TextConfig::small())
    }

    /// The same model with one layer of this kind and at most so many words.
    pub fn with_one_layer(&self, kind: AttentionKind, words: usize) -> Self {
        match self {
            ModelConfig::Gemma3(config) => ModelConfig::Gemma3(config.with_one_layer(kind, words)),
            ModelConfig::Gemma3n(config) => ModelConfig::Gemma3n(config.with_one_layer(kind, words)),
        }
    }

    /// The same model without its towers, but with what makes rows of what they give: as it is loaded where they have looked
    /// at pictures and listened to sounds before.
    pub fn without_towers(mut self) -> Self {
        match &mut self {
            ModelConfig::Gemma3(config) => config.images.iter_mut().for_each(|images| images.has_tower = false),
            ModelConfig::Gemma3n(config) => {
                config.images.iter_mut().for_each(|images| images.has_tower = false);
                config.sounds.iter_mut().for_each(|sounds| sounds.has_tower = false);
            }
        }
        self
    }

    /// The same model without what looks at pictures: as it is loaded where nothing but text is read.
    pub fn of_text(self) -> Self {
        match self {
            ModelConfig::Gemma3(config) => ModelConfig::Gemma3(TextConfig { images: None, ..config }),
            ModelConfig::Gemma3n(config) => {
                ModelConfig::Gemma3n(gemma3n::TextConfig { images: None, sounds: None, ..config })
            }
        }
    }

    /// Holds what looks at pictures against the headers of the weights.
    ///
    /// # Errors
    /// Its tensors that are missing or of another shape, and those in the weights that this program does not know.
    pub fn check_towers(&self, source: &Source) -> Result<()> {
        match self {
            ModelConfig::Gemma3(config) => config.check_towers(source),
            ModelConfig::Gemma3n(config) => config.check_towers(source),
        }
    }

    /// Holds this against the headers of the weights, and lets the weights decide what they say themselves. Returns what
    /// the user should know.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape, layers that the configuration leaves out, tensors of a layer that
    /// this program does not know; a head that cannot be read.
    pub fn agree_with(&mut self, source: &Source) -> Result<Vec<String>> {
        match self {
            ModelConfig::Gemma3(config) => config.agree_with(source),
            ModelConfig::Gemma3n(config) => config.agree_with(source),
        }
    }
}

impl Deref for ModelConfig {
    type Target = dyn DecoderConfig;

    fn deref(&self) -> &Self::Target {
        match self {
            ModelConfig::Gemma3(config) => config,
            ModelConfig::Gemma3n(config) => config,
        }
    }
}

fn read((config, ignored): (TextConfig, Vec<String>)) -> (ModelConfig, Vec<String>) {
    (ModelConfig::Gemma3(config), ignored)
}
