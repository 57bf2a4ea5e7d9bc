//! Writing a model as one file, or as several with an index, as Hugging Face libraries do.

use super::write::{FORMAT_PT, TensorSpec, write_streamed};
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::weights::HostTensor;
use crate::weights::safetensors_index::INDEX_NAME;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes a model's tensors into the folder `dir`: `model.safetensors` if they fit into `max_shard_bytes`, else
/// `model-00001-of-0000N.safetensors` and so on, with `model.safetensors.index.json` last. Gives the files' paths.
///
/// Shards are filled in the order of `specs`; inside a shard `producer` is asked as in [`write_streamed`]. A tensor
/// larger than `max_shard_bytes` has a shard of its own.
///
/// # Errors
/// If `dir` holds a model's weights already, or as [`write_streamed`]; the files written so far are then removed.
pub fn write_sharded(
    dir: &Path,
    specs: &[TensorSpec],
    max_shard_bytes: usize,
    mut producer: impl FnMut(&TensorSpec) -> Result<HostTensor>,
) -> Result<Vec<PathBuf>> {
    refuse_existing(dir)?;
    let shards = plan(specs, max_shard_bytes)?;
    let mut written = Vec::new();
    let result = write_all(dir, &shards, &mut producer, &mut written);
    if result.is_err() {
        for path in &written {
            let _ = fs::remove_file(path);
        }
    }
    result.map(|()| written)
}

fn write_all(
    dir: &Path,
    shards: &[&[TensorSpec]],
    producer: &mut impl FnMut(&TensorSpec) -> Result<HostTensor>,
    written: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut weight_map = Map::new();
    for (i, specs) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let path = dir.join(&name);
        write_streamed(&path, specs, FORMAT_PT, &mut *producer)?;
        written.push(path);
        weight_map.extend(specs.iter().map(|spec| (spec.name.clone(), Value::from(name.as_str()))));
    }
    if shards.len() > 1 {
        weight_map.sort_keys();
        let specs = || shards.iter().copied().flatten();
        let total_size = specs().map(TensorSpec::bytes).sum::<Result<usize>>()?;
        let total_parameters: usize = specs().map(|spec| spec.shape.iter().product::<usize>()).sum();
        let metadata = json!({"total_parameters": total_parameters, "total_size": total_size});
        let index = json!({"metadata": metadata, "weight_map": weight_map});
        let path = dir.join(INDEX_NAME);
        atomic::write(&path, format!("{index:#}\n").as_bytes())?;
        written.push(path);
    }
    Ok(())
}

/// Cuts `specs` into runs of at most `max_shard_bytes`; always at least one.
fn plan(specs: &[TensorSpec], max_shard_bytes: usize) -> Result<Vec<&[TensorSpec]>> {
    let mut shards = Vec::new();
    let (mut start, mut held) = (0, 0usize);
    for (i, spec) in specs.iter().enumerate() {
        let bytes = spec.bytes()?;
        if i > start && held.saturating_add(bytes) > max_shard_bytes {
            shards.push(&specs[start..i]);
            (start, held) = (i, 0);
        }
        held = held.saturating_add(bytes);
    }
    shards.push(&specs[start..]);
    Ok(shards)
}

/// Weights of another model, or of an earlier run, would be mixed with the new ones by whoever loads the folder.
fn refuse_existing(dir: &Path) -> Result<()> {
    let Ok(files) = fs::read_dir(dir) else {
        return Ok(()); // absent: it will be created
    };
    for file in files {
        let name = file.map_err(|e| Error::io("listing the folder", dir, e))?.file_name();
        let name = name.to_string_lossy();
        let shard = name.starts_with("model") && name.ends_with(".safetensors");
        if shard || name == INDEX_NAME {
            return Err(Error::new(Kind::Io, format!("the folder holds a model already: `{name}`"))
                .at_path(dir)
                .hint("choose an empty folder, or remove the old model"));
        }
    }
    Ok(())
}
