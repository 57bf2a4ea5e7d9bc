//! A model's tensors, from a folder or from a GGUF file, one at a time.

use super::convert::Stored;
use super::gguf::Gguf;
use super::holding::{Compression, Form, Holding};
use super::mapped::Mapped;
use super::names::{Spelling, TensorId};
use super::safetensors_file::{SafetensorsFile, stored_type};
use super::safetensors_folder::SafetensorsFolder;
use super::tensor_info::TensorInfo;
use super::{HostDtype, HostTensor};
use crate::error::{Place, Result};
use crate::quant::{QuantType, QuantizedMatrix};
use std::path::Path;

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
    /// Beside the result at most 32 MB of the file are in memory.
    ///
    /// # Numerics
    /// In Hugging Face's convention: a GGUF file's norms lose the 1 that they may hold. Widening is exact; narrowing rounds to nearest,
    /// ties to even.
    ///
    /// # Errors
    /// If it is missing, of a type that cannot be read, or has another shape than `expected`.
    pub fn read(&self, id: &TensorId, expected: &[usize], held: Option<HostDtype>) -> Result<HostTensor> {
        self.check_whole()?;
        match &self.0 {
            Inner::Folder(folder) => folder.read(id, expected, held),
            Inner::Gguf(gguf) => gguf.read(id, expected, held),
        }
    }

    /// Opens the matrix `[rows, columns]` to read some of its rows at a time.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn rows(&self, id: &TensorId, dims: [usize; 2]) -> Result<Rows<'_>> {
        self.check_whole()?;
        let held = match &self.0 {
            Inner::Folder(folder) => match folder.read_packed(id, &dims)? {
                Some(matrix) => HeldRows::Packed(matrix),
                None => HeldRows::Stored(folder.stored(id, &dims)?),
            },
            Inner::Gguf(gguf) => HeldRows::Stored(gguf.stored(id, &dims).map_err(|e| gguf.locate(e))?),
        };
        Ok(Rows { source: self, columns: dims[1], held })
    }

    /// Reads a matrix in the compressed form that `holding` gives it, on all threads; `None` where it is held as plain
    /// floats, which [`Source::read`] reads. What is to be quantised is read in slabs: beside the result at most 32 MB
    /// of the file are in memory. What stays as it is stored is not read at all.
    ///
    /// # Errors
    /// As [`Source::read`], or if a value is not finite and is to be quantised.
    pub fn read_compressed(
        &self,
        id: &TensorId,
        dims: [usize; 2],
        holding: &Holding,
    ) -> Result<Option<QuantizedMatrix>> {
        self.check_whole()?;
        let stored = || match &self.0 {
            Inner::Folder(folder) => folder.stored(id, &dims),
            Inner::Gguf(gguf) => gguf.stored(id, &dims).map_err(|e| gguf.locate(e)),
        };
        if let Inner::Folder(folder) = &self.0
            && let Some(packed) = folder.read_packed(id, &dims)?
        {
            return Ok(Some(packed));
        }
        let matrix = match self.compression(id, holding) {
            Compression::None => return Ok(None),
            Compression::AsStored => stored()?.share(),
            Compression::Int8 => stored()?.to_int8(),
            Compression::Nf4 => stored()?.to_nf4(false),
            Compression::Nf4Double => stored()?.to_nf4(true),
        };
        matrix.map(Some).map_err(|e| e.or_at(Place::Path(self.path().into())))
    }

    /// The form that `holding` gives a matrix, from the headers alone; `None` if the model does not have it. What is
    /// stored in a type that cannot be read counts as bf16: it is refused when it is read.
    pub fn form(&self, id: &TensorId, holding: &Holding) -> Option<Form> {
        let stored = match &self.0 {
            Inner::Folder(folder) => match folder.packed(id) {
                Some(packed) => return Some(Form::Nf4 { double: packed.is_double() }),
                None => stored_type(folder.entry(id)?.dtype),
            },
            Inner::Gguf(gguf) => QuantType::from_ggml(gguf.entry(&id.gguf())?.ggml_type),
        };
        Some(holding.form(self.compression(id, holding), stored.unwrap_or(QuantType::BF16)))
    }

    /// Refuses a holding that contradicts how the model is stored.
    ///
    /// # Errors
    /// `as_stored` for a folder of plain floats; another compression than the one that a folder is stored in.
    pub fn check(&self, holding: &Holding) -> Result<()> {
        let Inner::Folder(folder) = &self.0 else { return Ok(()) };
        let wrong = |what: String, hint: &str| Err(super::wrong(what).hint(hint));
        match (folder.any_packed(), holding.projections) {
            (_, Compression::None) | (Some(_), Compression::AsStored) => Ok(()),
            (None, _) => holding.check_plain(),
            (Some(packed), Compression::Nf4) if !packed.is_double() => Ok(()),
            (Some(packed), Compression::Nf4Double) if packed.is_double() => Ok(()),
            (Some(packed), _) => wrong(
                format!("the weights are stored as {}, and cannot be quantised again", packed.kind()),
                "leave `quantization` out to train on them as they are, or use the original model",
            ),
        }
    }

    /// What is done to a matrix that is stored as plain floats or in GGUF blocks. In a folder that is stored quantised,
    /// a projection that was left out stays as it is.
    fn compression(&self, id: &TensorId, holding: &Holding) -> Compression {
        match (&self.0, id, holding.of(id)) {
            (_, TensorId::EmbedTokensPerLayer, compression) => compression,
            (Inner::Folder(folder), id, _) if id.is_linear() && folder.any_packed().is_some() => Compression::None,
            (Inner::Folder(_), _, Compression::AsStored) => Compression::None,
            (_, _, compression) => compression,
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Inner::Folder(folder) => folder.dir(),
            Inner::Gguf(gguf) => gguf.path(),
        }
    }

    /// The files that it is in.
    fn mapped(&self) -> Vec<&Mapped> {
        match &self.0 {
            Inner::Folder(folder) => folder.files().iter().map(SafetensorsFile::mapped).collect(),
            Inner::Gguf(gguf) => vec![gguf.mapped()],
        }
    }

    /// Makes sure that no file was cut since it was opened: what is gone must not be touched.
    ///
    /// # Errors
    /// If one was.
    fn check_whole(&self) -> Result<()> {
        self.mapped().into_iter().try_for_each(Mapped::check)
    }

    /// Makes sure that what is still read from the files is what it was when it had this [`Source::fingerprint`].
    ///
    /// # Errors
    /// If a file was cut, or other weights were written into it.
    pub fn check_steady(&self, fingerprint: &str) -> Result<()> {
        self.check_whole()?;
        match self.mapped().into_iter().find(|file| file.was_written()) {
            Some(file) if self.fingerprint() != fingerprint => {
                Err(super::wrong("the file was written to while it was in use").at_path(file.path()))
            }
            _ => Ok(()),
        }
    }

    /// The files at whose paths something else is now than when they were opened.
    pub fn changed(&self) -> Vec<&Path> {
        self.mapped().into_iter().filter(|file| file.has_changed()).map(Mapped::path).collect()
    }

    /// Reads a tensor that is not of the language model, such as one of a vision tower, as it is stored.
    ///
    /// # Errors
    /// If a folder has no tensor of this name, or it is not made of floats; GGUF files have none to give.
    pub fn read_unused(&self, name: &str) -> Result<HostTensor> {
        self.check_whole()?;
        match &self.0 {
            Inner::Folder(folder) => folder.read_unused(name),
            Inner::Gguf(_) => Err(super::wrong(format!("tensor `{name}` is not of the language model"))),
        }
    }

    /// Whether the model has this tensor.
    pub fn contains(&self, id: &TensorId) -> bool {
        self.shape(id).is_some()
    }

    /// The shape of a tensor.
    pub fn shape(&self, id: &TensorId) -> Option<&[usize]> {
        match &self.0 {
            Inner::Folder(folder) => match folder.packed(id) {
                Some(packed) => Some(&packed.dims),
                None => folder.entry(id).map(|entry| entry.shape.as_slice()),
            },
            Inner::Gguf(gguf) => gguf.entry(&id.gguf()).map(|entry| entry.shape.as_slice()),
        }
    }

    /// How a tensor is stored: `BF16`, `Q4_K`; `None` if the model does not have it.
    pub fn stored_dtype(&self, id: &TensorId) -> Option<String> {
        match &self.0 {
            Inner::Folder(folder) => match folder.packed(id) {
                Some(packed) => Some(packed.kind().to_owned()),
                None => folder.entry(id).map(|entry| entry.dtype.to_string()),
            },
            Inner::Gguf(gguf) => gguf.entry(&id.gguf()).map(|entry| entry.type_name()),
        }
    }

    /// Every tensor in the model's files, also those that are not used. A matrix that bitsandbytes packed is one of
    /// them, with its own shape; of a list that a GGUF file holds as one tensor each part is one.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        match &self.0 {
            Inner::Folder(folder) => folder
                .files()
                .iter()
                .flat_map(|file| &file.header().tensors)
                .filter_map(|entry| folder.info(entry))
                .collect(),
            Inner::Gguf(gguf) => gguf
                .entries()
                .iter()
                .map(|entry| {
                    let (name, shape, dtype) = (entry.name.clone(), entry.shape.clone(), entry.type_name());
                    TensorInfo { name, shape, dtype, bytes: entry.bytes.len() as u64 }
                })
                .collect(),
        }
    }

    /// Which tensor of the language model has this name in the files.
    pub fn id(&self, name: &str) -> Option<TensorId> {
        self.parse(name).filter(TensorId::is_of_text)
    }

    /// The same, also of what stands beside the language model.
    pub fn parse(&self, name: &str) -> Option<TensorId> {
        match &self.0 {
            Inner::Folder(_) => Spelling::parse(name).map(|(_, id)| id),
            Inner::Gguf(_) => TensorId::parse_gguf(name),
        }
    }

    /// Refuses a tensor that is missing, cannot be read, or has another shape than `expected`, from the headers alone.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn check_tensor(&self, id: &TensorId, expected: &[usize]) -> Result<()> {
        match &self.0 {
            Inner::Folder(folder) => match folder.packed(id) {
                Some(_) => folder.check_packed(id, expected),
                None => folder.stored(id, expected).map(|_| ()),
            },
            Inner::Gguf(gguf) => gguf.stored(id, expected).map(|_| ()).map_err(|e| gguf.locate(e)),
        }
    }

    /// Whether two tensors hold the same numbers. Those of matrices that bitsandbytes packed are not compared: they
    /// count as different.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn is_same(&self, one: &TensorId, other: &TensorId) -> Result<bool> {
        let (Some(shape), Some(other_shape)) = (self.shape(one), self.shape(other)) else { return Ok(false) };
        if shape != other_shape {
            return Ok(false);
        }
        match &self.0 {
            Inner::Folder(folder) if folder.packed(one).is_some() || folder.packed(other).is_some() => Ok(false),
            Inner::Folder(folder) => folder.stored(one, shape)?.is_same(&folder.stored(other, shape)?),
            Inner::Gguf(gguf) => gguf.stored(one, shape)?.is_same(&gguf.stored(other, shape)?),
        }
    }

    /// Whether bitsandbytes packed any of a folder's matrices.
    pub fn is_packed(&self) -> bool {
        matches!(&self.0, Inner::Folder(folder) if folder.any_packed().is_some())
    }

    /// Names in the files that are not of the language model: a vision tower, for example.
    pub fn unused(&self) -> Vec<String> {
        self.tensors().into_iter().map(|info| info.name).filter(|name| self.id(name).is_none()).collect()
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

/// The rows of a matrix in files.
pub struct Rows<'a> {
    source: &'a Source,
    columns: usize,
    held: HeldRows<'a>,
}

/// The form that rows are read from.
enum HeldRows<'a> {
    Packed(QuantizedMatrix),
    Stored(Stored<'a>),
}

impl Rows<'_> {
    /// Reads the rows from `first` on, as many as `out` has, in f32 and otherwise as [`Source::read`] does.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.source.check_whole()?;
        match &self.held {
            HeldRows::Packed(matrix) => {
                matrix.dequantize_rows_parallel(first..first + out.len() / self.columns.max(1), out);
                Ok(())
            }
            HeldRows::Stored(stored) => {
                stored.read_from(first * self.columns, out).map_err(|e| match self.source.gguf() {
                    Some(gguf) => gguf.locate(e),
                    None => e,
                })
            }
        }
    }
}
