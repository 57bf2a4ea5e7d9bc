//! A GGUF file of a model, with an adapter folded in on the way.

pub mod budget;
pub mod importance;
pub mod lora;
pub mod metadata;
pub mod mixture;
pub mod rounding;

use self::importance::Importance;
use self::mixture::{FileType, Traits, type_of};
use super::merge_math::merge_into;
use super::space::check_space;
use crate::adapter::peft::AdapterTensors;
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::quant::{QuantType, Unusable};
use crate::weights::gguf::{GgufTensor, Value, gguf_length, write_gguf};
use crate::weights::names::TensorId;
use crate::weights::{HostDtype, Source};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A GGUF file that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct GgufExport<'a> {
    /// The model.
    pub source: &'a Source,
    /// The adapter that is folded in, if one is.
    pub adapter: Option<&'a AdapterTensors>,
    /// What of the model decides about types.
    pub traits: Traits,
    /// The kind of file.
    pub file_type: FileType,
    /// The types of matrices for which the mixture of that kind does not decide.
    pub types: Option<&'a Types>,
    /// How much each input of a matrix counts; `None` where all count alike.
    pub importance: Option<&'a Importance>,
    /// Everything that the file says of its model, but the kind of file.
    pub metadata: &'a [(String, Value)],
}

/// How many tensors could not have a type, by that type and the one they have.
pub type Instead = BTreeMap<(&'static str, &'static str), usize>;

/// What was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Tensors written.
    pub tensors: usize,
    /// Of these, weights that the adapter changed.
    pub modules: usize,
    /// The file's length.
    pub bytes: u64,
    /// Tensors of each type.
    pub types: BTreeMap<&'static str, usize>,
    /// Tensors that could not have the type of the mixture, by that type and the one they have.
    pub instead: Instead,
}

/// The types of some matrices.
pub type Types = BTreeMap<TensorId, QuantType>;

/// The matrices of a file that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    /// Their rows and columns.
    pub of: Vec<(TensorId, [usize; 2])>,
    /// What everything else in the file takes, in bytes.
    pub beside: u64,
}

/// A tensor of the file.
struct Planned {
    id: TensorId,
    tensor: GgufTensor,
}

impl GgufExport<'_> {
    /// Writes the file to `path`, one tensor at a time on all threads.
    ///
    /// # Numerics
    /// Merged in f32 from the weights as stored; quantised once. A tensor that is stored in the type it is to have, and
    /// that no adapter changes, is copied bit for bit.
    ///
    /// # Errors
    /// An adapter that changes what the file does not hold, weights that cannot be read or are too large for their type, a
    /// full disk; a regular file at `path` is then as it was.
    pub fn write(&self, path: &Path, progress: &dyn Progress) -> Result<Exported> {
        let (plan, instead) = self.plan()?;
        let metadata = self.with_kind();
        let tensors: Vec<GgufTensor> = plan.iter().map(|planned| planned.tensor.clone()).collect();
        let length = gguf_length(&metadata, &tensors)?;
        if atomic::is_file(path)? {
            check_space(path, length, "the GGUF file")?;
        }
        let ids: HashMap<&str, TensorId> =
            plan.iter().map(|planned| (planned.tensor.name.as_str(), planned.id)).collect();
        progress.start("Exporting", Some(plan.len() as u64), "tensors");
        let bytes = write_gguf(path, &metadata, &tensors, |tensor| {
            let id = ids.get(tensor.name.as_str());
            let id = id.ok_or_else(|| Error::new(Kind::Run, format!("no tensor `{}` to write", tensor.name)))?;
            let bytes = self.produce(id, tensor)?;
            progress.advance(1);
            Ok(bytes)
        })?;
        progress.finish();
        let mut types = BTreeMap::new();
        plan.iter().for_each(|planned| *types.entry(planned.tensor.of.name()).or_default() += 1);
        let modules = self.adapter.map_or(0, |adapter| adapter.modules.len());
        Ok(Exported { tensors: plan.len(), modules, bytes, types, instead })
    }

    /// What is written, layer after layer, and what has another type than the mixture asks for.
    fn plan(&self) -> Result<(Vec<Planned>, Instead)> {
        let mut instead = Instead::new();
        let mut plan = Vec::new();
        for info in self.source.tensors() {
            // Towers lie in a file of their own; a head that is the embedding is not written twice.
            let Some(id) = self.source.id(&info.name).filter(|id| !(self.traits.tied && *id == TensorId::LmHead))
            else {
                continue;
            };
            let own = self.types.and_then(|types| types.get(&id));
            let (of, wanted) = match own {
                Some(of) => (*of, None),
                None => type_of(&id, &info.shape, self.file_type, &self.traits),
            };
            if let Some(wanted) = wanted {
                *instead.entry((wanted.name(), of.name())).or_default() += 1;
            }
            plan.push(Planned { id, tensor: GgufTensor { name: id.gguf(), of, shape: info.shape } });
        }
        plan.sort_by_key(|planned| (place(&planned.id), planned.id));
        let holds = |id: &TensorId| plan.iter().any(|planned| planned.id == *id);
        let absent = self.adapter.iter().flat_map(|adapter| adapter.changed()).filter(|id| !holds(id)).map(|id| {
            let what = format!("the adapter changes `{id}`, which the GGUF file of a language model does not hold");
            Error::new(Kind::Adapter, what)
                .hint("`gemma-tune merge` writes a Hugging Face folder with everything in it")
        });
        match Error::many(absent.collect()) {
            Some(error) => Err(error),
            None => Ok((plan, instead)),
        }
    }

    /// The metadata, with what tells the kind of file.
    fn with_kind(&self) -> Vec<(String, Value)> {
        /// Of the block formats as they are.
        const QUANTIZATION_VERSION: u64 = 2;
        let mut metadata = self.metadata.to_vec();
        metadata.push(("general.file_type".into(), Value::Unsigned(self.file_type.number())));
        if !self.file_type.most().is_float() {
            metadata.push(("general.quantization_version".into(), Value::Unsigned(QUANTIZATION_VERSION)));
        }
        metadata
    }

    /// The bytes of one tensor.
    fn produce(&self, id: &TensorId, tensor: &GgufTensor) -> Result<Vec<u8>> {
        let module = self.adapter.and_then(|adapter| adapter.modules.get(id));
        if let Some(gguf) = self.source.gguf()
            && let Some(entry) = gguf.entry(&tensor.name)
            && module.is_none()
            && entry.ggml_type == tensor.of.ggml()
        {
            self.source.check_tensor(id, &tensor.shape)?;
            let bytes = gguf.bytes(entry);
            return tensor
                .of
                .first_unusable(bytes)
                .map_or_else(|| Ok(bytes.to_vec()), |bad| Err(too_large(tensor, bad)));
        }
        let mut weight = self.weight(id, &tensor.shape)?;
        if id.is_norm() {
            // Readers of the format multiply by what it holds; the model multiplies by `1 + w`.
            weight.par_iter_mut().for_each(|w| *w += 1.0);
        }
        let inputs = tensor.shape.last().copied().unwrap_or(0);
        let importance = self.importance.and_then(|importance| importance.of_inputs(id, inputs));
        quantized(tensor, &weight, importance.as_deref())
    }
}

