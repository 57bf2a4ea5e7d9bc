//! Writing one checkpoint: parts into a hidden folder, the manifest last, then one rename.

use super::manifest::{Fingerprint, Manifest, Part, is_part_name};
use super::{MANIFEST, META, REPLACED, SAVING};
use crate::atomic::sync_folder;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A checkpoint being written. Dropped without [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    folder: TempDir,
    step: u64,
    parts: BTreeMap<String, Part>,
}

impl Writer {
    /// Begins the checkpoint of `step` in `dir`, the run's `checkpoints` folder, which is created if need be.
    ///
    /// # Errors
    /// If a folder cannot be created.
    pub fn new(dir: &Path, step: u64) -> Result<Self> {
        if !dir.is_dir() {
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(dir)
                .and_then(|()| sync_folder(parent))
                .map_err(|e| Error::io("creating the folder", dir, e))?;
        }
        let folder = super::temporary(dir, SAVING, step)?;
        #[cfg(unix)]
        {
            // A temporary folder is private; a checkpoint should be readable like any other folder of the user.
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
                .map_err(|e| Error::io("creating the folder", folder.path(), e))?;
        }
        Ok(Self { dir: dir.to_path_buf(), folder, step, parts: BTreeMap::new() })
    }

    /// Adds the part `name` with `bytes` as its content.
    ///
    /// # Errors
    /// As [`Writer::part_with`].
    pub fn part(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.part_with(name, |w| w.write_all(bytes))
    }

    /// Adds the part `name` with the content that `fill` writes, which never has to be in memory as a whole.
    ///
    /// # Errors
    /// If `name` is not a plain file name or already used, or if writing fails.
    pub fn part_with(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        if !is_part_name(name) || self.parts.contains_key(name) {
            let what = format!("`{name}` cannot name a checkpoint's part: it is taken or no plain file name");
            return Err(Error::new(Kind::Checkpoint, what));
        }
        let part = write_synced(&self.folder.path().join(name), fill)
            .map_err(|e| Error::io("writing the checkpoint", self.dir.join(format!("step-{}", self.step)), e))?;
        self.parts.insert(name.to_owned(), part);
        Ok(())
    }

    /// Adds `meta` and the manifest, and gives the checkpoint its name; returns its folder.
    ///
    /// A checkpoint of the same step is replaced. Killed at any moment, the old state or the new one is found.
    ///
    /// # Errors
    /// If writing or renaming fails; the older checkpoints are then as they were.
    pub fn finish(mut self, fingerprint: &Fingerprint, meta: &serde_json::Value) -> Result<PathBuf> {
        self.part_with(META, |w| Ok(serde_json::to_writer_pretty(w, meta)?))?;
        let manifest = Manifest::new(self.step, fingerprint.clone(), std::mem::take(&mut self.parts)).to_bytes();
        let target = super::folder(&self.dir, self.step);
        write_synced(&self.folder.path().join(MANIFEST), |w| w.write_all(&manifest))
            .and_then(|_| sync_folder(self.folder.path()))
            .map_err(|e| Error::io("writing the checkpoint", &target, e))?;

        let former = if target.exists() {
            let former = super::temporary(&self.dir, REPLACED, self.step)?;
            super::rename(&target, former.path())?;
            Some(former.keep())
        } else {
            None
        };
        if let Err(error) = super::rename(self.folder.path(), &target) {
            if let Some(former) = former {
                super::rename(&former, &target)?;
            }
            return Err(error);
        }
        let _ = self.folder.keep(); // it bears its final name: nothing is left to remove
        former.map_or(Ok(()), |former| super::remove(&former))?;
        Ok(target)
    }
}

/// Writes a new file through `fill`, syncs it, and returns its length and hash.
fn write_synced(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Part> {
    let file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    let mut writer = Hashing { file, hasher: blake3::Hasher::new() };
    fill(&mut writer)?;
    writer.file.flush()?;
    writer.file.get_ref().sync_all()?;
    Ok(Part { bytes: writer.hasher.count(), blake3: writer.hasher.finalize().to_hex().to_string() })
}

struct Hashing {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
