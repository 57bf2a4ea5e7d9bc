//! A file mapped into memory for reading.

#![allow(unsafe_code, reason = "a file that changes while it is mapped is beyond what Rust can check")]

use super::wrong;
use crate::error::{Error, Kind, Result};
use crate::quant::SharedBytes;
use memmap2::Mmap;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A mapped file and its path.
#[derive(Debug)]
pub(super) struct Mapped {
    path: PathBuf,
    map: Mmap,
    file: File,
    stamp: Option<Stamp>,
}

/// What tells that a file is still the one that was opened: size, time, and which file it is.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, Option<SystemTime>, [u64; 2]);

impl Stamp {
    fn of(found: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            [found.dev(), found.ino()]
        };
        #[cfg(not(unix))]
        let identity = [0, 0];
        Stamp(found.len(), found.modified().ok(), identity)
    }
}

impl Mapped {
    /// Maps `path`.
    ///
    /// # Errors
    /// If it cannot be opened, is a folder, or is a Git LFS pointer instead of the weights.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = crate::input::open(path)?;
            let found = file.metadata()?;
            // SAFETY: the map is read-only and shared. Somebody who truncates the file while its pages are read ends
            // this process with a bus error, as with every program that maps files, so [`Mapped::check`] looks before
            // every tensor; bytes that change are only ever numbers.
            let map = unsafe { Mmap::map(&file)? };
            std::io::Result::Ok((map, file, Stamp::of(&found)))
        };
        let (map, file, stamp) = open().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => crate::input::wrong_name(e, path, Kind::Weights),
            _ => Error::io("opening the weights", path, e),
        })?;
        if map.starts_with(b"version https://git-lfs") {
            return Err(wrong("this is a Git LFS pointer, not the weights")
                .at_path(path)
                .hint("run `git lfs pull` in the model's folder, or download the file itself"));
        }
        Ok(Mapped { path: path.to_owned(), map, file, stamp: Some(stamp) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Makes sure that the pages are still there to be read.
    ///
    /// # Errors
    /// If the file has been cut since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        match self.file.metadata() {
            Ok(found) if found.len() < self.map.len() as u64 => Err(wrong(format!(
                "the file was cut from {} to {} bytes while it was in use",
                self.map.len(),
                found.len()
            ))
            .at_path(&self.path)
            .hint("copy or download it again")),
            _ => Ok(()),
        }
    }

    /// Whether somebody has written into the file since it was opened; another file at its path is no matter.
    pub(super) fn was_written(&self) -> bool {
        self.file.metadata().ok().map(|found| Stamp::of(&found)) != self.stamp
    }

    /// Whether another file, or other bytes, are at the path now than when it was opened.
    pub(super) fn has_changed(&self) -> bool {
        std::fs::metadata(&self.path).ok().map(|found| Stamp::of(&found)) != self.stamp
    }

    /// A run of the file's bytes that stays valid when this is dropped; `None` if the file does not have it.
    pub(super) fn share(self: &Arc<Self>, range: Range<usize>) -> Option<SharedBytes> {
        SharedBytes::new(self.clone(), range)
    }

    /// Feeds the first `data_start` bytes, the header, to `hasher`, and of each tensor the size and the first bytes.
    pub(super) fn sample(
        &self,
        hasher: &mut blake3::Hasher,
        data_start: usize,
        tensors: impl Iterator<Item = Range<usize>>,
    ) {
        const SAMPLED: usize = 256;
        if self.check().is_err() {
            return;
        }
        hasher.update(&self.map[..data_start.min(self.map.len())]);
        for tensor in tensors {
            hasher.update(&(tensor.len() as u64).to_le_bytes());
            let bytes = self.map.get(tensor).unwrap_or_default();
            hasher.update(&bytes[..SAMPLED.min(bytes.len())]);
        }
        self.release(0..self.map.len());
    }

    /// Lets the system drop the pages of `range` from this process; reading them again brings them back.
    ///
    /// Without it a model's file would count beside its copy until the file is closed.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if !range.is_empty() && range.end <= self.map.len() {
            // SAFETY: the range is inside the map, and dropped pages of a read-only shared map of a file are read from
            // the file again, so no byte changes. A refusal only costs memory.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
