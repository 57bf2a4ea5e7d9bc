//! A model's tensors, from a folder or from a GGUF file, one at a time.

use super::gguf::Gguf;
use super::names::{Spelling, TensorId};
use super::safetensors_folder::SafetensorsFolder;
use super::{HostDtype, HostTensor};
use crate::error::Result;
use std::path::Path;

/// What a file says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
    /// How its elements are stored: `BF16`, `Q4_K`.
    pub dtype: String,
    /// Its bytes in the file; 0 for GGUF types that cannot be read.
    pub bytes: u64,
}

/// An open model. Nothing is read before [`Source::read`] asks for it.
#[derive(Debug)]
pub struct Source(Inner);

#[derive(Debug)]
enum Inner {
    Folder(SafetensorsFolder),
    Gguf(Box<Gguf>),
}

impl Source {
    /// Opens a Hugging Face model folder.
    ///
    /// # Errors
    /// As [`SafetensorsFolder::open`].
    pub fn open_folder(dir: &Path) -> Result<Self> {
        SafetensorsFolder::open(dir).map(|folder| Source(Inner::Folder(folder)))
    }

    /// Opens a GGUF file.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn open_gguf(path: &Path) -> Result<Self> {
        Gguf::open(path).map(|gguf| Source(Inner::Gguf(Box::new(gguf))))
    }

    /// The GGUF file, if the model is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.0 {
            Inner::Gguf(gguf) => Some(gguf),
            Inner::Folder(_) => None,
        }
    }

    /// Where a folder's checkpoint holds the language model; `None` for GGUF files.
    pub fn spelling(&self) -> Option<Spelling> {
        match &self.0 {
            Inner::Folder(folder) => Some(folder.spelling()),
            Inner::Gguf(_) => None,
        }
    }

    /// Reads a tensor on all threads, held as `held`; `None` as stored, with GGUF blocks as BF16.
    ///
    /// Beside the result at most 32 MiB of the file are in memory.
    ///
    /// # Numerics
    /// In Hugging Face's convention: a GGUF file's norms lose their 1. Widening is exact; narrowing rounds to nearest,
    /// ties to even.
    ///
    /// # Errors
    /// If it is missing, of a type that cannot be read, or has another shape than `expected`.
    pub fn read(&self, id: &TensorId, expected: &[usize], held: Option<HostDtype>) -> Result<HostTensor> {
        match &self.0 {
            Inner::Folder(folder) => folder.read(id, expected, held),
            Inner::Gguf(gguf) => gguf.read(id, expected, held),
        }
    }

    /// Reads a tensor that is not of the language model, such as one of a vision tower, as it is stored.
    ///
    /// # Errors
    /// If a folder has no tensor of this name, or it is not made of floats; GGUF files have none to give.
    pub fn read_unused(&self, name: &str) -> Result<HostTensor> {
        match &self.0 {
            Inner::Folder(folder) => folder.read_unused(name),
            Inner::Gguf(_) => Err(super::wrong(format!("tensor `{name}` is not of the language model"))),
        }
    }

    /// Whether the model has this tensor.
    pub fn contains(&self, id: &TensorId) -> bool {
        self.shape(id).is_some()
    }

    /// The shape of a tensor as stored.
    pub fn shape(&self, id: &TensorId) -> Option<&[usize]> {
        match &self.0 {
            Inner::Folder(folder) => folder.entry(id).map(|entry| entry.shape.as_slice()),
            Inner::Gguf(gguf) => gguf.entry(&id.gguf()).map(|entry| entry.shape.as_slice()),
        }
    }

    /// How a tensor is stored: `BF16`, `Q4_K`; `None` if the model does not have it.
    pub fn stored_dtype(&self, id: &TensorId) -> Option<String> {
        match &self.0 {
            Inner::Folder(folder) => folder.entry(id).map(|entry| entry.dtype.to_string()),
            Inner::Gguf(gguf) => gguf.entry(&id.gguf()).map(|entry| entry.type_name()),
        }
    }

    /// Every tensor in the model's files, also those that are not used.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        match &self.0 {
            Inner::Folder(folder) => folder
                .files()
                .iter()
                .flat_map(|file| &file.header().tensors)
                .map(|entry| {
                    let (name, shape, dtype) = (entry.name.clone(), entry.shape.clone(), entry.dtype.to_string());
                    TensorInfo { name, shape, dtype, bytes: entry.bytes.len() as u64 }
                })
                .collect(),
            Inner::Gguf(gguf) => gguf
                .header()
                .tensors
                .iter()
                .map(|entry| {
                    let (name, shape, dtype) = (entry.name.clone(), entry.shape.clone(), entry.type_name());
                    TensorInfo { name, shape, dtype, bytes: entry.bytes.len() as u64 }
                })
                .collect(),
        }
    }

    /// Names in the files that are not of the language model: a vision tower, for example.
    pub fn unused(&self) -> Vec<String> {
        let used = |name: &str| match &self.0 {
            Inner::Folder(_) => Spelling::parse(name).is_some(),
            Inner::Gguf(_) => TensorId::parse_gguf(name).is_some(),
        };
        self.tensors().into_iter().map(|info| info.name).filter(|name| !used(name)).collect()
    }

    /// A short text that differs between different weights: BLAKE3 over the headers, sizes and the first bytes of each
    /// tensor. Reads little, so it is no proof against damage.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        match &self.0 {
            Inner::Folder(folder) => folder.files().iter().for_each(|file| file.fingerprint(&mut hasher)),
            Inner::Gguf(gguf) => gguf.fingerprint(&mut hasher),
        }
        hasher.finalize().to_hex().to_string()
    }
}
