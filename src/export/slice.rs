//! A smaller model cut out of a larger one, as a Hugging Face folder.

use super::folder::{Existing, may_write};
use super::merged::stored_dtype;
use super::model_folder::{MAX_SHARD_BYTES, ModelFolder};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::weights::names::{Spelling, TensorId};
use crate::weights::safetensors_file::TensorSpec;
use crate::weights::slice::{Part, Slice};
use crate::weights::{HostData, HostTensor, Source};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// What is written of a tensor: what it is in the larger model and its shape there, and which part of it stays; `None` of
/// what is no part of the model as it is known here, which is copied.
type Taken = Option<(TensorId, Vec<usize>, Part)>;

/// Writes the smaller model to `dir`, one tensor at a time, as it is stored; `companions` adds the tokenizer and other small
/// files to the folder it is given. Returns the tensors and their bytes.
///
/// # Errors
/// A folder that is not empty, weights that cannot be read or copied, too little space; then `dir` is as it was.
pub fn write(
    source: &Source,
    slice: &Slice,
    config_json: &str,
    dir: &Path,
    companions: impl FnOnce(&Path) -> Result<()>,
    progress: &dyn Progress,
) -> Result<(usize, u64)> {
    may_write(dir, Existing::Refuse)?;
    let config = config(config_json, slice)?;
    let spelling = source.spelling().unwrap_or(Spelling::Text);
    let mut specs = Vec::new();
    let mut taken: HashMap<String, Taken> = HashMap::new();
    for info in source.tensors() {
        let dtype = stored_dtype(&info.name, &info.dtype)?;
        let Some(id) = source.parse(&info.name) else {
            taken.insert(info.name.clone(), None);
            specs.push(TensorSpec { name: info.name, dtype, shape: info.shape });
            continue;
        };
        let Some(part) = slice.part(id, &info.shape) else { continue };
        let spec = TensorSpec { name: spelling.name(&part.id), dtype, shape: part.shape(&info.shape) };
        taken.insert(spec.name.clone(), Some((id, info.shape, part)));
        specs.push(spec);
    }
    let (what, doing) = ("the smaller model", "Cutting");
    let folder = ModelFolder { dir, config: &config, specs: &specs, max_shard_bytes: MAX_SHARD_BYTES, what, doing };
    let produce = |spec: &TensorSpec| match taken.get(&spec.name) {
        Some(Some((id, shape, part))) => Ok(cut(source.read(id, shape, Some(spec.dtype))?, part)),
        _ => source.read_unused(&spec.name),
    };
    let bytes = folder.write(companions, produce, progress)?;
    Ok((specs.len(), bytes))
}

/// What stays of a tensor.
fn cut(tensor: HostTensor, part: &Part) -> HostTensor {
    let shape = part.shape(&tensor.shape);
    if shape == tensor.shape {
        return tensor;
    }
    let width = tensor.shape.get(1).copied().unwrap_or(1);
    let data = match &tensor.data {
        HostData::F32(values) => HostData::F32(part.of(values, width)),
        HostData::BF16(values) => HostData::BF16(part.of(values, width)),
        HostData::F16(values) => HostData::F16(part.of(values, width)),
    };
    HostTensor { shape, data }
}

/// The larger model's configuration with what is different in the smaller one.
fn config(json: &str, slice: &Slice) -> Result<String> {
    let mut config: Value = serde_json::from_str(json)
        .map_err(|e| Error::new(Kind::Config, format!("`config.json` is not valid JSON: {e}")))?;
    let of_text = if config.get("text_config").is_some() { config.get_mut("text_config") } else { Some(&mut config) };
    let Some(keys) = of_text.and_then(Value::as_object_mut) else {
        return Err(Error::new(Kind::Config, "`config.json` holds no JSON object"));
    };
    slice.keys.iter().for_each(|(key, value)| _ = keys.insert((*key).to_owned(), value.clone()));
    Ok(format!("{config:#}\n"))
}
