//! What the files of a model say before its weights are read.

use super::encoder;
use crate::error::{Error, Kind, Result};
use crate::hub::{self, Failure, HubSettings, ModelFiles};
use crate::jobs::media::processors;
use crate::media::Processors;
use crate::model::ModelConfig;
use crate::progress::{Progress, Silent};
use crate::text::Encoder;
use crate::weights::Source;
use crate::weights::gguf::Gguf;
use std::path::Path;

/// The key of `config.json` that says how weights are quantised; what they are, the tensors tell.
const QUANTIZATION: &str = "quantization_config";

/// Reads the configuration of a folder, and which of its keys have no effect.
pub type ReadConfig = fn(&Path) -> Result<(ModelConfig, Vec<String>)>;

/// The shape of a model and the headers of its weights.
pub struct Headers {
    /// Its configuration.
    pub config: ModelConfig,
    /// Keys of its configuration that have no effect here.
    pub ignored_keys: Vec<String>,
    /// Its weights, mapped and not read.
    pub source: Source,
    /// What the user should know: where configuration and weights disagree.
    pub warnings: Vec<String>,
}

impl Headers {
    /// Reads them: `config.json` and the headers of the shards of a folder, or the header of a GGUF file.
    ///
    /// # Errors
    /// When one of them is missing or wrong, or they do not belong together.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        Headers::read(files, ModelConfig::from_folder)
    }

    /// As [`Headers::open`], with what reads the configuration of a folder.
    ///
    /// # Errors
    /// As there.
    pub fn read(files: &ModelFiles, configuration: ReadConfig) -> Result<Self> {
        let (mut config, mut ignored_keys, source) = match files {
            ModelFiles::Folder { dir, .. } => {
                let (config, ignored_keys) = configuration(dir)?;
                (config, ignored_keys, Source::open_folder(dir)?)
            }
            ModelFiles::Gguf { path } => {
                let source = Source::open_gguf(path)?;
                let (config, ignored_keys) = ModelConfig::from_gguf(gguf(&source)?.metadata(), path)?;
                (config, ignored_keys, source)
            }
        };
        let mut warnings = config.agree_with(&source)?;
        if let Some(at) = ignored_keys.iter().position(|key| key.ends_with(QUANTIZATION)) {
            ignored_keys.remove(at);
            if !source.is_packed() {
                warnings.push(format!(
                    "Warning: `{QUANTIZATION}` asks for weights that are quantised while they are loaded, but they are stored \
                     as plain floats and used as such; in a recipe `model.quantization: nf4` quantises them"
                ));
            }
        }
        Ok(Headers { config, ignored_keys, source, warnings })
    }

    /// Those of the model that `key` names, where its files are on this machine; `None` where only the Hub can know, which is not asked.
    ///
    /// # Errors
    /// When the name means nothing, and as [`Headers::open`].
    pub fn here(base: &str, key: &str, progress: &dyn Progress) -> Result<Option<Self>> {
        let offline = HubSettings { offline: true, ..HubSettings::from_env()? };
        match hub::find_model(base, &offline, &Silent, &|_| Ok(())) {
            Ok(files) => Headers::open(&files).map(Some),
            Err(error) if Failure::of(&error).is_some() => {
                if let Some(near) = hub::near_folder(base) {
                    let near = near.display();
                    progress.note(&format!(
                        "warning: `{key}`: `{base}` is neither here nor in the cache, and would be asked of the Hub; did \
                         you mean the local `{near}`?"
                    ));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The tokenizer and chat template beside them, and how pictures and sounds are prepared.
    ///
    /// # Errors
    /// When they are wrong.
    pub fn readers(&self, files: &ModelFiles) -> Result<(Encoder, Processors)> {
        Ok(match files {
            ModelFiles::Folder { dir, .. } => {
                (encoder::of_folder(dir, &self.config)?, processors::of_folder(dir, &self.config)?)
            }
            // A GGUF file holds no towers.
            ModelFiles::Gguf { .. } => (encoder::of_gguf(gguf(&self.source)?, &self.config)?, Processors::default()),
        })
    }
}

/// The GGUF file of a source that is one.
///
/// # Errors
/// When it is none.
pub fn gguf(source: &Source) -> Result<&Gguf> {
    source.gguf().ok_or_else(|| Error::new(Kind::Run, "a GGUF source without its header"))
}
