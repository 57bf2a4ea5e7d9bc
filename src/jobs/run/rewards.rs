//! How good answers are, as the rewards of a recipe say.

mod fault;
mod http;
mod model;
mod program;
pub mod programs;
mod texts;

use crate::data::{self, Dataset, RowId};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::recipe;
use http::Http;
use model::Model;
use program::Program;
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;
use texts::Text;

/// What is farther from 0 is no reward: squares of such numbers are none.
const LARGEST: f64 = 1e30;

/// An answer that is to be judged.
#[derive(Debug, Clone)]
pub struct Answered<'a> {
    /// What the model said.
    pub completion: &'a str,
    /// Its tokens, the one that ends it too.
    pub tokens: usize,
    /// The columns of the row that it answers, `prompt` among them.
    pub columns: &'a Map<String, Value>,
    /// Where that row is from, as `file, row`.
    pub origin: &'a str,
}

/// The rewards of a recipe, in its order.
#[derive(Debug)]
pub struct Rewards(Vec<Reward>);

#[derive(Debug)]
struct Reward {
    name: String,
    weight: f64,
    how: How,
}

/// Who judges.
#[derive(Debug)]
enum How {
    /// The words of the answer.
    Text(Text),
    /// A reward model.
    Model(Box<Model>),
    /// A program of the user's.
    Program(Program),
    /// A server.
    Http(Http),
}

impl Rewards {
    /// Those of a recipe.
    ///
    /// # Errors
    /// When one of its patterns is none, or the environment lacks what a server is to be told.
    pub fn of(keys: &[recipe::Reward]) -> Result<Self> {
        let reward = |(at, keys): (usize, &recipe::Reward)| {
            let how = match keys.kind {
                recipe::RewardKind::Model => How::Model(Box::new(Model::of(keys, at))),
                recipe::RewardKind::Program => How::Program(Program::of(keys)),
                recipe::RewardKind::Http => How::Http(Http::of(keys, at)?),
                _ => How::Text(Text::of(keys)?),
            };
            Ok(Reward { name: keys.name.clone(), weight: keys.weight, how })
        };
        Ok(Rewards(keys.iter().enumerate().map(reward).collect::<Result<_>>()?))
    }

