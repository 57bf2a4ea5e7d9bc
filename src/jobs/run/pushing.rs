//! What a run publishes when it is over.

use crate::error::{Error, Kind, Place, Result};
use crate::hub::Failure;
use crate::jobs::push::{self, Consent, PushOptions, Pushed};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::terminal::shell_word;
use std::cell::Cell;
use std::path::Path;

/// A push that a recipe asks for, and that the Hub has been asked about.
pub struct Pushing {
    repository: String,
    base_model: Option<String>,
    private: bool,
    overwrite: bool,
    agreed: Option<String>,
}

impl Pushing {
    /// Checks what can be checked before a run: the token, the repository, the name of the base. `None` where nothing is to
    /// be pushed.
    ///
    /// # Errors
    /// As [`push::check`].
    pub fn check(recipe: &Recipe, consent: Consent, progress: &dyn Progress) -> Result<Option<Self>> {
        let output = &recipe.output;
        let Some(repository) = output.push_to_hub.clone() else { return Ok(None) };
        let (base_model, private, overwrite) =
            (output.hub_base_model.clone(), output.hub_private_repo, output.hub_overwrite);
        let mut pushing = Pushing { repository, base_model, private, overwrite, agreed: None };
        let key = || Place::Key("output.push_to_hub".into());
        let agreed = |question: &str| {
            progress.note(&format!("{question}; `output.hub_overwrite` agrees"));
            Ok(())
        };
        let consent: Consent = if overwrite { &agreed } else { consent };
        let checked = push::check(&recipe.model.base, pushing.options(), consent, progress);
        pushing.agreed = checked.map_err(|error| error.or_at(key()))?;
        Ok(Some(pushing))
    }

    /// The command that does the same for the finished adapter.
    pub fn command(&self, adapter: &Path) -> String {
        let yes = if self.overwrite { " --yes" } else { "" };
        format!("{}{yes}", self.asking_command(adapter))
    }

    /// The same, where it asks before it replaces something.
    fn asking_command(&self, adapter: &Path) -> String {
        let word = |path: &Path| shell_word(&path.display().to_string());
        let base =
            self.base_model.as_ref().map(|base| format!(" --base-model {}", shell_word(base))).unwrap_or_default();
        let private = if self.private { " --private" } else { "" };
        format!("gemma-tune push {} --repo {}{base}{private}", word(adapter), shell_word(&self.repository))
    }

    /// Pushes the adapter of a run that is over.
    ///
    /// # Errors
    /// When that fails, with the command that repeats it: the adapter is whole.
    pub fn push(&self, adapter: &Path, progress: &dyn Progress) -> Result<Pushed> {
        // What somebody pushed meanwhile is not what the recipe agreed to replace.
        let is_other = Cell::new(false);
        let consent = |question: &str| {
            is_other.set(true);
            Err(Error::new(Kind::Hub, format!("{question}: it changed since the run began")))
        };
        push::push(adapter, self.options(), &consent, progress).map_err(|error| {
            let what = format!("the run is done, and its adapter was not pushed: {}", error.what());
            let why = error.hint_text().map(|hint| format!("{hint}\n  then: ")).unwrap_or_default();
            let place = error.place().cloned().unwrap_or_else(|| Place::Path(adapter.into()));
            let is_other = is_other.get() || Failure::of(&error) == Some(Failure::Conflict);
            let command = if is_other { self.asking_command(adapter) } else { self.command(adapter) };
            Error::new(Kind::Hub, what).at(place).hint(format!("{why}{command}")).caused_by(error)
        })
    }

    fn options(&self) -> PushOptions<'_> {
        PushOptions {
            repository: &self.repository,
            base_model: self.base_model.as_deref(),
            revision: None,
            private: self.private,
            create_pr: false,
            agreed: self.agreed.as_deref(),
        }
    }
}
