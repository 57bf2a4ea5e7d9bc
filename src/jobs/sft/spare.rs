//! What is done where the device of a run has no memory left, or fails.

use super::planned::Planned;
use crate::error::{Error, Kind, Result};
use crate::jobs::forecast::fit;
use crate::jobs::run::folder::{RunFolder, resume_command};
use crate::jobs::run::identity;
use crate::recipe::{Fit, Recipe};
use crate::train::resume;

/// The recipe that a run goes on with after `error`, and what it changes: with `training.fit: auto` the next smaller one,
/// whose run then owns the checkpoints.
///
/// # Errors
/// With `error` itself, and what the user can do, where the run is not to go on so.
pub fn smaller(error: Error, planned: &Planned, folder: &RunFolder) -> Result<(Recipe, String)> {
    let Planned { recipe, base, data, devices, steps, .. } = planned;
    let smaller = fit::next_smaller(recipe, steps.step.activation_checkpointing);
    match (error.kind(), smaller) {
        (Kind::OutOfMemory, Some((smaller, changes))) if recipe.training.fit == Fit::Auto => {
            let fingerprint = |recipe: &Recipe| identity::fingerprint(recipe, base, data, &devices.first);
            resume::hand_over(&folder.path("checkpoints"), &fingerprint(recipe)?, &fingerprint(&smaller)?)?;
            Ok((smaller, changes.join(" ")))
        }
        (Kind::OutOfMemory, Some((_, changes))) => {
            let (resume, changes) = (resume_command(&recipe.output.dir), changes.join(" "));
            let on =
                format!("`{resume} --set training.fit=auto` goes on with smaller settings, the next being `{changes}`");
            Err(error.hint(format!("what was done is saved: {on}")))
        }
        (Kind::OutOfMemory, None) => Err(error.hint(
            "no setting needs less that trains the same: start a run with a shorter `data.max_length`, or with \
             `model.quantization: nf4_double`",
        )),
        (Kind::Computing, _) => {
            let resume = resume_command(&recipe.output.dir);
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
