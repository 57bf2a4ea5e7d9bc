//! The folder of a run, `output.dir`.

use crate::device::AUTO;
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use crate::report::{ProgressBar, Summary, text};
use crate::terminal::shell_word;
use crate::train::checkpoint::{self, Fingerprint, LOCK, Loaded, RunLock};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files that show that a folder holds a run.
const TRACES: [&str; 4] = ["recipe.yaml", "metrics.jsonl", "checkpoints", "adapter"];

/// Whether `dir` has anything that a run left.
pub fn holds_run(dir: &Path) -> bool {
    TRACES.iter().any(|name| dir.join(name).exists())
}

/// Whether a run took possession of `dir`, whatever it left: one that was killed before its first file leaves the folder empty, and
/// a new volume is empty where a run is resumed whenever its machine begins anew.
pub fn was_entered(dir: &Path) -> bool {
    dir.join(LOCK).exists() || paths::is_vacant(dir).unwrap_or(false)
}

/// The recipe of the run in `dir`, as it was resolved.
pub fn recipe_path(dir: &Path) -> PathBuf {
    dir.join("recipe.yaml")
}

/// The recipe of the run whose adapter lies in `adapter`, if it lies in the folder of one.
pub fn recipe_beside(adapter: &Path) -> Option<PathBuf> {
    let recipe = recipe_path(std::path::absolute(adapter).ok()?.parent()?);
    recipe.is_file().then_some(recipe)
}

/// The command that goes on with the run in `dir` as it was started.
pub fn resume_command(dir: &Path) -> String {
    format!("gemma-tune train {} --resume", shell_word(&recipe_path(dir).display().to_string()))
}

/// How a device that the user named is named again in a command: `` --device cuda:1 ``, after a space; nothing for [`AUTO`].
pub fn device_option(name: &str) -> String {
    if name == AUTO { String::new() } else { format!(" --device {}", shell_word(name)) }
}

/// [`resume_command`] on the device that the user named.
pub fn resume_command_on(dir: &Path, device: &str) -> String {
    resume_command(dir) + &device_option(device)
}

/// `output.dir`, locked while the run goes on.
pub struct RunFolder {
    dir: PathBuf,
    lock: Option<RunLock>,
}

impl Drop for RunFolder {
    /// A run that failed before it wrote anything leaves the folder as it found it.
    fn drop(&mut self) {
        if let Some(lock) = self.lock.as_mut().filter(|_| !holds_run(&self.dir)) {
            lock.withdraw();
        }
    }
}

fn occupied(dir: &Path) -> Error {
    Error::new(Kind::Recipe, format!("`{}` already holds a run", dir.display()))
        .at(Place::Path(dir.into()))
        .hint("`--resume` continues it; `--set output.dir=..` writes elsewhere; nothing was changed")
}

/// What a run writes as files of its folder, and as folders in it.
const FILES: [&str; 6] = [LOCK, "recipe.yaml", "metrics.jsonl", "rewards.jsonl", "eval_rewards.jsonl", "summary.json"];
const FOLDERS: [&str; 3] = ["tensorboard", "checkpoints", "adapter"];

/// Checks that nothing else is there under the names of what a run writes: who opens a pipe waits for ever.
fn check_outputs(dir: &Path) -> Result<()> {
    let is_wrong = |name: &&str| match std::fs::metadata(dir.join(name)) {
        Ok(found) => {
            if FILES.contains(name) {
                !found.is_file()
            } else {
                !found.is_dir()
            }
        }
        Err(_) => false,
    };
    let wrong = |name: &str| {
        let what = if FILES.contains(&name) { "no regular file" } else { "no folder" };
        let error = Error::new(Kind::Recipe, format!("a run writes `{name}` here, and there is one that is {what}"));
        error.at(Place::Path(dir.join(name))).hint("remove it, or choose another `output.dir`; nothing was changed")
    };
    Error::many(FILES.iter().chain(&FOLDERS).copied().filter(is_wrong).map(wrong).collect()).map_or(Ok(()), Err)
}

