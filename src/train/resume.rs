//! A run's state as a checkpoint and back.

use crate::adapter::Adapter;
use crate::error::{Error, Kind, Result};
use crate::train::checkpoint::{self, Fingerprint, Loaded, Writer};
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::run::{Position, State};
use crate::train::tensors::{Tensors, write_from_device};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const ADAPTER: &str = "adapter.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST_ADAPTER: &str = "best_adapter.safetensors";

/// What a checkpoint's manifest says beside the tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    position: Position,
    optimizer_updates: u64,
    has_best_adapter: bool,
    outputs: serde_json::Value,
}

/// Saves `state` under `checkpoints` and returns the folder. `outputs` is what the run's outputs need to continue.
///
/// # Errors
/// When it cannot be written; nothing is left half-written then.
pub fn save(checkpoints: &Path, state: &State, outputs: serde_json::Value, run: &Fingerprint) -> Result<PathBuf> {
    let mut writer = Writer::new(checkpoints, state.position.step)?;
    writer.part_with(ADAPTER, |out| write_from_device(&state.adapter.parameters(), out))?;
    writer.part_with(OPTIMIZER, |out| write_from_device(&state.optimizer.state().concat(), out))?;
    if let Some(best) = &state.best_adapter {
        writer.part_with(BEST_ADAPTER, |out| best.write(out))?;
    }
    let meta = Meta {
        position: state.position.clone(),
        optimizer_updates: state.optimizer.updates(),
        has_best_adapter: state.best_adapter.is_some(),
        outputs,
    };
    let meta = serde_json::to_value(meta)
        .map_err(|e| Error::new(Kind::Run, format!("the position cannot be written: {e}")).caused_by(e))?;
    writer.finish(run, &meta)
}

/// Makes the newest good checkpoint of the run `from`, if there is one, one of the run `to`: the same run, which goes on
/// with settings that compute the same in another way.
///
/// # Errors
/// When it cannot be read or written, or belongs to another run.
pub fn hand_over(checkpoints: &Path, from: &Fingerprint, to: &Fingerprint) -> Result<()> {
    let Some(checkpoint) = checkpoint::latest_good(checkpoints)?.checkpoint else { return Ok(()) };
    checkpoint.check_run(from)?;
    let meta = meta(&checkpoint)?;
    let mut writer = Writer::new(checkpoints, checkpoint.step)?;
    let best = meta.has_best_adapter.then_some(BEST_ADAPTER);
    for name in [ADAPTER, OPTIMIZER].into_iter().chain(best) {
        writer.part(name, &checkpoint.read(name)?)?;
    }
    writer.finish(to, &checkpoint.meta).map(|_| ())
}

fn meta(checkpoint: &Loaded) -> Result<Meta> {
    serde_json::from_value(checkpoint.meta.clone()).map_err(|e| {
        let what = format!("the checkpoint's position cannot be read: {e}");
        Error::new(Kind::Checkpoint, what).at_path(checkpoint.path()).caused_by(e)
    })
}

/// Puts a checkpoint's tensors into `adapter` (whose layout it must have) and returns the state, and what the run's
/// outputs need to continue.
///
/// # Errors
/// [`Kind::Checkpoint`] when the checkpoint does not fit the adapter.
pub fn load(checkpoint: &Loaded, mut adapter: Adapter, rule: Rule) -> Result<(State, serde_json::Value)> {
    let damaged = |what: String| Error::new(Kind::Checkpoint, what).at_path(checkpoint.path());
    let meta = meta(checkpoint)?;
    let parameters = adapter.parameters();
    let device = parameters.first().map(|p| p.device());
    let device = device.ok_or_else(|| damaged("the adapter has no parameters".into()))?;
    let shapes: Vec<[usize; 2]> = parameters.iter().map(|p| p.dims()).collect();
    let fitting = |name: &str, copies: usize| {
        let tensors = Tensors::from_bytes(&checkpoint.read(name)?)?;
        let expected = shapes.iter().flat_map(|shape| std::iter::repeat_n(*shape, copies));
        if tensors.shapes().eq(expected) {
            Ok(tensors)
        } else {
            Err(damaged(format!("`{name}` has other shapes than the adapter of this recipe")))
        }
    };
    adapter.set_parameters(fitting(ADAPTER, 1)?.to_device(&device));
    let slots = rule.slots();
    let state = if meta.optimizer_updates == 0 || slots == 0 {
        Vec::new()
    } else {
        fitting(OPTIMIZER, slots)?.to_device(&device).chunks(slots).map(<[_]>::to_vec).collect()
    };
    let best_adapter = if meta.has_best_adapter { Some(fitting(BEST_ADAPTER, 1)?) } else { None };
    let optimizer = Optimizer::resume(rule, meta.optimizer_updates, state);
    Ok((State { adapter, optimizer, position: meta.position, best_adapter }, meta.outputs))
}
