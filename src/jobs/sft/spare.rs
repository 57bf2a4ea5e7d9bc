//! What is done where the device of a run has no memory left, or fails.

use super::planned::Planned;
use crate::error::{Error, Kind, Result};
use crate::jobs::forecast::fit;
use crate::jobs::run::folder::{RunFolder, resume_command_on};
use crate::jobs::run::identity;
use crate::recipe::{Fit, Recipe};
use crate::train::resume;

/// The recipe that a run on `device`, as the user named it, goes on with after `error`, and what it changes: with
/// `training.fit: auto` the next smaller one, whose run then owns the checkpoints.
///
/// # Errors
/// With `error` itself, and what the user can do, where the run is not to go on so.
pub fn smaller(error: Error, planned: &Planned, folder: &RunFolder, device: &str) -> Result<(Recipe, String)> {
    let Planned { recipe, base, data, devices, steps, .. } = planned;
    let layers = base.config.num_hidden_layers();
    let smaller = fit::next_smaller(recipe, steps.step.recompute.of(layers) == layers);
    match (error.kind(), smaller) {
        (Kind::OutOfMemory, Some((smaller, changes))) if recipe.training.fit == Fit::Auto => {
            let fingerprint = |recipe: &Recipe| identity::fingerprint(recipe, base, data, devices);
            resume::hand_over(&folder.path("checkpoints"), &fingerprint(recipe)?, &fingerprint(&smaller)?)?;
            Ok((smaller, changes.join(" ")))
        }
        (Kind::OutOfMemory, Some((_, changes))) => {
            let (resume, changes) = (resume_command_on(&recipe.output.dir, device), changes.join(" "));
            let on =
                format!("`{resume} --set training.fit=auto` goes on with smaller settings, the next being `{changes}`");
            Err(error.hint(format!("what was done is saved: {on}")))
        }
        (Kind::OutOfMemory, None) => {
            let elsewhere = if devices.are_cpu() { "" } else { ", or with `--device cpu`, in the machine's memory" };
            Err(error.hint(format!(
                "no setting needs less that trains the same: start a run with a shorter `data.max_length`, or with \
                 `model.quantization: nf4_double`{elsewhere}"
            )))
        }
        (Kind::Bug, _) => {
            let resume = resume_command_on(&recipe.output.dir, device);
            Err(error.hint(format!("what was done is saved, and `{resume}` goes on; report it, with the recipe")))
        }
        (Kind::Reward, _) => {
            let resume = resume_command_on(&recipe.output.dir, device);
            let again = format!("what was done is saved, and `{resume}` goes on");
            let hint = error.hint_text().map_or_else(|| again.clone(), |hint| format!("{hint}; {again}"));
            Err(error.hint(hint))
        }
        (Kind::Computing, _) => {
            let resume = resume_command_on(&recipe.output.dir, device);
            let again = format!("what was done is saved, and `{resume}` goes on");
            let device = format!(
                "should it fail again, `gemma-tune doctor --device {}` looks for the reason",
                devices.first.name
            );
            Err(error.hint(format!("{again}; {device}")))
        }
        _ => Err(error),
    }
}
