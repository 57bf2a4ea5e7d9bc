//! Where prepared data is kept, and what happens where it cannot be kept.

use crate::error::{Error, Kind, Place, Result};
use crate::paths::{self, CACHE_VARIABLE};
use crate::progress::Progress;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder of prepared data; without one that can be written, a private one for this process alone.
#[derive(Debug)]
pub enum Cache {
    /// Kept for later runs.
    Kept(PathBuf),
    /// Gone when this is dropped; files that are open in it stay readable until they are closed.
    Private(TempDir),
}

impl Cache {
    /// In the folder of [`paths::cache`].
    ///
    /// # Errors
    /// When the user has neither and there is no temporary folder; a variable in the name that is not set.
    pub fn open(progress: &dyn Progress) -> Result<Self> {
        match paths::cache()? {
            Some(folder) => Ok(Cache::Kept(folder.join("data"))),
            None => Cache::private("`HOME` is not set", progress),
        }
    }

    /// A folder that nobody else sees, and what is said of it.
    ///
    /// # Errors
    /// When there is no temporary folder either.
    fn private(why: &str, progress: &dyn Progress) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gemma-tune-").tempdir().map_err(|e| {
            let what = format!("there is no folder to prepare data in: {why}, and the temporary folder refuses: {e}");
            Error::new(Kind::Io, what).at_path(std::env::temp_dir()).hint(format!("`{CACHE_VARIABLE}` names a folder"))
        })?;
        progress.note(&format!(
            "Prepared data is not kept for later runs: {why}. `{CACHE_VARIABLE}` names a folder that can be written."
        ));
        Ok(Cache::Private(folder))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Cache::Kept(path) => path,
            Cache::Private(folder) => folder.path(),
        }
    }

    /// Prepares something in the folder, and where that folder cannot be written, or is full, again in a private one.
    ///
    /// # Errors
    /// Those of `prepare` that have other causes, or that come again.
    pub fn prepare<T>(&mut self, prepare: impl Fn(&Path) -> Result<T>, progress: &dyn Progress) -> Result<T> {
        let failed = match (prepare(self.path()), &self) {
            (Err(error), Cache::Kept(path)) if is_about(&error, path) => error,
            (result, _) => return result,
        };
        *self = Cache::private(&format!("{} (`{}`)", failed.what(), self.path().display()), progress)?;
        prepare(self.path()).map_err(|error| match error.kind() {
            Kind::NoSpace => error.hint(format!("free some space, or name a folder with more in `{CACHE_VARIABLE}`")),
            _ => error,
        })
    }
}

/// Whether an error is a failure to write into `folder`.
fn is_about(error: &Error, folder: &Path) -> bool {
    let there = matches!(error.place(), Some(Place::Path(path)) if path.starts_with(folder));
    there && matches!(error.kind(), Kind::Io | Kind::NoSpace)
}
