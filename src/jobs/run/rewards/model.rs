//! Rewards that a reward model gives: an adapter with a head that judges texts, on a base of its own.

use super::Answered;
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
use crate::jobs::base::headers::Headers;
use crate::jobs::base::judge::Judge;
use crate::jobs::score::Input;
use crate::progress::Progress;
use crate::recipe;
use crate::weights::Holding;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers that are judged in a pass.
const AT_ONCE: usize = 8;

/// A reward model, named and perhaps opened.
pub struct Model {
    /// Its adapter; `None` where its base is a reward model as a whole.
    adapter: Option<PathBuf>,
    base: Option<String>,
    /// Which of the recipe's rewards it is, from 0.
    at: usize,
    judge: Option<Judge>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("adapter", &self.adapter).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Model {
    /// That of reward number `at` of a recipe, which is not opened.
    pub fn of(keys: &recipe::Reward, at: usize) -> Self {
        Model { adapter: adapter(keys), base: keys.base.clone(), at, judge: None }
    }

    /// Opens and loads it on a device.
    ///
    /// # Errors
    /// As [`Judge::open`].
    pub fn open(&mut self, device: &str, progress: &dyn Progress) -> Result<()> {
        let key = key_of_base(self.base.is_some(), self.at);
        let (base, holding) = (self.base.as_deref(), Holding::default());
        let judge = match &self.adapter {
            Some(adapter) => Judge::open(base, adapter, holding, device, progress),
            None => Judge::whole(base.unwrap_or_default(), holding, device, progress),
        };
        // Of an option that nobody gave, the recipe's key is the place.
        let judge = judge.map_err(|error| match error.place() {
            Some(Place::Named(_)) | None => error.at(key),
            _ => error,
        })?;
        self.judge = Some(judge);
        Ok(())
    }

    /// What it says of each answer after its prompt; `None` where `stop` was set first.
    ///
    /// # Errors
    /// When an answer cannot be encoded, or what it says is not finite.
    pub fn judge(&self, name: &str, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        let Some(judge) = &self.judge else {
            return Err(Error::new(Kind::Run, format!("reward `{name}`: its model is not open")));
        };
        let mut said = Vec::with_capacity(answers.len());
        for answers in answers.chunks(AT_ONCE) {
            if stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let first = answers.first().map_or("", |answer| answer.origin);
            let sequences: Vec<Vec<u32>> = answers.iter().map(|answer| tokens(judge, answer)).collect::<Result<_>>()?;
            let numbers = fenced(&format!("the reward model of `{name}`"), || judge.rewards(&sequences))?;
            said.extend(numbers.map_err(|error| error.or_at(Place::Named(first.to_owned())))?);
        }
        Ok(Some(said))
    }
}

/// The folder that a reward names; `None` where its base is to be a reward model as a whole.
fn adapter(keys: &recipe::Reward) -> Option<PathBuf> {
    keys.adapter.as_deref().map(PathBuf::from)
}

/// The key that says what a reward model stands on: the adapter itself where no other does.
fn key_of_base(is_given: bool, at: usize) -> Place {
    Place::Key(format!("rewards[{at}].{}", if is_given { "base" } else { "adapter" }))
}

/// Looks whether the folder of a reward is one of a reward model, and whether its base is there where this machine can tell.
///
/// # Errors
/// When they are not, at the key that names them.
pub fn find(keys: &recipe::Reward, at: usize, progress: &dyn Progress) -> Result<()> {
    let Some(folder) = adapter(keys) else {
        let found = Judge::find_whole(keys.base.as_deref().unwrap_or_default());
        return found.map_err(|error| error.at(key_of_base(true, at)));
    };
    if folder.as_os_str().is_empty() {
        return Ok(()); // which is reported as such
    }
    let found = Judge::base(keys.base.as_deref(), &folder);
    let base = found.map_err(|error| error.at(Place::Key(format!("rewards[{at}].adapter"))))?;
    let key = key_of_base(keys.base.is_some(), at);
    let looked = Headers::here(&base, &key.to_string(), progress).map(drop);
    looked.map_err(|error| {
        let error = error.at(key);
        match keys.base {
            Some(_) => error,
            None => error.hint(format!("the adapter says that it stands on `{base}`: `base` names where that is")),
        }
    })
}

/// Prompt and answer as the reward model's own rows are read.
fn tokens(judge: &Judge, answer: &Answered) -> Result<Vec<u32>> {
    let prompt = answer.columns.get("prompt").cloned().unwrap_or_default();
    let completion = match prompt {
        Value::Array(_) => json!([{"role": "assistant", "content": answer.completion}]),
        _ => Value::from(answer.completion),
    };
    // Beside a prompt that is a text, the model saw the row's system message too.
    let system = answer.columns.get("system").filter(|_| prompt.is_string()).cloned();
    let system = system.map(|system| ("system".to_owned(), system));
    let row: Map<String, Value> =
        [("prompt".to_owned(), prompt), ("completion".to_owned(), completion)].into_iter().chain(system).collect();
    Input::new(&row, Place::Named(answer.origin.to_owned()))?.tokens(&judge.model().base.encoder)
}
