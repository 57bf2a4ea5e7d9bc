//! A GGUF file of a model, with an adapter folded in on the way.

pub mod budget;
pub mod importance;
pub mod lora;
pub mod metadata;
pub mod mixture;
mod plan;
pub mod rounding;
pub mod towers;

pub use self::plan::{Instead, Types};

use self::importance::Importance;
use self::mixture::{FileType, Traits};
use self::plan::{Part, Plan, Planned};
use super::merge_math::merge_into;
use super::space::check_space;
use crate::adapter::peft::AdapterTensors;
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::quant::{QuantType, Unusable};
use crate::weights::gguf::{Demands, GgufTensor, Value, gguf_length, norms_hold_one_plus, write_gguf};
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
    /// What readers ask of the file beyond the model's own tensors.
    pub demands: &'a Demands,
    /// Everything that the file says of its model, but the kind of file.
    pub metadata: &'a [(String, Value)],
}

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
    /// Tensors that the model does not have and readers ask for, full of one number.
    pub constants: usize,
}

/// The matrices of a file that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    /// Those whose types may be chosen, with their rows and columns.
    pub of: Vec<(TensorId, [usize; 2])>,
    /// What everything else in the file takes, in bytes.
    pub beside: u64,
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
        let Plan { tensors: plan, instead, constants } = self.plan()?;
        let metadata = self.with_kind();
        let tensors: Vec<GgufTensor> = plan.iter().map(|planned| planned.tensor.clone()).collect();
        let length = gguf_length(&metadata, &tensors)?;
        if atomic::is_file(path)? {
            check_space(path, length, "the GGUF file")?;
        }
        let by_name: HashMap<&str, &Planned> =
            plan.iter().map(|planned| (planned.tensor.name.as_str(), planned)).collect();
        progress.start("Exporting", Some(plan.len() as u64), "tensors");
        let bytes = write_gguf(path, &metadata, &tensors, |tensor| {
            let planned = by_name.get(tensor.name.as_str());
            let planned =
                planned.ok_or_else(|| Error::new(Kind::Run, format!("no tensor `{}` to write", tensor.name)))?;
            let bytes = self.produce(planned)?;
            progress.advance(1);
            Ok(bytes)
        })?;
        progress.finish();
        let mut types = BTreeMap::new();
        plan.iter().for_each(|planned| *types.entry(planned.tensor.of.name()).or_default() += 1);
        let modules = self.adapter.map_or(0, |adapter| adapter.modules.len());
        Ok(Exported { tensors: plan.len(), modules, bytes, types, instead, constants })
    }

    fn plan(&self) -> Result<Plan> {
        let GgufExport { source, adapter, traits, file_type, types, demands, .. } = self;
        Plan::new(source, *adapter, *file_type, *types, traits, demands)
    }

    /// The matrices of the file.
    ///
    /// # Errors
    /// As [`GgufExport::write`], of what is planned.
    pub fn matrices(&self) -> Result<Matrices> {
        let plan = self.plan()?.tensors;
        let tensors: Vec<GgufTensor> = plan.iter().map(|planned| planned.tensor.clone()).collect();
        let mut matrices = Matrices { of: Vec::new(), beside: gguf_length(&self.with_kind(), &tensors)? };
        for Planned { id, tensor, parts } in &plan {
            // What stays as floats does so for a reason, and a table of the size of a model is looked up in, not multiplied.
            let is_free = !tensor.of.is_float() && *id != TensorId::EmbedTokensPerLayer;
            if let (true, [Part::Stored(id, shape)]) = (is_free, &parts[..])
                && let &[rows, columns] = shape.as_slice()
            {
                matrices.of.push((*id, [rows, columns]));
                matrices.beside -= tensor.bytes()? as u64;
            }
        }
        Ok(matrices)
    }

    /// A tensor of the model in f32, with the adapter folded in where it has one.
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
    fn produce(&self, planned: &Planned) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in &planned.parts {
            match part {
                Part::Stored(id, shape) => {
                    let tensor = GgufTensor { shape: shape.clone(), ..planned.tensor.clone() };
                    let part = self.stored(id, &tensor)?;
                    if bytes.is_empty() { bytes = part } else { bytes.extend(part) }
                }
                Part::Constant(shape, value) => {
                    let tensor = GgufTensor { shape: shape.clone(), ..planned.tensor.clone() };
                    bytes.extend(quantized(&tensor, &vec![*value; shape.iter().product()], None, 0)?);
                }
                Part::Rows(more) => {
                    let of = planned.tensor.of;
                    let row = planned.tensor.shape.last().copied().unwrap_or(0) / of.block_size() * of.block_bytes();
                    bytes.reserve_exact(more * row);
                    (0..*more).for_each(|_| bytes.extend_from_within(..row));
                }
            }
        }
        Ok(bytes)
    }

    /// The bytes of a tensor of the model; `tensor` is what it is written as.
    fn stored(&self, id: &TensorId, tensor: &GgufTensor) -> Result<Vec<u8>> {
        let module = self.adapter.and_then(|adapter| adapter.modules.get(id));
        if let Some(gguf) = self.source.gguf()
            && let Some(entry) = gguf.entry(&id.gguf())
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
        let inputs = tensor.shape.last().copied().unwrap_or(0);
        let importance = self.importance.and_then(|importance| importance.of_inputs(id, inputs));
        let add_one = id.is_norm() && self.norms_hold_one_plus();
        if let (None, false, &[rows, columns]) = (module, add_one, tensor.shape.as_slice()) {
            return self.by_rows(id, tensor, [rows, columns], importance.as_deref());
        }
        let mut weight = self.weight(id, &tensor.shape)?;
        if add_one {
            // Readers of the format multiply by what it holds; the model multiplies by `1 + w`.
            weight.par_iter_mut().for_each(|w| *w += 1.0);
        }
        quantized(tensor, &weight, importance.as_deref(), 0)
    }

    /// The bytes of a matrix that may be larger than memory in f32: some rows at a time from the mapped file.
    fn by_rows(
        &self,
        id: &TensorId,
        tensor: &GgufTensor,
        dims: [usize; 2],
        importance: Option<&[f32]>,
    ) -> Result<Vec<u8>> {
        /// Numbers that are in memory at a time, about.
        const SLAB: usize = 1 << 23;
        let [rows, columns] = dims;
        let source = self.source.rows(id, dims)?;
        let mut bytes = Vec::with_capacity(tensor.bytes()?);
        let slab = (SLAB / columns.max(1)).clamp(1, rows.max(1));
        let mut values = vec![0.0; slab * columns];
        for start in (0..rows).step_by(slab) {
            let end = rows.min(start + slab);
            let values = &mut values[..(end - start) * columns];
            source.read(start, values)?;
            let part = GgufTensor { shape: vec![end - start, columns], ..tensor.clone() };
            bytes.extend(quantized(&part, values, importance, start * columns)?);
        }
        Ok(bytes)
    }

    /// Whether readers of the file multiply norms by `1 + w`.
    fn norms_hold_one_plus(&self) -> bool {
        let named = self.metadata.iter().find(|(key, _)| key == "general.architecture");
        named.and_then(|(_, value)| value.as_str()).is_none_or(norms_hold_one_plus)
    }
}

/// Values in the type of their tensor, on all threads; they are those from `first` on.
///
/// # Errors
/// If one does not fit.
fn quantized(tensor: &GgufTensor, values: &[f32], importance: Option<&[f32]>, first: usize) -> Result<Vec<u8>> {
    let row = tensor.shape.last().copied().unwrap_or(1).max(1);
    rounding::rows_of(tensor.of, row, values, importance).map_err(|found| too_large(tensor, found.after(first)))
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
