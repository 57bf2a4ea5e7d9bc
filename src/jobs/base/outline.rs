//! What is known of a base without downloading its weights: as much as its size depends on.

use super::headers::Headers;
use crate::error::{Error, Place, Result};
use crate::hub::{self, Failure, HubSettings, ModelFiles};
use crate::model::ModelConfig;
use crate::progress::Progress;
use crate::weights::Source;
use serde::Serialize;

/// A base as far as its size goes.
pub struct Outline {
    /// Its configuration.
    pub config: ModelConfig,
    /// The headers of its weights, where they are on this machine.
    pub source: Option<Source>,
    /// What says so.
    pub sizes_from: SizesFrom,
}

/// Where the sizes of a base come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SizesFrom {
    /// The headers of its files.
    Headers,
    /// The facts of the published sizes, in bf16; nothing is downloaded.
    Published,
    /// Its `config.json` on the Hub, taken to be in bf16.
    Config,
}

impl Outline {
    /// The outline of the base that a recipe names. What is on this machine comes first, then what is known of the
    /// published sizes, then the Hub's small files.
    ///
    /// # Errors
    /// When there is no such model, or what is there of it is wrong.
    pub fn find(name: &str, progress: &dyn Progress) -> Result<Self> {
        let settings = HubSettings::from_env()?;
        let offline = HubSettings { offline: true, ..settings.clone() };
        let at = |error: Error| error.or_at(Place::Key("model.base".into()));
        match hub::find_model(name, &offline, progress, &|_| Ok(())) {
            Ok(files) => return Outline::open(&files, progress),
            Err(error) if Failure::of(&error).is_none() => return Err(at(error)),
            Err(_) => {}
        }
        if let Some(config) = ModelConfig::published(name)? {
            return Ok(Outline { config, source: None, sizes_from: SizesFrom::Published });
        }
        let config = match hub::find_small_files(name, &settings, progress).map_err(at)? {
            ModelFiles::Folder { dir, .. } => ModelConfig::from_folder(&dir)?.0,
            files @ ModelFiles::Gguf { .. } => return Outline::open(&files, progress),
        };
        Ok(Outline { config, source: None, sizes_from: SizesFrom::Config })
    }

    fn open(files: &ModelFiles, progress: &dyn Progress) -> Result<Self> {
        let Headers { config, source, warnings, .. } = Headers::open(files)?;
        warnings.iter().for_each(|warning| progress.note(warning));
        Ok(Outline { config, source: Some(source), sizes_from: SizesFrom::Headers })
    }
}
