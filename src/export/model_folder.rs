//! A whole model as a Hugging Face folder, one tensor at a time.

use super::folder::{Existing, write_folder};
use super::space::check_space;
use crate::atomic;
use crate::error::Result;
use crate::progress::Progress;
use crate::weights::HostTensor;
use crate::weights::safetensors_file::{TensorSpec, write_sharded};
use std::path::Path;

/// The size at which Hugging Face libraries begin another file.
pub(super) const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// A folder to be written.
pub(super) struct ModelFolder<'a> {
    /// Where it is to be; nothing, or an empty folder, is there.
    pub dir: &'a Path,
    /// Its `config.json`.
    pub config: &'a str,
    /// Its tensors, in the order of its files.
    pub specs: &'a [TensorSpec],
    /// The largest file.
    pub max_shard_bytes: usize,
    /// What it is called: `the merged model`.
    pub what: &'a str,
    /// What is done to its tensors: `Merging`.
    pub doing: &'a str,
}

impl ModelFolder<'_> {
    /// Writes the folder with the tensors that `produce` makes, and what `companions` adds. Returns the bytes of all tensors.
    ///
    /// # Errors
    /// Too little space, a folder that is not empty, and those of `produce` and `companions`; then the folder is as it was.
    pub fn write(
        &self,
        companions: impl FnOnce(&Path) -> Result<()>,
        mut produce: impl FnMut(&TensorSpec) -> Result<HostTensor>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let bytes = self.specs.iter().map(TensorSpec::bytes).sum::<Result<usize>>()? as u64;
        check_space(self.dir, bytes, self.what)?;
        write_folder(self.dir, Existing::Refuse, |folder| {
            companions(folder)?;
            atomic::write(&folder.join("config.json"), self.config.as_bytes())?;
            progress.start(self.doing, Some(self.specs.len() as u64), "tensors");
            write_sharded(folder, self.specs, self.max_shard_bytes, |spec| {
                let tensor = produce(spec)?;
                progress.advance(1);
                Ok(tensor)
            })?;
            progress.finish();
            Ok(())
        })?;
        Ok(bytes)
    }
}
