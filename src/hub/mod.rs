//! Finds the files of a model or data set: a local folder, a Hub id, a `.gguf` file, a model of Ollama; publishes those of
//! a model.
//!
//! Downloads go to the cache that all Hugging Face tools share, uploads into one commit. What the Hub refuses is told
//! apart by [`Failure`].

mod address;
mod base;
#[cfg(feature = "hub")]
mod client;
mod dataset;
mod digest;
mod failure;
mod here;
#[cfg(feature = "hub")]
mod http;
mod listing;
mod model;
mod ollama;
mod repository;
mod secrets;
mod settings;
#[cfg(feature = "hub")]
#[cfg(test)]
mod tests;
#[cfg(feature = "hub")]
pub mod upload;
mod variant;

pub use digest::sha256;
pub use failure::Failure;
pub use here::{Here, Source, models_here};
pub use settings::HubSettings;
pub use variant::{Clues, Variant, base_or_instruct};

use crate::error::Result;
use crate::progress::{Progress, Silent};
use base::Base;
use std::path::{Path, PathBuf};

/// Where the files of a model are. All of them exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// A Hugging Face folder.
    Folder {
        /// The folder of `config.json` and the weights.
        dir: PathBuf,
        /// What to call the model: its Hub id, or the folder as the user named it.
        name: String,
        /// The commit, for a model of the Hub.
        revision: Option<String>,
    },
    /// A single GGUF file.
    Gguf {
        /// The file.
        path: PathBuf,
    },
}

impl ModelFiles {
    /// The folder or the file.
    pub fn path(&self) -> &Path {
        match self {
            ModelFiles::Folder { dir: path, .. } | ModelFiles::Gguf { path } => path,
        }
    }

    /// What to call the model: its Hub id, or the path as the user named it.
    pub fn name(&self) -> String {
        match self {
            ModelFiles::Folder { name, .. } => name.clone(),
            ModelFiles::Gguf { path } => path.display().to_string(),
        }
    }
}

/// Finds the model that `base` names, downloading it if need be: a folder, a `.gguf` file, `owner/name[@revision]` of the
/// Hub, or `ollama:name[:tag]` of the store that Ollama has on this machine.
///
/// What exists locally wins over an id of the same spelling. `accept` is given a Hub model's folder as soon as
/// `config.json`, the tokenizer and the other small files are in it; its error ends the search before gigabytes are
/// spent.
///
/// # Errors
/// [`crate::error::Kind::Recipe`] when nothing is there, [`crate::error::Kind::Hub`] with a [`Failure`] when the Hub
/// refuses or is away, [`crate::error::Kind::NoSpace`] before a download that does not fit, and those of `accept`.
pub fn find_model(
    base: &str,
    settings: &HubSettings,
    progress: &dyn Progress,
    accept: &dyn Fn(&Path) -> Result<()>,
) -> Result<ModelFiles> {
    find(base, settings, progress, Wanted::All(accept))
}

/// A local path that looks much like `base`, which is an id of the Hub.
pub fn near_folder(base: &str) -> Option<PathBuf> {
    match base::understand(base) {
        Ok(Base::Hub(_, near)) => near,
        _ => None,
    }
}

/// The folder or file of the model that `base` names, where all that is needed to tell is on this machine.
pub fn on_this_machine(base: &str, settings: &HubSettings) -> Option<PathBuf> {
    match base::understand(base).ok()? {
        Base::Folder(path) | Base::Gguf(path) => Some(path),
        Base::Ollama(named) => named.find(&Silent).ok(),
        Base::Hub(repository, _) => {
            repository.cached_commit(settings).map(|commit| repository.snapshot(settings, &commit))
        }
    }
}

/// What Ollama calls the model that `base` names; `None` where it is none of Ollama's.
pub fn ollamas_name(base: &str) -> Option<String> {
    match base::understand(base) {
        Ok(Base::Ollama(named)) => Some(named.name()),
        _ => None,
    }
}

/// The two parts of `owner/name[@revision]`, where `name` can be the id of a model.
pub fn split_id(name: &str) -> Option<(String, Option<String>)> {
    base::split_id(name).map(|repository| {
        let revision = name.contains('@').then_some(repository.revision);
        (repository.id, revision)
    })
}

/// As [`find_model`], but of a Hub model only what stands beside the weights is downloaded: configuration, tokenizer,
/// chat template.
///
/// # Errors
/// As [`find_model`].
pub fn find_small_files(base: &str, settings: &HubSettings, progress: &dyn Progress) -> Result<ModelFiles> {
    find(base, settings, progress, Wanted::SmallFiles)
}

/// What of a Hub model is to be in the cache.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// All but the weights.
    SmallFiles,
    /// Everything, if the folder of the small files is accepted.
    All(&'a dyn Fn(&Path) -> Result<()>),
}

fn find(base: &str, settings: &HubSettings, progress: &dyn Progress, wanted: Wanted) -> Result<ModelFiles> {
    settings.discreet(search(base, settings, progress, wanted))
}

fn search(base: &str, settings: &HubSettings, progress: &dyn Progress, wanted: Wanted) -> Result<ModelFiles> {
    match base::understand(base)? {
        Base::Folder(dir) => Ok(ModelFiles::Folder { dir, name: base.trim().to_string(), revision: None }),
        Base::Gguf(path) => Ok(ModelFiles::Gguf { path }),
        Base::Ollama(named) => Ok(ModelFiles::Gguf { path: named.find(progress)? }),
        Base::Hub(repository, near) => match model::fetch(&repository, settings, progress, wanted) {
            Ok((dir, commit)) => Ok(ModelFiles::Folder { dir, name: repository.id, revision: Some(commit) }),
            // Perhaps it never was an id but a path with a slip of the pen.
            Err(error) => Err(match near.filter(|_| Failure::of(&error).is_some()) {
                Some(near) => {
                    let hint = error.hint_text().unwrap_or_default().to_string();
                    error.hint(format!("did you mean the local `{}`? Otherwise: {hint}", near.display()))
                }
                None => error,
            }),
        },
    }
}

/// Finds the data files that `uri` names, downloading them if need be: `hf://datasets/owner/name[@revision][/path]`.
///
/// `path` may be a file, a folder or a glob. A file or glob is taken as it is; otherwise the files of `split` (default
/// `train`) are chosen as the `datasets` package does: by the card's `configs`, else by folder and file names.
///
/// # Errors
/// [`crate::error::Kind::Data`] when no file fits or several formats do, otherwise as [`find_model`].
pub fn find_data(uri: &str, split: Option<&str>, progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    find_data_with(uri, split, &HubSettings::from_env()?, progress)
}

/// As [`find_data`], with explicit settings.
///
/// # Errors
/// As [`find_data`].
pub fn find_data_with(
    uri: &str,
    split: Option<&str>,
    settings: &HubSettings,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    settings.discreet(dataset::fetch(uri, split.unwrap_or("train"), settings, progress))
}

/// Whether `uri` is the address of a data set, which the Hub is not asked for.
///
/// # Errors
/// [`crate::error::Kind::Recipe`] when it is written in another way than [`find_data`] takes.
pub fn check_data(uri: &str) -> Result<()> {
    dataset::parse(uri).map(|_| ())
}

#[cfg(not(feature = "hub"))]
fn built_without_hub(repository: &repository::Repository) -> crate::Error {
    crate::Error::new(
        crate::error::Kind::Hub,
        format!("`{repository}` is not in the cache, and this program was built without the Hub"),
    )
    .hint("build it with the `hub` feature, download with `hf download`, or name a local folder")
}
