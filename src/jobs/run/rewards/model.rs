//! Rewards that a reward model gives: an adapter with a head that judges texts, on a base of its own.

use super::Answered;
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
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
    judge: Option<Judge>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("adapter", &self.adapter).field("base", &self.base).finish_non_exhaustive()
    }
}

impl Model {
    /// That of a recipe, which is not opened.
    ///
    /// # Errors
    /// When its folder is none of a reward model.
    pub fn of(keys: &recipe::Reward) -> Result<Self> {
        let adapter = keys.adapter.as_deref().map(PathBuf::from);
        match &adapter {
            Some(adapter) => Judge::find(adapter).map(drop)?,
            None => Judge::find_whole(keys.base.as_deref().unwrap_or_default())?,
        }
        Ok(Model { adapter, base: keys.base.clone(), judge: None })
    }

    /// Opens and loads it on a device.
    ///
    /// # Errors
    /// As [`Judge::open`].
    pub fn open(&mut self, device: &str, progress: &dyn Progress) -> Result<()> {
        let (base, holding) = (self.base.as_deref(), Holding::default());
        let judge = match &self.adapter {
            Some(adapter) => Judge::open(base, adapter, holding, device, progress)?,
            None => Judge::whole(base.unwrap_or_default(), holding, device, progress)?,
        };
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

/// Prompt and answer as the reward model's own rows are read.
fn tokens(judge: &Judge, answer: &Answered) -> Result<Vec<u32>> {
    let prompt = answer.columns.get("prompt").cloned().unwrap_or_default();
    let completion = match prompt {
        Value::Array(_) => json!([{"role": "assistant", "content": answer.completion}]),
        _ => Value::from(answer.completion),
    };
    let row: Map<String, Value> =
        [("prompt".to_owned(), prompt), ("completion".to_owned(), completion)].into_iter().collect();
    Input::new(&row, Place::Named(answer.origin.to_owned()))?.tokens(&judge.model().base.encoder)
}