    /// The same, with the reward models among them opened and loaded on a device.
    ///
    /// # Errors
    /// As [`Rewards::of`], and when a model cannot be loaded.
    pub fn open(keys: &[recipe::Reward], device: &str, progress: &dyn Progress) -> Result<Self> {
        let mut rewards = Rewards::of(keys)?;
        for reward in &mut rewards.0 {
            if let How::Model(model) = &mut reward.how {
                model.open(device, progress)?;
            }
        }
        Ok(rewards)
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|reward| reward.name.as_str())
    }

    /// The sum of what they say of an answer, each with its weight.
    pub fn sum(&self, said: &[f64]) -> f64 {
        self.0.iter().zip(said).map(|(reward, said)| reward.weight * said).sum()
    }

    /// Looks for the columns that they read in every row.
    ///
    /// # Errors
    /// When a row does not have one, or holds something else there.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        if self.0.iter().all(|reward| reward.reader().is_none()) {
            return Ok(());
        }
        (0..dataset.len())
            .try_for_each(|row| self.check_row(dataset.get(row)?.columns.as_deref(), &dataset.origin(row)?))
    }

    /// As [`Rewards::check`], of a row whose columns are these.
    ///
    /// # Errors
    /// As [`Rewards::check`].
    pub fn check_row(&self, json: Option<&str>, origin: &RowId) -> Result<()> {
        let columns = columns(json)?;
        for (name, text) in self.0.iter().filter_map(Reward::reader) {
            if let Err(why) = text.expected(&columns) {
                let place = Place::Row { path: origin.file.to_path_buf(), row: origin.row as usize };
                let what = format!("reward `{name}` cannot judge answers to the row: {why}");
                let hint = "name the column with the reward's `column`, or leave the row out";
                return Err(Error::new(Kind::Data, what).at(place).hint(hint));
            }
        }
        Ok(())
    }

    /// Says that a column of the rows is not what rewards see under its name, where that is so.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn remark(dataset: &Dataset) -> Result<Option<String>> {
        for row in 0..dataset.len() {
            let json = dataset.get(row)?.columns;
            // A look at the text is enough for nearly all rows.
            let says = json.as_deref().is_some_and(|json| json.contains("\"completion\":"));
            if says && columns(json.as_deref())?.contains_key("completion") {
                return Ok(Some(format!(
                    "The rows have a column `completion` ({} is the first), which rewards do not see: to them it is what the \
                     model says. Under another name they would.",
                    dataset.origin(row)?
                )));
            }
        }
        Ok(None)
    }

    /// Those that read columns of rows, where there are any: they alone need nothing but the recipe.
    pub fn that_read(keys: &[recipe::Reward]) -> Option<Self> {
        let keys: Vec<recipe::Reward> = keys.iter().filter(|keys| keys.column.is_some()).cloned().collect();
        Rewards::of(&keys).ok().filter(|rewards| !rewards.0.is_empty())
    }

    /// A problem for each key that names something which is not there, or is wrong: a reward model's folder or base, a program, the file
    /// of a schema, a variable.
    pub fn missing(keys: &[recipe::Reward], progress: &dyn Progress) -> Vec<Error> {
        let mut missing = Vec::new();
        for (at, keys) in keys.iter().enumerate() {
            let found = match keys.kind {
                recipe::RewardKind::Model if keys.adapter.is_none() && keys.base.is_none() => Ok(()), // which is reported as such
                recipe::RewardKind::Model => model::find(keys, at, progress),
                recipe::RewardKind::Program => programs::find(keys.command.as_deref().unwrap_or_default())
                    .map_err(|error| error.at(Place::Key(format!("rewards[{at}].command")))),
                recipe::RewardKind::Http => {
                    missing.extend(Http::missing(keys, at));
                    Ok(())
                }
                // One that stands in the recipe was looked at there.
                recipe::RewardKind::JsonSchema if keys.schema_file.is_some() => {
                    Text::of(keys).map(drop).map_err(|error| error.at(Place::Key(format!("rewards[{at}].schema_file"))))
                }
                _ => Ok(()),
            };
            missing.extend(found.err());
        }
        missing
    }

    /// What each of them says of each answer: a number for each reward, of each answer in turn. `None` where `stop` was set first.
    ///
    /// # Errors
    /// [`Kind::Reward`] where an answer cannot be judged.
    pub fn judge(&self, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<Vec<f64>>>> {
        let mut said = vec![Vec::with_capacity(self.0.len()); answers.len()];
        for reward in &self.0 {
            let Some(numbers) = reward.judge(answers, stop)? else { return Ok(None) };
            reward.check(&numbers, answers)?;
            said.iter_mut().zip(numbers).for_each(|(said, number)| said.push(number));
        }
        Ok(Some(said))
    }
}

impl Reward {
    /// What reads a column, with its name.
    fn reader(&self) -> Option<(&str, &Text)> {
        match &self.how {
            How::Text(text) if text.column().is_some() => Some((&self.name, text)),
            _ => None,
        }
    }

    /// Refuses numbers whose means and spreads are none.
    fn check(&self, numbers: &[f64], answers: &[Answered]) -> Result<()> {
        let is_large = |number: &f64| number.abs().max((self.weight * number).abs()) > LARGEST;
        let Some(at) = numbers.iter().position(is_large) else { return Ok(()) };
        let by = if self.weight == 1.0 { String::new() } else { format!(" with a `weight` of {}", self.weight) };
        let what = format!(
            "reward `{}` gave {:e}{by}, and rewards are from -{LARGEST:e} to {LARGEST:e}",
            self.name, numbers[at]
        );
        let origin = answers.get(at).map_or("", |answered| answered.origin);
        Err(Error::new(Kind::Reward, what)
            .at(Place::Named(format!("an answer to {origin}")))
            .hint("means and spreads of larger numbers are none: divide them by something"))
    }

    fn judge(&self, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        match &self.how {
            How::Model(model) => model.judge(&self.name, answers, stop),
            How::Program(program) => program.judge(&self.name, answers, stop),
            How::Http(http) => http.judge(&self.name, answers, stop),
            How::Text(text) => {
                let number = |answer: &Answered| {
                    text.judge(answer).map_err(|why| {
                        let what = format!("reward `{}` cannot judge an answer: {why}", self.name);
                        Error::new(Kind::Reward, what).at(Place::Named(answer.origin.to_owned()))
                    })
                };
                answers.iter().map(number).collect::<Result<_>>().map(Some)
            }
        }
    }
}

