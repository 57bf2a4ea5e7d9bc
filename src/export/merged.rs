//! A merged model: the adapter folded into the weights, as a Hugging Face folder that needs no adapter.

use super::folder::{Existing, may_write};
use super::merge_math::merge_into;
use super::model_folder::{MAX_SHARD_BYTES, ModelFolder};
use crate::adapter::peft::AdapterTensors;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::weights::names::{Spelling, TensorId};
use crate::weights::safetensors_file::TensorSpec;
use crate::weights::{HostData, HostDtype, HostTensor, Source};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A merge that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The base model.
    pub source: &'a Source,
    /// The adapter.
    pub adapter: &'a AdapterTensors,
    /// The base model's `config.json`; everything but its `dtype` is kept.
    pub config_json: &'a str,
    /// How the language model is written: BF16 or F32. Other parts, such as a vision tower, stay as they are stored.
    pub dtype: HostDtype,
    /// Where a file ends and the next begins; 5 GB unless a test says otherwise.
    pub max_shard_bytes: usize,
}

/// What was merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merged {
    /// Tensors written.
    pub tensors: usize,
    /// Of these, weights that the adapter changed.
    pub modules: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The share of those weights' numbers that differ from the base in the type they are written in. Near 0 means that
    /// rounding swallowed the adapter.
    pub changed: f64,
    /// Whether it judges texts and writes none.
    pub judges: bool,
}

impl<'a> Merge<'a> {
    /// A merge into files of the usual size.
    pub fn new(source: &'a Source, adapter: &'a AdapterTensors, config_json: &'a str, dtype: HostDtype) -> Self {
        Merge { source, adapter, config_json, dtype, max_shard_bytes: MAX_SHARD_BYTES }
    }

    /// Writes the merged model to `dir`, one tensor at a time; `companions` adds the tokenizer and other small files to
    /// the folder it is given.
    ///
    /// # Numerics
    /// Merged in f32 from the weights as stored (those of a GGUF file or of bitsandbytes dequantised), never from what
    /// a run quantised them to; rounded once, to nearest with ties to even.
    ///
    /// # Errors
    /// A folder that is not empty, an adapter that does not fit the model, weights that cannot be read, a result that
    /// is not finite, too little space; then `dir` is as it was.
    pub fn write(
        &self,
        dir: &Path,
        companions: impl FnOnce(&Path) -> Result<()>,
        progress: &dyn Progress,
    ) -> Result<Merged> {
        if self.dtype == HostDtype::F16 {
            return Err(Error::new(Kind::Recipe, "a merged model is written as bf16 or f32, not as f16")
                .hint("Gemma's activations exceed what f16 can hold"));
        }
        may_write(dir, Existing::Refuse)?;
        let config = self.config()?;
        let plan = self.plan()?;
        let specs: Vec<TensorSpec> = plan.iter().map(|(_, spec)| spec.clone()).collect();
        let ids: HashMap<&str, TensorId> =
            plan.iter().filter_map(|(id, spec)| Some((spec.name.as_str(), (*id)?))).collect();
        let mut tally = Tally::default();
        let (config, max_shard_bytes, what, doing) = (&config, self.max_shard_bytes, "the merged model", "Merging");
        let folder = ModelFolder { dir, config, specs: &specs, max_shard_bytes, what, doing };
        let produce = |spec: &TensorSpec| self.produce(spec, ids.get(spec.name.as_str()), &mut tally);
        let bytes = folder.write(companions, produce, progress)?;
        let changed = if tally.numbers == 0 { 0.0 } else { tally.changed as f64 / tally.numbers as f64 };
        Ok(Merged {
            tensors: plan.len(),
            modules: self.adapter.modules.len() + self.adapter.whole.len(),
            bytes,
            changed,
            judges: self.adapter.changes(&TensorId::Score),
        })
    }

    /// What is written and what it is in the language model, in the order of the base model's files.
    fn plan(&self) -> Result<Vec<(Option<TensorId>, TensorSpec)>> {
        let is_gguf = self.source.gguf().is_some();
        // transformers 5 saves a Gemma 3 with its tower in names of its own; others keep the names of their base.
        let is_tower = |name: &str| matches!(Spelling::parse(name), Some((_, TensorId::Vision(_))));
        let has_tower = self.source.tensors().iter().any(|info| is_tower(&info.name));
        let spelling = self.source.spelling().unwrap_or(Spelling::Text);
        let spelling = if has_tower { spelling.saved() } else { spelling };
        let mut plan = Vec::new();
        for info in self.source.tensors() {
            let id = self.source.parse(&info.name);
            let (name, dtype) = match id {
                Some(id) if is_gguf => (id.hf(), self.dtype),
                // A tower keeps its type.
                Some(id) if !id.is_of_text() && !self.adapter.changes(&id) => {
                    (spelling.name(&id), stored_dtype(&info.name, &info.dtype)?)
                }
                Some(id) => (spelling.name(&id), self.dtype),
                // A GGUF file's other tensors (rope factors) are no part of a Hugging Face model.
                None if is_gguf => continue,
                None => (info.name.clone(), stored_dtype(&info.name, &info.dtype)?),
            };
            // A head that makes logits is none of a model with one that judges.
            if !(id == Some(TensorId::LmHead) && self.adapter.changes(&TensorId::Score)) {
                plan.push((id, TensorSpec { name, dtype, shape: info.shape }));
            }
        }
        let score = TensorId::Score;
        if let Some(head) = self.adapter.whole.get(&score).filter(|_| !self.source.contains(&score)) {
            let spec = TensorSpec { name: spelling.name(&score), dtype: self.dtype, shape: head.shape.clone() };
            plan.push((Some(score), spec));
        }
        self.adapter.changes_only(|id| self.source.contains(id) || *id == score)?;
        Ok(plan)
    }

