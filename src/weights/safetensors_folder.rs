//! The weights of a Hugging Face model folder: one safetensors file, or shards with an index.

use super::bitsandbytes::Packed;
use super::convert::{Stored, unpack};
use super::names::{Spelling, TensorId};
use super::safetensors_file::{Entry, SafetensorsFile};
use super::safetensors_index::{INDEX_NAME, Index};
use super::{DAMAGED, HostDtype, HostTensor, TensorInfo, check_shape, wrong};
use crate::error::{Error, Kind, Result};
use crate::quant::QuantizedMatrix;
use crate::quant::matrix::nf4_bytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The single file of a model that is not sharded.
const SINGLE_NAME: &str = "model.safetensors";

/// An open model folder.
#[derive(Debug)]
pub struct SafetensorsFolder {
    dir: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Per tensor of the language model: its file and its name there.
    tensors: HashMap<TensorId, (usize, String)>,
    /// The matrices of the language model that bitsandbytes packed.
    packed: HashMap<TensorId, Packed>,
    spelling: Spelling,
}

impl SafetensorsFolder {
    /// Opens `dir`, checks every header, and the index against the shards.
    ///
    /// # Errors
    /// If the folder has no safetensors weights, a shard is missing or damaged, index and shards disagree, a tensor is
    /// there twice, or none of the tensors belongs to a Gemma language model.
    pub fn open(dir: &Path) -> Result<Self> {
        let (single, index) = (dir.join(SINGLE_NAME), dir.join(INDEX_NAME));
        let files = if single.exists() {
            vec![SafetensorsFile::open(&single)?]
        } else if index.exists() {
            open_shards(dir, &index)?
        } else {
            return Err(no_weights(dir));
        };
        let names = || files.iter().flat_map(|file| &file.header().tensors).map(|entry| entry.name.as_str());
        let Some(spelling) = Spelling::detect(names()) else {
            let first = names().next().unwrap_or("none");
            return Err(wrong(format!("no tensor has a name of Gemma's language model (the first is `{first}`)"))
                .at_path(dir)
                .hint("the folder holds another kind of model, or only a part of one"));
        };
        let mut tensors: HashMap<TensorId, (usize, String)> = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            for entry in &file.header().tensors {
                let Some((_, id)) = Spelling::parse(&entry.name) else { continue };
                if let Some((_, other)) = tensors.insert(id, (i, entry.name.clone())) {
                    let what = format!("tensor `{id}` is there twice: as `{other}` and as `{}`", entry.name);
                    return Err(wrong(what).at_path(file.path()).hint("the folder mixes two checkpoints"));
                }
            }
        }
        let mut packed = HashMap::new();
        for (id, (_, name)) in &tensors {
            if let Some(found) = Packed::find(&files, name)? {
                packed.insert(*id, found);
            }
        }
        Ok(SafetensorsFolder { dir: dir.to_owned(), files, tensors, packed, spelling })
    }

    /// Where the checkpoint holds the language model.
    pub fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What to say of a tensor in the files: of a packed matrix in place of its codes, and nothing of its other parts.
    pub(super) fn info(&self, entry: &Entry) -> Option<TensorInfo> {
        let (name, bytes) = (entry.name.clone(), entry.bytes.len() as u64);
        match Spelling::parse(&name).and_then(|(_, id)| self.packed.get(&id)) {
            Some(packed) => {
                let bytes = nf4_bytes(packed.dims, packed.is_double());
                Some(TensorInfo { name, shape: packed.dims.to_vec(), dtype: packed.kind().into(), bytes })
            }
            None if Packed::is_part(&name) => None,
            None => Some(TensorInfo { name, shape: entry.shape.clone(), dtype: entry.dtype.to_string(), bytes }),
        }
    }

    /// The files, sorted by name.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }

    /// The entry of a tensor of the language model.
    pub fn entry(&self, id: &TensorId) -> Option<&Entry> {
        let (file, name) = self.tensors.get(id)?;
        self.files.get(*file)?.entry(name)
    }

    /// The state of a matrix that bitsandbytes packed.
    pub(super) fn packed(&self, id: &TensorId) -> Option<&Packed> {
        self.packed.get(id)
    }

    /// The state of some packed matrix, if there is one.
    pub(super) fn any_packed(&self) -> Option<&Packed> {
        self.packed.values().next()
    }

    /// A matrix that bitsandbytes packed, as it is; `None` if it did not pack this one.
    ///
    /// # Errors
    /// If it has another shape than `expected`, or its parts do not fit each other.
    pub(super) fn read_packed(&self, id: &TensorId, expected: &[usize]) -> Result<Option<QuantizedMatrix>> {
        let (Some(packed), Some((_, name))) = (self.packed.get(id), self.tensors.get(id)) else { return Ok(None) };
        self.check_packed(id, expected)?;
        packed.matrix(&self.files, name).map(Some)
    }

    /// Refuses a matrix that bitsandbytes packed and that has another shape than `expected`.
    ///
    /// # Errors
    /// If it has.
    pub(super) fn check_packed(&self, id: &TensorId, expected: &[usize]) -> Result<()> {
        let (Some(packed), Some((_, name))) = (self.packed.get(id), self.tensors.get(id)) else { return Ok(()) };
        check_shape(name, expected, &packed.dims).map_err(|e| e.at_path(&self.dir))
    }

    /// Reads a tensor of the language model, held as `held` (`None`: as stored, and bf16 where bitsandbytes packed it).
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`].
    pub fn read(&self, id: &TensorId, expected: &[usize], held: Option<HostDtype>) -> Result<HostTensor> {
        match self.read_packed(id, expected)? {
            Some(matrix) => unpack(&matrix, held),
            None => self.stored(id, expected)?.read(held),
        }
    }

    /// Finds a tensor that is made of floats.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`].
    pub(super) fn stored<'a>(&'a self, id: &TensorId, expected: &[usize]) -> Result<Stored<'a>> {
        match self.tensors.get(id).and_then(|(file, name)| Some((self.files.get(*file)?, name))) {
            Some((file, name)) => {
                let stored = file.stored(name, expected).map_err(|e| file.locate(e))?;
                Ok(Stored { refuse_unusable: true, ..stored })
            }
            None => Err(wrong(format!("tensor `{}` is missing", self.spelling.name(id)))
                .at_path(&self.dir)
                .hint("the weights are incomplete, or `config.json` belongs to another model")),
        }
    }

    /// Reads a tensor by its name in the files, as it is stored.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`].
    pub fn read_unused(&self, name: &str) -> Result<HostTensor> {
        match self.files.iter().find_map(|file| file.entry(name).map(|entry| (file, entry))) {
            Some((file, entry)) => file.read(name, &entry.shape, None),
            None => Err(wrong(format!("tensor `{name}` is missing")).at_path(&self.dir)),
        }
    }
}

