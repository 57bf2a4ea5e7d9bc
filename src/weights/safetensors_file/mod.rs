//! One safetensors file: reading tensors from it, and writing it tensor by tensor.

mod header;
mod shards;
mod write;

pub use header::{Entry, Header, parse};
pub use shards::write_sharded;
pub use write::{FORMAT_PT, LaidOut, TensorSpec, laid_out, write_safetensors, write_streamed};

use super::convert::Stored;
use super::mapped::Mapped;
use super::{HostDtype, HostTensor, check_shape, wrong};
use crate::error::{Error, Place, Result, did_you_mean};
use crate::quant::{QuantType, SharedBytes};
use safetensors::Dtype;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct SafetensorsFile {
    file: Arc<Mapped>,
    header: Header,
    by_name: HashMap<String, usize>,
}

impl SafetensorsFile {
    /// Maps `path` and checks its header.
    ///
    /// # Errors
    /// If the file cannot be read, or its header is wrong: see [`parse`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(Mapped::open(path)?);
        let header = parse(file.bytes()).map_err(|e| e.or_at(Place::Path(path.into())))?;
        let by_name = header.tensors.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        Ok(SafetensorsFile { file, header, by_name })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, mapped.
    pub(in crate::weights) fn mapped(&self) -> &Mapped {
        &self.file
    }

    /// The checked header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The entry of the tensor `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|&i| self.header.tensors.get(i))
    }

    /// Reads the tensor `name`, held as `held` (`None`: as stored).
    ///
    /// # Errors
    /// If it is missing, is not made of floats, or has another shape than `expected`.
    pub fn read(&self, name: &str, expected: &[usize], held: Option<HostDtype>) -> Result<HostTensor> {
        self.stored(name, expected).and_then(|stored| stored.read(held)).map_err(|e| self.locate(e))
    }

    /// Finds the tensor `name`, which must be made of floats.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`].
    pub(super) fn stored<'a>(&'a self, name: &'a str, expected: &[usize]) -> Result<Stored<'a>> {
        let Some(entry) = self.entry(name) else {
            let error = wrong(format!("tensor `{name}` is missing"));
            let similar = did_you_mean(name, self.by_name.keys().map(String::as_str));
            return Err(error.hint(match similar {
                Some(similar) => format!("the file has `{similar}`: is it of another kind of model?"),
                None => "the file belongs to another kind of model".to_owned(),
            }));
        };
        check_shape(name, expected, &entry.shape)?;
        let of = stored_type(entry.dtype).ok_or_else(|| {
            wrong(format!("tensor `{name}` is stored as {}, which cannot be read", entry.dtype))
                .hint("F32, BF16 and F16 can: use the model's original, unquantised weights")
        })?;
        let bytes = entry.bytes.clone();
        Ok(Stored { name, file: &self.file, bytes, of, shape: &entry.shape, minus_one: false, refuse_unusable: false })
    }

    /// The bytes of a tensor of this file, as they are.
    pub(super) fn share(&self, entry: &Entry) -> Option<SharedBytes> {
        self.file.share(entry.bytes.clone())
    }

    /// Adds the file to an error that names no place.
    pub(super) fn locate(&self, error: Error) -> Error {
        error.or_at(Place::Path(self.path().into()))
    }

    /// Feeds what tells this file from another to `hasher`: the header and the first bytes of each tensor.
    pub(super) fn fingerprint(&self, hasher: &mut blake3::Hasher) {
        let tensors = self.header.tensors.iter().map(|entry| entry.bytes.clone());
        self.file.sample(hasher, self.header.data_start, tensors);
    }
}

/// The type of a file's elements, if it can be read.
pub(super) fn stored_type(dtype: Dtype) -> Option<QuantType> {
    match dtype {
        Dtype::F32 => Some(QuantType::F32),
        Dtype::BF16 => Some(QuantType::BF16),
        Dtype::F16 => Some(QuantType::F16),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