impl RunFolder {
    /// Takes possession of `dir`; a dry run only looks.
    ///
    /// # Errors
    /// When `dir` holds a run that is not to be resumed, or another process works in it.
    pub fn open(dir: &Path, resume: bool, dry_run: bool) -> Result<Self> {
        if holds_run(dir) && !resume && !dry_run {
            // Of a run that goes on, the advice to resume it would be no help.
            RunLock::check_free(dir)?;
            return Err(occupied(dir));
        }
        check_outputs(dir)?;
        if let Some(file) = dir.ancestors().find(|path| path.is_file()) {
            return Err(Error::new(
                Kind::Recipe,
                format!("`output.dir` needs a folder, and `{}` is a file", file.display()),
            )
            .at(Place::Path(dir.into()))
            .hint("choose another `output.dir`"));
        }
        let lock = if dry_run { None } else { Some(RunLock::acquire(dir)?) };
        if lock.as_ref().is_some_and(RunLock::is_exclusive) {
            crate::atomic::remove_leftovers(dir)?;
        }
        Ok(RunFolder { dir: dir.into(), lock })
    }

    /// What a run that is new here would be refused with.
    pub fn occupied(&self) -> Option<Error> {
        holds_run(&self.dir).then(|| occupied(&self.dir))
    }

    /// Says that the run writes into its folder from now on.
    pub fn keep(&self) {
        self.lock.iter().for_each(RunLock::keep);
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether the run in the folder came to its end.
    pub fn is_finished(&self) -> bool {
        self.path("summary.json").exists()
    }

    /// The newest good checkpoint of this run; clears away what killed saves left.
    ///
    /// # Errors
    /// When it belongs to another run.
    pub fn latest(&self, run: &Fingerprint, screen: &ProgressBar) -> Result<Option<Loaded>> {
        let checkpoints = self.path("checkpoints");
        checkpoint::clean_up(&checkpoints)?;
        let latest = checkpoint::latest_good(&checkpoints)?;
        latest.warnings.iter().for_each(|warning| screen.note(&format!("warning: {warning}")));
        if let Some(checkpoint) = &latest.checkpoint {
            checkpoint.check_run(run)?;
            screen.note(&format!("Resuming after step {}", checkpoint.step));
        }
        Ok(latest.checkpoint)
    }

    /// The end of a run in a few lines.
    pub fn describe_result(&self, summary: &Summary) -> String {
        let totals = &summary.totals;
        let number = |value: Option<f64>| value.map_or("-".into(), text::metric);
        // The loss of answers that are learnt from as they are given says nothing.
        let (what, first, last) = match totals.first_reward {
            Some(_) => ("reward", totals.first_reward, totals.last_reward),
            None => ("loss", totals.first_loss, totals.last_loss),
        };
        let memory = match (summary.peak_bytes(), summary.estimated_bytes) {
            (Some(peak), Some(estimated)) => {
                let of = summary.peak_device_bytes.map_or(String::new(), |_| format!(" of {}", summary.device));
                format!("{}{of} (estimated {})", text::bytes(peak), text::bytes(estimated))
            }
            _ => "unknown".into(),
        };
        format!(
            "Trained {}, {} in {}; {what} {} -> {}; peak memory {memory}\nAdapter: {}",
            text::counted(totals.steps, "step"),
            text::counted(totals.tokens, "token"),
            text::duration(Duration::from_secs_f64(totals.seconds.max(0.0))),
            number(first),
            number(last),
            self.path("adapter").display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_run_goes_on_is_told_before_that_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let refused = || RunFolder::open(dir.path(), false, false).map(drop).unwrap_err();
        let running = RunFolder::open(dir.path(), true, false).unwrap();
        TRACES.iter().take(1).for_each(|trace| std::fs::write(dir.path().join(trace), "").unwrap());
        assert_eq!((refused().kind(), refused().exit_code()), (Kind::Run, 1));
        drop(running);
        assert_eq!((refused().kind(), refused().exit_code()), (Kind::Recipe, 2));
    }
}