/// Opens every shard of an index and checks that they hold what it says.
fn open_shards(dir: &Path, index_path: &Path) -> Result<Vec<SafetensorsFile>> {
    let index = Index::open(index_path)?;
    let shards = index.shards();
    let missing: Vec<_> = shards.iter().filter(|shard| !dir.join(shard).is_file()).collect();
    if let [first, others @ ..] = missing.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        return Err(wrong(format!("{} of {} shards are missing: `{first}`{more}", missing.len(), shards.len()))
            .at_path(index_path)
            .hint("an interrupted download: fetch the model again"));
    }
    let files = shards.iter().map(|shard| SafetensorsFile::open(&dir.join(shard))).collect::<Result<Vec<_>>>()?;
    let by_shard: HashMap<_, _> = shards.iter().copied().zip(&files).collect();
    for (tensor, shard) in &index.weight_map {
        if by_shard.get(shard.as_str()).is_none_or(|file| file.entry(tensor).is_none()) {
            return Err(wrong(format!("tensor `{tensor}` is not in `{shard}`, where the index says it is"))
                .at_path(index_path)
                .hint(DAMAGED));
        }
    }
    let mut seen: HashMap<&str, &SafetensorsFile> = HashMap::new();
    for file in &files {
        for entry in &file.header().tensors {
            if let Some(other) = seen.insert(&entry.name, file) {
                let (one, two) = (other.path().display(), file.path().display());
                return Err(wrong(format!("tensor `{}` is in two shards: `{one}` and `{two}`", entry.name))
                    .at_path(index_path)
                    .hint("the folder mixes two checkpoints"));
            }
        }
    }
    Ok(files)
}

/// Says why a folder has no weights that can be read.
fn no_weights(dir: &Path) -> Error {
    let listed = match std::fs::read_dir(dir) {
        Ok(files) => files,
        Err(e) => return Error::input(Kind::Weights, "opening the model's folder", dir, e),
    };
    let names: Vec<_> = listed.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let has = |test: &dyn Fn(&str) -> bool| names.iter().any(|name| test(name));
    let hint = if has(&|n| n == "adapter_model.safetensors") {
        "this is an adapter's folder; the model is its `base_model_name_or_path`, in `adapter_config.json`"
    } else if has(&|n| n.ends_with(".gguf")) {
        "for a GGUF model give the `.gguf` file itself"
    } else if has(&|n| n.ends_with(".safetensors")) {
        "shards without their index: fetch `model.safetensors.index.json` as well"
    } else if has(&|n| n.ends_with(".bin") || n.ends_with(".pt") || n.ends_with(".pth")) {
        "only safetensors weights are read: save the model with `save_pretrained(.., safe_serialization=True)`"
    } else {
        "the folder of a Hugging Face model is expected; was the download completed?"
    };
    wrong(format!("no `{SINGLE_NAME}` and no `{INDEX_NAME}` in the folder")).at_path(dir).hint(hint)
}
