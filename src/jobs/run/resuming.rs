//! Whether a run can go on where it stopped, looked at before anything is loaded.

use crate::adapter::peft::{AdapterConfig, TENSORS_FILE};
use crate::error::{Error, Kind, Place, Result, did_you_mean};
use crate::jobs::run::folder::{self, RunFolder};
use crate::jobs::run::identity;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use crate::train::checkpoint;
use crate::weights::safetensors_file::SafetensorsFile;
use std::path::{Path, PathBuf};

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Steps, or the writing of the adapter.
    Work,
    /// Nothing.
    Nothing,
}

/// Refuses to resume where no run is: a mistyped `output.dir` would start from step 1 without a word.
///
/// # Errors
/// When `dir` holds nothing of a run.
pub fn find(dir: &Path) -> Result<()> {
    if folder::holds_run(dir) || folder::was_entered(dir) {
        return Ok(());
    }
    let error = Error::new(Kind::Recipe, format!("there is no run in `{}` to resume", dir.display()))
        .at(Place::Key("output.dir".into()));
    let without = "without `--resume` a new run starts";
    Err(error.hint(match near(dir) {
        Some(run) => format!("did you mean `{}`? {without}", run.display()),
        None => without.into(),
    }))
}

/// A folder beside `dir` that holds a run and has much the same name, or is the only one.
fn near(dir: &Path) -> Option<PathBuf> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
    let mut runs: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
        .filter(|name| folder::holds_run(&parent.map_or_else(|| name.into(), |parent| parent.join(name))))
        .collect();
    runs.sort();
    let close = did_you_mean(dir.file_name()?.to_str()?, runs.iter().map(String::as_str));
    let name = close.or(if let [only] = runs.as_slice() { Some(only.as_str()) } else { None })?;
    Some(parent.map_or_else(|| name.into(), |parent| parent.join(name)))
}

/// Looks at what the run in `folder` has left, and says what is done about it.
///
/// # Errors
/// When the recipe is another than that of the run, when no checkpoint can be used, and when the adapter of a finished
/// run is gone with all that it could be written from.
pub fn look(recipe: &Recipe, folder: &RunFolder, screen: &ProgressBar) -> Result<Left> {
    identity::check_recipe(recipe, folder, screen)?;
    let broken = if folder.is_finished() { broken_adapter(&folder.path("adapter")) } else { None };
    if folder.is_finished() && broken.is_none() {
        return Ok(Left::Nothing);
    }
    let checkpoints = folder.path("checkpoints");
    let latest = checkpoint::latest_good(&checkpoints)?;
    match (&latest.checkpoint, &broken) {
        (None, _) if !latest.warnings.is_empty() => Err(all_damaged(latest.warnings, &checkpoints)),
        (None, Some(why)) => Err(Error::new(
            Kind::Checkpoint,
            format!(
                "the run in `{}` is finished, but {why}, and there is no checkpoint to write it from",
                folder.path("").display()
            ),
        )
        .at_path(folder.path("adapter"))
        .hint("put the adapter back, or start a new run with another `output.dir`")),
        (None, None) => {
            let dir = recipe.output.dir.display();
            screen.note(&format!("warning: no checkpoint was saved in `{dir}`: training starts from step 1"));
            Ok(Left::Work)
        }
        (Some(checkpoint), Some(why)) => {
            screen.note(&format!(
                "warning: this run is finished, but {why}: it is written again from the checkpoint of step {}",
                checkpoint.step
            ));
            Ok(Left::Work)
        }
        (Some(_), None) => Ok(Left::Work),
    }
}

/// No checkpoint is whole: each is named with what is wrong with it.
fn all_damaged(warnings: Vec<String>, checkpoints: &Path) -> Error {
    let what = match warnings.len() {
        1 => "the only checkpoint is damaged, and nothing was changed".to_owned(),
        n => format!("all {n} checkpoints are damaged, and nothing was changed"),
    };
    Error::new(Kind::Checkpoint, what).at_path(checkpoints).excerpt(warnings.join("\n")).hint(format!(
        "put an undamaged copy back; or remove `{}`, and `--resume` starts from step 1",
        checkpoints.display()
    ))
}

/// Why the adapter in `folder` is none, as the end of a sentence.
fn broken_adapter(folder: &Path) -> Option<String> {
    if !folder.exists() {
        return Some("its adapter is gone".into());
    }
    let tensors = folder.join(TENSORS_FILE);
    let config = AdapterConfig::read(folder).map(|_| ());
    let weights = SafetensorsFile::open(&tensors).map(|_| ());
    let error = config.and(weights).err()?;
    Some(format!("its adapter is damaged ({})", error.what()))
}
