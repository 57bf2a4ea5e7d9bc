//! A GGUF file of what looks at pictures, with an adapter folded in on the way.

use super::{Exported, Instead, quantized};
use crate::adapter::peft::AdapterTensors;
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::export::merge_math::merge_into;
use crate::export::space::check_space;
use crate::progress::Progress;
use crate::quant::QuantType;
use crate::weights::gguf::{GgufTensor, Value, gguf_length, write_gguf};
use crate::weights::names::{TensorId, VisionModule, VisionTensor};
use crate::weights::{HostDtype, Source};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The kinds of files: what most of their matrices are stored as, and the number in `general.file_type`.
pub const KINDS: [(QuantType, u64); 3] = [(QuantType::F32, 0), (QuantType::F16, 1), (QuantType::BF16, 32)];

/// The kind of this name, in letters of either size.
pub fn kind(name: &str) -> Option<QuantType> {
    KINDS.iter().map(|(of, _)| *of).find(|of| of.name().eq_ignore_ascii_case(name))
}

/// A file of a SigLIP tower and its projector.
#[derive(Debug, Clone, Copy)]
pub struct TowersExport<'a> {
    /// The model.
    pub source: &'a Source,
    /// The adapter whose part on tower and projector is folded in, if one is.
    pub adapter: Option<&'a AdapterTensors>,
    /// One of [`KINDS`].
    pub of: QuantType,
    /// Everything that the file says of them, but the kind of file.
    pub metadata: &'a [(String, Value)],
}

impl TowersExport<'_> {
    /// Writes the file to `path`, one tensor at a time.
    ///
    /// # Numerics
    /// Merged in f32 from the weights as stored, rounded once. Norms, biases and what makes vectors of patches stay f32,
    /// and the projector's matrix is at most f16, as llama.cpp takes them.
    ///
    /// # Errors
    /// An adapter that changes what the model does not have, weights that cannot be read or are too large for f16, a full
    /// disk; a regular file at `path` is then as it was.
    pub fn write(&self, path: &Path, progress: &dyn Progress) -> Result<Exported> {
        let plan = self.plan()?;
        let tensors: Vec<GgufTensor> = plan.iter().map(|(_, tensor)| tensor.clone()).collect();
        let mut metadata = self.metadata.to_vec();
        let number = KINDS.iter().find(|(of, _)| *of == self.of).map_or(0, |(_, number)| *number);
        metadata.push(("general.file_type".into(), Value::Unsigned(number)));
        if atomic::is_file(path)? {
            check_space(path, gguf_length(&metadata, &tensors)?, "the GGUF file")?;
        }
        let by_name: HashMap<&str, &VisionTensor> = plan.iter().map(|(id, t)| (t.name.as_str(), id)).collect();
        progress.start("Exporting", Some(plan.len() as u64), "tensors");
        let bytes = write_gguf(path, &metadata, &tensors, |tensor| {
            let id = by_name.get(tensor.name.as_str());
            let id = id.ok_or_else(|| Error::new(Kind::Run, format!("no tensor `{}` to write", tensor.name)))?;
            let bytes = self.produce(**id, tensor)?;
            progress.advance(1);
            Ok(bytes)
        })?;
        progress.finish();
        let mut types = BTreeMap::new();
        tensors.iter().for_each(|tensor| *types.entry(tensor.of.name()).or_default() += 1);
        let changed = |(id, _): &&(VisionTensor, GgufTensor)| {
            self.adapter.is_some_and(|adapter| adapter.changes(&TensorId::Vision(*id)))
        };
        let modules = plan.iter().filter(changed).count();
        Ok(Exported { tensors: plan.len(), modules, bytes, types, instead: Instead::new(), constants: 0 })
    }

    /// What is written, in the order of its names.
    fn plan(&self) -> Result<Vec<(VisionTensor, GgufTensor)>> {
        let mut plan = Vec::new();
        for info in self.source.tensors() {
            let Some(TensorId::Vision(id)) = self.source.parse(&info.name) else { continue };
            plan.push((id, GgufTensor { name: id.mmproj(), of: self.type_of(id, &info.shape), shape: info.shape }));
        }
        plan.sort_by_key(|(id, _)| *id);
        let holds = |id: &TensorId| plan.iter().any(|(held, _)| TensorId::Vision(*held) == *id);
        self.adapter.map_or(Ok(()), |adapter| adapter.changes_only(holds))?;
        Ok(plan)
    }

    /// The type of a tensor.
    fn type_of(&self, id: VisionTensor, shape: &[usize]) -> QuantType {
        match id {
            VisionTensor::PositionEmbedding | VisionTensor::Weight(VisionModule::PatchEmbedding) => QuantType::F32,
            // llama.cpp turns it before it multiplies, which it does not of every type.
            VisionTensor::MmInputProjection if self.of == QuantType::BF16 => QuantType::F16,
            _ if shape.len() == 2 => self.of,
            _ => QuantType::F32,
        }
    }

    fn produce(&self, id: VisionTensor, tensor: &GgufTensor) -> Result<Vec<u8>> {
        let of_model = TensorId::Vision(id);
        let trained = self.adapter.and_then(|adapter| adapter.whole.get(&of_model));
        let mut weight = match trained {
            Some(trained) if trained.shape == tensor.shape => trained.to_f32(),
            Some(trained) => {
                let what = format!("the adapter's `{of_model}` is {:?}, the model's {:?}", trained.shape, tensor.shape);
                return Err(Error::new(Kind::Adapter, what).hint("the adapter was trained on another model"));
            }
            None => self.source.read(&of_model, &tensor.shape, Some(HostDtype::F32))?.into_f32(),
        };
        let module = self.adapter.and_then(|adapter| adapter.modules.get(&of_model));
        if let (Some(module), &[outputs, inputs]) = (module, tensor.shape.as_slice()) {
            merge_into(&mut weight, [outputs, inputs], module)
                .map_err(|e| e.or_at(Place::Named(tensor.name.clone())))?;
        }
        if id == VisionTensor::MmSoftEmbNorm {
            // Of all its norms the one whose gain is `1 + w`; readers multiply by what the file holds.
            weight.par_iter_mut().for_each(|w| *w += 1.0);
        }
        quantized(tensor, &weight, None, 0)
    }
}
