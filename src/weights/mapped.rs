//! A file mapped into memory for reading.

#![allow(unsafe_code, reason = "a file that changes while it is mapped is beyond what Rust can check")]

use super::wrong;
use crate::error::{Error, Result};
use crate::quant::SharedBytes;
use memmap2::Mmap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mapped file and its path.
#[derive(Debug)]
pub(super) struct Mapped {
    path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps `path`.
    ///
    /// # Errors
    /// If it cannot be opened, is a folder, or is a Git LFS pointer instead of the weights.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = crate::input::open(path)?;
            // SAFETY: the map is read-only and shared. Somebody who truncates the file meanwhile ends this process with
            // a bus error, as with every program that maps files; bytes that change are only ever numbers.
            unsafe { Mmap::map(&file) }
        };
        let map = open().map_err(|e| Error::io("opening the weights", path, e))?;
        if map.starts_with(b"version https://git-lfs") {
            return Err(wrong("this is a Git LFS pointer, not the weights")
                .at_path(path)
                .hint("run `git lfs pull` in the model's folder, or download the file itself"));
        }
        Ok(Mapped { path: path.to_owned(), map })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
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