impl GgufExport<'_> {
    /// A tensor in f32, with the adapter folded in where it has one.
    ///
    /// # Errors
    /// When it cannot be read, or adapter and model do not go together.
    pub fn weight(&self, id: &TensorId, shape: &[usize]) -> Result<Vec<f32>> {
        let mut weight = self.source.read(id, shape, Some(HostDtype::F32))?.into_f32();
        if let (Some(module), &[outputs, inputs]) = (self.adapter.and_then(|adapter| adapter.modules.get(id)), shape) {
            merge_into(&mut weight, [outputs, inputs], module).map_err(|e| e.or_at(Place::Named(id.gguf())))?;
        }
        Ok(weight)
    }

    /// The matrices of the file.
    ///
    /// # Errors
    /// As [`GgufExport::write`], of what is planned.
    pub fn matrices(&self) -> Result<Matrices> {
        let (plan, _) = self.plan()?;
        let tensors: Vec<GgufTensor> = plan.iter().map(|planned| planned.tensor.clone()).collect();
        let mut matrices = Matrices { of: Vec::new(), beside: gguf_length(&self.with_kind(), &tensors)? };
        for Planned { id, tensor } in &plan {
            if let &[rows, columns] = tensor.shape.as_slice() {
                matrices.of.push((*id, [rows, columns]));
                matrices.beside -= tensor.bytes()? as u64;
            }
        }
        Ok(matrices)
    }
}

/// Layer after layer between the embedding and the head.
fn place(id: &TensorId) -> usize {
    match id {
        TensorId::EmbedTokens => 0,
        TensorId::Projection(layer, _) | TensorId::LayerNorm(layer, _) => layer + 1,
        _ => usize::MAX,
    }
}

/// Values in the type of their tensor, on all threads.
///
/// # Errors
/// If one does not fit.
fn quantized(tensor: &GgufTensor, values: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>> {
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    rows_of(tensor.of, row, values, importance).map_err(|found| too_large(tensor, found))
}

/// Rows of `row` values in blocks, on all threads.
///
/// # Errors
/// If a value does not fit.
fn quantized_rows(of: QuantType, row: usize, values: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>> {
    let tensor = GgufTensor { name: "a matrix".into(), of, shape: vec![values.len() / row.max(1), row] };
    quantized(&tensor, values, importance)
}

fn rows_of(of: QuantType, row: usize, values: &[f32], importance: Option<&[f32]>) -> Result<Vec<u8>, Unusable> {
    /// Numbers that a thread takes at a time, about.
    const CHUNK: usize = 1 << 15;
    let rows = (CHUNK / row).max(1);
    let bytes = row / of.block_size() * of.block_bytes();
    let mut out = vec![0; values.len() / row * bytes];
    let chunks = out.par_chunks_mut(bytes * rows).zip(values.par_chunks(row * rows)).enumerate();
    chunks.try_for_each(|(chunk, (out, values))| {
        of.quantize(values, importance, out).map_err(|found| found.after(chunk * rows * row))
    })?;
    Ok(out)
}

fn too_large(tensor: &GgufTensor, found: Unusable) -> Error {
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    let place = [found.element / row, found.element % row];
    let what = format!("tensor `{}`: the number at {place:?} is {:e}", tensor.name, found.value);
    if !found.value.is_finite() {
        return Error::new(Kind::NonFinite, what)
            .hint("the adapter and the base do not go together, or one is damaged");
    }
    let limit = crate::quant::gguf_blocks::LARGEST_IN_BLOCKS;
    let of = if tensor.of == QuantType::F16 { "F16 holds" } else { "a block holds" };
    Error::new(Kind::Weights, format!("{what}, and {of} {limit} at most")).hint("`--quant bf16` holds it")
}

#[cfg(test)]
mod tests;
