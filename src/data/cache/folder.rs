//! The cache's folder: names, one maker at a time, leftovers.

use crate::atomic;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A temporary file this old belongs to a run that was killed: no preparation takes days.
const ABANDONED: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The file of the folder `cache` in which a picture or sound of this hash is kept.
pub(crate) fn kept_media(cache: &Path, hash: &str) -> PathBuf {
    cache.join("media").join(hash.get(..2).unwrap_or_default()).join(hash)
}

/// Keeps the bytes of a picture or sound in the folder `cache`.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn keep_media(cache: &Path, hash: &str, bytes: &[u8]) -> Result<()> {
    let path = kept_media(cache, hash);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(cache);
    fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
    atomic::write(&path, bytes)
}

/// A folder of prepared data.
pub(crate) struct Folder {
    path: PathBuf,
}

/// Held while a cache file is made, so that a second run waits and then finds it.
pub(crate) struct Lock {
    path: PathBuf,
    _file: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A run that waits for this very file proceeds with the unnamed one: files are renamed into place whole, so the
        // worst of races is work done twice.
        let _ = fs::remove_file(&self.path);
    }
}

impl Folder {
    /// Creates the folder if it is missing and clears what killed runs have left in it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::io("creating the folder", path, e))?;
        let folder = Folder { path: path.to_path_buf() };
        folder.clear_abandoned();
        Ok(folder)
    }

    /// Where hashes of files are remembered.
    pub fn hashes(&self) -> PathBuf {
        self.path.join("hashes")
    }

    /// The cache file for `key`.
    pub fn rows(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}.rows"))
    }

    /// Waits until no other run makes the file for `key`. Where the file system knows no locks, it does not wait.
    pub fn lock(&self, key: &str) -> Lock {
        let path = self.path.join(format!("{key}.lock"));
        let file = File::create(&path).ok().filter(|file| file.lock().is_ok());
        Lock { path, _file: file }
    }

    fn clear_abandoned(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let temporary = entry.file_name().to_string_lossy().starts_with(".tmp-");
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|modified| modified.elapsed().ok());
            if temporary && age.is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
