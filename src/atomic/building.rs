//! A folder under construction: one at a time for each name, and never in the way of the next.

use super::live::{Live, OURS};
use super::locked::{Locked, Unlocked};
use super::target::folder_of;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Times that a folder which vanishes between two looks is looked at again.
const TRIES: usize = 100;

/// The longest name that stands in the name of its temporary folder; file systems take 255 bytes.
const MAX_NAME_BYTES: usize = 200;

/// A folder that becomes another one by a rename. It is locked, so that no other process builds the same one, and is
/// removed when it is dropped before; what a killed process left under its name is cleared away.
#[derive(Debug)]
pub(crate) struct Building {
    path: PathBuf,
    // In this order: nobody else may build here before the folder is gone.
    live: Option<Live>,
    _lock: Option<Locked>,
}

impl Building {
    /// Begins what is to become `dir`, beside it; `None` while another process builds it.
    ///
    /// # Errors
    /// When the folder cannot be made, or what is left of a former one cannot be removed.
    pub(crate) fn begin(dir: &Path) -> io::Result<Option<Self>> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let name = match name.len() {
            0..=MAX_NAME_BYTES => name.into_owned(),
            _ => blake3::hash(name.as_bytes()).to_hex()[..16].to_owned(),
        };
        // Its own name tells that it is ours.
        let path = folder_of(dir).join(format!("{OURS}{name}"));
        for _ in 0..TRIES {
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let lock = match lock(&path) {
                Ok(lock) => lock,
                Err(Unlocked::Held(_)) => return Ok(None),
                // The former holder has just removed it or given it its final name.
                Err(Unlocked::Failed(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(Unlocked::Failed(error)) => return Err(error),
            };
            if lock.as_ref().is_none_or(|lock| is_at(lock, &path)) {
                let building = Building { live: Some(Live::new(&path)), path, _lock: lock };
                clear(&building.path)?;
                return Ok(Some(building));
            }
        }
        Ok(None)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It has been given its final name.
    pub(crate) fn done(mut self) {
        self.path = PathBuf::new();
        self.live = None;
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Locks a folder; `None` where folders cannot be opened as files.
fn lock(path: &Path) -> Result<Option<Locked>, Unlocked> {
    if cfg!(not(unix)) {
        return Ok(None);
    }
    Locked::take(File::open(path).map_err(Unlocked::Failed)?).map(Some)
}

/// Whether the open folder is still the one at `path`.
#[cfg(unix)]
fn is_at(folder: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(opened), Ok(found)) = (folder.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (found.dev(), found.ino())
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let removed =
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_of_a_killed_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("merged");
        let left = || fs::read_dir(root.path()).unwrap().count();
        // Killed: the folder and what was in it stay, and nobody holds it.
        fs::create_dir_all(root.path().join(".tmp-gemma-tune-merged/deep")).unwrap();
        fs::write(root.path().join(".tmp-gemma-tune-merged/half"), "").unwrap();
        let first = Building::begin(&dir).unwrap().unwrap();
        assert_eq!(fs::read_dir(first.path()).unwrap().count(), 0);
        assert!(Building::begin(&dir).unwrap().is_none(), "another builds it");
        let other = Building::begin(&root.path().join("other")).unwrap().unwrap();
        fs::rename(first.path(), &dir).unwrap();
        first.done();
        drop(other);
        assert_eq!(left(), 1);
        let second = Building::begin(&dir).unwrap().unwrap();
        drop(second);
        assert_eq!(left(), 1, "the finished one stays");
        let long = root.path().join("x".repeat(255));
        assert!(Building::begin(&long).unwrap().is_some());
    }
}
