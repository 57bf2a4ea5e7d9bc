//! GGUF files (versions 2 and 3, little endian): metadata, vocabulary and tensors, read and written.

mod convention;
mod cursor;
mod header;
mod metadata;
mod stacks;
mod value;
mod vocabulary;
mod write;

pub use convention::{Constant, Demands, norms_hold_one_plus};
pub use header::{Entry, Header, parse};
pub use metadata::Metadata;
pub use value::{Array, Value};
pub use vocabulary::Vocabulary;
pub use write::{GgufTensor, gguf_length, write_gguf};

use super::convert::Stored;
use super::mapped::Mapped;
use super::names::TensorId;
use super::{HostDtype, HostTensor, check_shape, wrong};
use crate::error::{Error, Place, Result};
use crate::quant::{QuantType, gguf_blocks::ggml_type_name};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// An open GGUF file whose header has been checked against its length.
#[derive(Debug)]
pub struct Gguf {
    file: Arc<Mapped>,
    header: Header,
    /// Its tensors; of a list each part by itself.
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Maps `path` and checks its header.
    ///
    /// # Errors
    /// If the file cannot be read, its header is wrong (see [`parse`]), or it is one part of a split model.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(Mapped::open(path)?);
        let header = header::parse_file(path, file.bytes())?;
        if let Some(parts) = header.metadata.u64("split.count").filter(|&parts| parts > 1) {
            return Err(wrong(format!("this is one of the {parts} parts of a split GGUF model"))
                .at_path(path)
                .hint("join the parts with llama.cpp's `llama-gguf-split --merge`, then use the joined file"));
        }
        let entries = stacks::apart(&header.tensors);
        let by_name = entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        Ok(Gguf { file, header, entries, by_name })
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

    /// What it says of its model.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The model's architecture as the file calls it: `gemma3`.
    pub fn architecture(&self) -> Option<&str> {
        self.metadata().str("general.architecture")
    }

    /// The vocabulary in the file, if it has one.
    ///
    /// # Errors
    /// If it is of another kind than Gemma's, or its parts disagree.
    pub fn vocabulary(&self) -> Result<Option<Vocabulary>> {
        Vocabulary::read(self.metadata()).map_err(|e| e.or_at(Place::Path(self.path().into())))
    }

    /// Its tensors. A list of matrices that the file holds as one tensor is there part by part, each by its own name
    /// ([`TensorId::gguf`]).
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of the tensor `name` (a GGUF name).
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|&i| self.entries.get(i))
    }

    /// Whether a tensor is in blocks that can be read, and not in plain floats.
    pub fn has_blocks(&self) -> bool {
        let is_blocks = |entry: &Entry| QuantType::from_ggml(entry.ggml_type).is_some_and(|of| !of.is_float());
        self.entries.iter().any(is_blocks)
    }

    /// The stored bytes of a tensor of this file, for code that unpacks blocks itself.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        self.file.bytes().get(entry.bytes.clone()).unwrap_or_default()
    }

    /// Reads a tensor, held as `held`; `None` as stored, with blocks as BF16.
    ///
    /// # Numerics
    /// Norms that the file holds as `1 + w` ([`norms_hold_one_plus`]) lose their 1 in `f32`: the result is Hugging Face's `w`.
    ///
    /// # Errors
    /// If it is missing, of a type that cannot be read, has another shape than `expected`, or holds what is no weight.
    pub fn read(&self, id: &TensorId, expected: &[usize], held: Option<HostDtype>) -> Result<HostTensor> {
        self.stored(id, expected).and_then(|stored| stored.read(held)).map_err(|e| self.locate(e))
    }

    /// Reads a tensor that is no part of a model, by its name in the file, as f32.
    ///
    /// # Errors
    /// As [`Gguf::read`].
    pub fn read_f32(&self, name: &str, expected: &[usize]) -> Result<HostTensor> {
        let read = || self.named(name, false, expected)?.read(Some(HostDtype::F32));
        read().map_err(|e| self.locate(e))
    }

    /// Finds a tensor, which must be of a type that can be read.
    ///
    /// # Errors
    /// As [`Gguf::read`].
    pub(super) fn stored(&self, id: &TensorId, expected: &[usize]) -> Result<Stored<'_>> {
        let one_plus = self.architecture().is_none_or(norms_hold_one_plus);
        self.named(&id.gguf(), id.is_norm() && one_plus, expected)
    }

    fn named(&self, name: &str, minus_one: bool, expected: &[usize]) -> Result<Stored<'_>> {
        let Some(entry) = self.entry(name) else {
            return Err(wrong(format!("tensor `{name}` is missing"))
                .hint("the file is incomplete, or of another kind of model"));
        };
        check_shape(name, expected, &entry.shape)?;
        let Some(of) = QuantType::from_ggml(entry.ggml_type) else {
            let readable: Vec<_> = QuantType::ALL.iter().map(|t| t.name()).collect();
            return Err(wrong(format!("tensor `{name}` is stored as {}, which cannot be read", entry.type_name()))
                .hint(format!("use a file whose tensors are {}", readable.join(", "))));
        };
        let bytes = entry.bytes.clone();
        Ok(Stored {
            name: &entry.name,
            file: &self.file,
            bytes,
            of,
            shape: &entry.shape,
            minus_one,
            refuse_unusable: true,
        })
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

/// The name of a tensor type, or its number where it has none.
fn type_name(ggml_type: u32) -> String {
    ggml_type_name(ggml_type).map_or_else(|| format!("type {ggml_type}"), str::to_owned)
}

#[cfg(test)]
mod tests;