/// What those read that are no part of this program: a line of JSON for each answer, with the columns of its row, `prompt` among them,
/// and `completion`.
fn lines(answers: &[Answered]) -> Vec<u8> {
    let mut lines = Vec::new();
    for answer in answers {
        let mut line = answer.columns.clone();
        line.insert("completion".into(), Value::from(answer.completion));
        lines.extend(data::to_json(&Value::Object(line)).into_bytes());
        lines.push(b'\n');
    }
    lines
}

/// The columns of a row that is a prompt.
///
/// # Errors
/// Of a row that is none.
pub fn columns(json: Option<&str>) -> Result<Map<String, Value>> {
    let columns = json.and_then(|json| data::exact::from_str(json).ok());
    let columns = columns.and_then(|columns| if let Value::Object(columns) = columns { Some(columns) } else { None });
    columns.ok_or_else(|| Error::new(Kind::Run, "a prepared row has no columns, and rewards read them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::recipe::Reading;
    use std::path::Path;

    /// A recipe with these rewards, as far as it can be read.
    fn reading(rewards: &str) -> Reading {
        let text =
            format!("task: grpo\nmodel: {{base: m}}\ndata: {{train: a}}\noutput: {{dir: o}}\nrewards:\n{rewards}");
        Reading::of(Path::new("r.yaml"), text.into(), &[])
    }

    #[test]
    fn what_is_wrong_with_a_reward_is_said_once_and_what_it_names_is_looked_for() {
        for wrong in ["kind: json_schema, schema: {type: strin}", "kind: model", "kind: http, url: a", "kind: program"]
        {
            let reading = reading(&format!("  - {{{wrong}}}\n"));
            let found = Rewards::missing(&reading.recipe().unwrap().rewards, &Silent);
            assert!(!reading.is_sound() && found.is_empty(), "{wrong}: {found:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let schema = dir.path().join("s.json");
        std::fs::write(&schema, b"\xef\xbb\xbf{\"type\": \"object\"}").unwrap();
        let of_file = format!("  - {{kind: json_schema, schema_file: '{}'}}\n", schema.display());
        assert!(Rewards::missing(&reading(&of_file).recipe().unwrap().rewards, &Silent).is_empty());
    }

    #[cfg(feature = "hub")]
    #[test]
    fn all_variables_that_are_not_set_are_named_at_once() {
        let served = "  - {kind: http, url: 'http://a/$GEMMA_TUNE_A', headers: {X-A: '$GEMMA_TUNE_B $GEMMA_TUNE_C'}}\n";
        let found = Rewards::missing(&reading(served).recipe().unwrap().rewards, &Silent);
        let of =
            |(name, key): (&str, &str)| format!("the variable `GEMMA_TUNE_{name}` of `rewards[0].{key}` is not set");
        let expected = [("A", "url"), ("B", "headers.X-A"), ("C", "headers.X-A")].map(of);
        assert_eq!(found.iter().map(Error::what).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_too_large_to_be_a_reward_is_named_with_its_row() {
        let columns = Map::new();
        let answered = |origin| Answered { completion: "", tokens: 1, columns: &columns, origin };
        let answers = ["a.jsonl, row 1", "a.jsonl, row 2"].map(answered);
        let reward = |weight| Reward { name: "mine".into(), weight, how: How::Text(Text::Json(Vec::new())) };
        assert!(reward(1.0).check(&[-1e30, 1e30], &answers).is_ok());
        for (weight, number, what) in
            [(1.0, 1e308, "gave 1e308, and"), (1e20, -1e15, "gave -1e15 with a `weight` of 1")]
        {
            let error = reward(weight).check(&[0.5, number], &answers).unwrap_err();
            let said = error.to_string();
            assert_eq!(error.exit_code(), 1);
            assert!(said.contains(&format!("reward `mine` {what}")) && said.contains("a.jsonl, row 2"), "{said}");
            assert!(said.contains("rewards are from -1e30 to 1e30"), "{said}");
        }
    }
}