    /// The base's configuration with the type that is written now.
    fn config(&self) -> Result<String> {
        let mut config: Value = serde_json::from_str(self.config_json)
            .map_err(|e| Error::new(Kind::Config, format!("`config.json` is not valid JSON: {e}")))?;
        let dtype = match self.dtype {
            HostDtype::F32 => "float32",
            HostDtype::BF16 => "bfloat16",
            HostDtype::F16 => "float16",
        };
        let Some(keys) = config.as_object_mut() else {
            return Err(Error::new(Kind::Config, "`config.json` holds no JSON object"));
        };
        keys.shift_remove("quantization_config"); // what was stored quantised is written as plain floats
        // The older key is kept where it is used, as older readers know no other.
        let key = if keys.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        keys.insert(key.into(), dtype.into());
        if let Some(text) = keys.get_mut("text_config").and_then(Value::as_object_mut) {
            for key in ["torch_dtype", "dtype"] {
                if text.contains_key(key) {
                    text.insert(key.into(), dtype.into());
                }
            }
        }
        Ok(format!("{config:#}\n"))
    }

    /// Reads one tensor, with the adapter folded in where it has one.
    fn produce(&self, spec: &TensorSpec, id: Option<&TensorId>, tally: &mut Tally) -> Result<HostTensor> {
        let Some(id) = id else { return self.source.read_unused(&spec.name) };
        if let Some(head) = self.adapter.whole.get(id).filter(|_| !self.source.contains(id)) {
            return Ok(HostTensor { shape: spec.shape.clone(), data: rounded(head.to_f32(), spec.dtype) });
        }
        if let Some(trained) = self.adapter.whole.get(id) {
            let base = self.source.read(id, &spec.shape, Some(spec.dtype))?;
            if trained.shape != spec.shape {
                let what = format!("the adapter's `{id}` is {:?}, the model's {:?}", trained.shape, spec.shape);
                return Err(Error::new(Kind::Adapter, what).hint("the adapter was trained on another model"));
            }
            let data = rounded(trained.to_f32(), spec.dtype);
            tally.add(&base.data, &data);
            return Ok(HostTensor { shape: spec.shape.clone(), data });
        }
        let Some(module) = self.adapter.modules.get(id) else {
            return self.source.read(id, &spec.shape, Some(spec.dtype));
        };
        let &[outputs, inputs] = spec.shape.as_slice() else {
            return Err(Error::new(Kind::Weights, format!("tensor `{}` is no matrix: {:?}", spec.name, spec.shape)));
        };
        let mut weight = self.source.read(id, &spec.shape, Some(HostDtype::F32))?.into_f32();
        merge_into(&mut weight, [outputs, inputs], module).map_err(|e| e.or_at(Place::Named(spec.name.clone())))?;
        let merged = rounded(weight, spec.dtype);
        let base = self.source.read(id, &spec.shape, Some(spec.dtype))?;
        tally.add(&base.data, &merged);
        Ok(HostTensor { shape: spec.shape.clone(), data: merged })
    }
}

/// Numbers as they are written: rounded to bf16, or as they are.
fn rounded(values: Vec<f32>, dtype: HostDtype) -> HostData {
    if dtype != HostDtype::BF16 {
        return HostData::F32(values);
    }
    let mut rounded = vec![bf16::ZERO; values.len()];
    let chunks = rounded.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
    chunks.for_each(|(to, from)| to.convert_from_f32_slice(from));
    HostData::BF16(rounded)
}

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 16;

/// How many numbers of the adapted weights came out different.
#[derive(Default)]
struct Tally {
    numbers: u64,
    changed: u64,
}

impl Tally {
    fn add(&mut self, base: &HostData, merged: &HostData) {
        fn differing<T: PartialEq + Sync>(a: &[T], b: &[T]) -> u64 {
            a.par_chunks(CHUNK)
                .zip(b.par_chunks(CHUNK))
                .map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count() as u64)
                .sum()
        }
        self.numbers += merged.len() as u64;
        self.changed += match (base, merged) {
            (HostData::F32(base), HostData::F32(merged)) => differing(base, merged),
            (HostData::BF16(base), HostData::BF16(merged)) => differing(base, merged),
            _ => merged.len() as u64,
        };
    }
}

/// The type of a tensor that is passed through.
pub(super) fn stored_dtype(name: &str, dtype: &str) -> Result<HostDtype> {
    [HostDtype::F32, HostDtype::BF16, HostDtype::F16].into_iter().find(|known| known.name() == dtype).ok_or_else(|| {
        Error::new(Kind::Weights, format!("tensor `{name}` is stored as {dtype}, which cannot be copied"))
            .hint("F32, BF16 and F16 can: use the model's original, unquantised weights")
    })
}

#[cfg(test)]
mod tests;
