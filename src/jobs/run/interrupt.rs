//! Ctrl-C: what it does to a run at each of its stages, and what is true when it has done it.

use crate::device::AUTO;
use crate::jobs::run::folder::{recipe_path, resume_command_on};
use crate::train::checkpoint;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Before its loop: nothing that it does is kept, and it may end at once.
    #[default]
    Preparing,
    /// In its loop, which looks at [`Interrupt::flag`] between layers and saves.
    Training,
    /// After its loop, while it writes the adapter.
    Publishing,
    /// When all is written, while it goes to the Hub.
    Pushing,
}

/// What a Ctrl-C leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The run will end by itself in a moment.
    Soon(&'static str),
    /// The process is to end now.
    Now(Standing),
}

/// What an interrupted run leaves.
#[derive(Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether `--resume` goes on with the run, be it from step 1.
    pub is_resumable: bool,
    /// Whether there is a checkpoint to go on from.
    pub is_saved: bool,
    /// What is saved, and the command that goes on.
    pub text: String,
}

/// The wish to stop a run, shared with who hears Ctrl-C.
#[derive(Debug, Default)]
pub struct Interrupt {
    flag: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    dir: Option<PathBuf>,
    device: Option<String>,
    push: Option<String>,
}

impl Interrupt {
    /// Set once the run is to stop.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The run works in `dir`, on the device of that name.
    pub fn works_in(&self, dir: &Path, device: &str) {
        let mut state = self.state();
        state.dir = Some(dir.into());
        state.device = Some(device.to_owned());
    }

    /// The run has come to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.state().stage = stage;
    }

    /// The run is over and being pushed, as `command` would do it again.
    pub fn pushes(&self, command: String) {
        let mut state = self.state();
        (state.stage, state.push) = (Stage::Pushing, Some(command));
    }

    /// Asks the run to stop; asked again, it ends at once.
    pub fn ask(&self) -> Asked {
        let again = self.flag.swap(true, Ordering::SeqCst);
        let standing = self.standing();
        match self.state().stage {
            Stage::Training if !again => Asked::Soon("Stopping; Ctrl-C again ends at once."),
            Stage::Publishing if !again && !standing.is_saved => {
                Asked::Soon("The steps are done, and the adapter is being written; Ctrl-C again ends at once.")
            }
            _ => Asked::Now(standing),
        }
    }

    /// What is there to go on from.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        if let Some(push) = &state.push {
            let text = format!("Interrupted; the run is done, and its adapter is not pushed. To push it:\n  {push}");
            return Standing { is_resumable: false, is_saved: false, text };
        }
        let Some(dir) = &state.dir else {
            let text = "Interrupted; nothing was saved.".into();
            return Standing { is_resumable: false, is_saved: false, text };
        };
        let step = checkpoint::steps(&dir.join("checkpoints")).ok().and_then(|steps| steps.last().copied());
        let resume = resume_command_on(dir, state.device.as_deref().unwrap_or(AUTO));
        let is_begun = recipe_path(dir).exists();
        let text = match step {
            Some(step) => format!("Interrupted; step {step} is saved. To go on:\n  {resume}"),
            None if is_begun => {
                format!("Interrupted; no step was saved yet. To go on, from step 1:\n  {resume}")
            }
            None => "Interrupted; nothing was saved. The same command starts again.".into(),
        };
        Standing { is_resumable: step.is_some() || is_begun, is_saved: step.is_some(), text }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_said_is_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("my run");
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.standing().text, "Interrupted; nothing was saved.");
        interrupt.works_in(&out, "cuda:1");
        assert!(interrupt.standing().text.ends_with("The same command starts again."));
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("recipe.yaml"), "").unwrap();
        let command = format!("gemma-tune train '{}/recipe.yaml' --resume --device cuda:1", out.display());
        let standing = interrupt.standing();
        assert!(standing.is_resumable && !standing.is_saved, "{}", standing.text);
        assert!(standing.text.contains("no step was saved yet"), "{}", standing.text);
        assert!(standing.text.ends_with(&command), "{}", standing.text);
        fs::create_dir_all(out.join("checkpoints/step-12")).unwrap();
        let standing = interrupt.standing();
        assert!(standing.is_saved && standing.text.contains("step 12 is saved"), "{}", standing.text);
        assert!(standing.is_resumable);
        assert!(standing.text.ends_with(&command), "{}", standing.text);
    }

    #[test]
    fn only_the_loop_is_waited_for_and_only_once() {
        for (stage, saved, waits) in [
            (Stage::Preparing, false, false),
            (Stage::Training, false, true),
            (Stage::Training, true, true),
            (Stage::Publishing, false, true),
            (Stage::Publishing, true, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            if saved {
                fs::create_dir_all(dir.path().join("checkpoints/step-1")).unwrap();
            }
            let interrupt = Interrupt::default();
            interrupt.works_in(dir.path(), "auto");
            interrupt.enter(stage);
            assert_eq!(matches!(interrupt.ask(), Asked::Soon(_)), waits, "{stage:?}");
            assert!(interrupt.flag().load(Ordering::SeqCst));
            assert!(matches!(interrupt.ask(), Asked::Now(_)), "{stage:?}");
        }
    }
}
