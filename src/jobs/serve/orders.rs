//! What OpenAI's clients want to be trained, as recipes and rows of ours.

use super::request::with_names_of_tools;
use crate::data::{MAX_ROW_BYTES, RowFormat, exact};
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::paths;
use crate::queue::RUN;
use crate::recipe::{self, Recipe, Task};
use crate::serve::{Chosen, Method, Orders, Rows, TRAIN, VALIDATION, Wanted};
use crate::text::MediaSource;
use serde_json::{Map, Value, json};
use std::io::{BufRead, Read, Write};
use std::path::Path;

/// The most rows that go through the model at once where somebody says how many make a step.
const MOST_AT_ONCE: usize = 8;
/// The checkpoints that a run keeps.
const KEPT_CHECKPOINTS: usize = 3;

/// Keys of rows on answers.
const OF_CHATS: [&str; 4] = ["messages", "tools", "functions", "parallel_tool_calls"];
/// Keys of rows on answers of which one is better.
const OF_PAIRS: [&str; 3] = ["input", "preferred_output", "non_preferred_output"];
/// Keys of what both are answers to.
const OF_INPUT: [&str; 3] = ["messages", "tools", "parallel_tool_calls"];

/// Makes recipes for the model that is served.
pub struct BaseOrders {
    base: String,
}

impl BaseOrders {
    /// Of the model that the user has named so.
    pub fn of(model: &str) -> Self {
        // A path means the same wherever the next server is started.
        let absolute = Path::new(model).exists().then(|| std::path::absolute(model).ok()).flatten();
        let named = absolute.and_then(|path| path.into_os_string().into_string().ok());
        BaseOrders { base: paths::written(&named.unwrap_or_else(|| model.to_owned())) }
    }

    fn resolved(&self, wanted: &Wanted, folder: &Path, learning_rate: Option<Value>) -> Result<(String, Recipe)> {
        let text = self.value(wanted, folder, learning_rate);
        let text = serde_json::to_string_pretty(&text)
            .map_err(|e| Error::new(Kind::Bug, format!("a recipe cannot be written: {e}")).caused_by(e))?;
        let recipe = recipe::parse(&folder.join("recipe.yaml"), text.clone().into_bytes(), &[])?;
        Ok((text + "\n", recipe))
    }

    fn value(&self, wanted: &Wanted, folder: &Path, learning_rate: Option<Value>) -> Value {
        let path = |name: &str| paths::named(&folder.join(name));
        let (task, format) = match wanted.method {
            Method::Supervised => (Task::Sft, RowFormat::Messages),
            Method::Dpo => (Task::Dpo, RowFormat::Preference),
        };
        let source = |name: &str| json!([{"path": path(name), "format": format.name()}]);
        let mut data = json!({"train": source(TRAIN), "max_length": "auto"});
        if wanted.has_validation {
            data["eval"] = source(VALIDATION);
        }
        let mut training = json!({"seed": wanted.seed, "fit": "auto"});
        match wanted.epochs {
            Some(epochs) => training["num_train_epochs"] = epochs.into(),
            None => {
                training["num_train_epochs"] = "auto".into();
                training["max_steps"] = "auto".into();
            }
        }
        match wanted.batch {
            // So many rows, and not so many sequences that share them out.
            Some(batch) => {
                let at_once = (1..=MOST_AT_ONCE).rev().find(|rows| batch.is_multiple_of(*rows)).unwrap_or(1);
                training["per_device_train_batch_size"] = at_once.into();
                training["gradient_accumulation_steps"] = (batch / at_once).into();
                data["packing"] = false.into();
            }
            None => training["gradient_accumulation_steps"] = "auto".into(),
        }
        if let Some(rate) = learning_rate {
            training["learning_rate"] = rate;
        }
        let mut value = json!({
            "task": task.name(),
            "model": {"base": self.base, "quantization": "auto"},
            "data": data,
            "training": training,
            "output": {"dir": path(RUN), "save_total_limit": KEPT_CHECKPOINTS, "report_to": ["jsonl"]},
        });
        if let Some(beta) = wanted.beta {
            value["preference"] = json!({"beta": beta});
        }
        value
    }
}

impl Orders for BaseOrders {
    fn rows(&self, upload: &mut dyn BufRead, into: &mut dyn Write) -> Result<Rows> {
        read_rows(upload, into)
    }

    fn recipe(&self, wanted: &Wanted, folder: &Path) -> Result<String> {
        let rate = match wanted.rate_multiplier {
            None => "auto".into(),
            Some(times) => (times * usual_rate(wanted.method)?).into(),
        };
        self.resolved(wanted, folder, Some(rate)).map(|(text, _)| text)
    }

    fn chosen(&self, folder: &Path) -> Option<Chosen> {
        let Recipe { task, training, preference, auto, .. } =
            recipe::load(&folder.join(RUN).join("recipe.yaml"), &[]).ok()?;
        if auto.iter().any(|key| key.starts_with("training.")) {
            return None;
        }
        let method = if task == Task::Dpo { Method::Dpo } else { Method::Supervised };
        Some(Chosen {
            epochs: training.num_train_epochs,
            batch: training.per_device_train_batch_size * training.gradient_accumulation_steps,
            rate_multiplier: as_said(training.learning_rate / usual_rate(method).ok()?),
            beta: preference.and_then(|preference| preference.beta),
        })
    }
}

/// A number as somebody would say it: without what the last bits of a product and a quotient have added.
fn as_said(number: f64) -> f64 {
    format!("{number:.9e}").parse().unwrap_or(number)
}

/// The learning rate that is multiplied: that of a recipe which says none, and of pairs that for adapters.
fn usual_rate(method: Method) -> Result<f64> {
    if method == Method::Dpo {
        return Ok(recipe::ADAPTER_PREFERENCE_LEARNING_RATE);
    }
    let wanted =
        Wanted { method, epochs: None, batch: None, rate_multiplier: None, beta: None, seed: 0, has_validation: false };
    let (_, recipe) = BaseOrders { base: "m".into() }.resolved(&wanted, Path::new("."), None)?;
    Ok(recipe.training.learning_rate)
}

/// Reads rows line by line; all of them are for the same method.
fn read_rows(upload: &mut dyn BufRead, into: &mut dyn Write) -> Result<Rows> {
    let unreadable = |e: std::io::Error| Error::new(Kind::Io, format!("the file cannot be read: {e}")).caused_by(e);
    let unwritable = |e: std::io::Error| Error::io("writing", "the rows", e);
    let (mut found, mut number) = (None::<Rows>, 0u64);
    loop {
        let mut line = Vec::new();
        // A line feed and one byte more than a row may have.
        if upload.take(MAX_ROW_BYTES as u64 + 2).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        number += 1;
        let wrong = |error: Error| {
            let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
            Error::new(Kind::Data, format!("line {number}: {}{hint}", error.what()))
        };
        if line.len() > MAX_ROW_BYTES + 1 {
            return Err(wrong(Error::new(Kind::Data, format!("it is longer than {MAX_ROW_BYTES} bytes"))));
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong(Error::new(Kind::Data, "it is not UTF-8")))?;
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text }.trim();
        if text.is_empty() {
            continue;
        }
        let (method, row) = row(text).map_err(wrong)?;
        let rows = found.get_or_insert(Rows { method, count: 0 });
        if rows.method != method {
            let what = format!("it is for `{}`, and those before it are for `{}`", method.name(), rows.method.name());
            return Err(wrong(Error::new(Kind::Data, what)));
        }
        rows.count += 1;
        into.write_all(row.as_bytes()).and_then(|()| into.write_all(b"\n")).map_err(unwritable)?;
    }
    let nothing = || {
        Error::new(Kind::Data, "the file has no rows").hint(
            "each line is an object with `messages`, or with `input`, `preferred_output` and `non_preferred_output`",
        )
    };
    found.ok_or_else(nothing)
}

/// A row as a recipe reads it.
fn row(text: &str) -> Result<(Method, String)> {
    let wrong = |what: String| Error::new(Kind::Data, what);
    let row = match exact::from_str(text) {
        Ok(Value::Object(row)) => row,
        Ok(_) => return Err(wrong("it is JSON, and no object".into())),
        Err(error) => return Err(wrong(format!("it is no JSON: {error}"))),
    };
    let (method, format, row, is_same) = match row.contains_key("input") || row.contains_key("preferred_output") {
        true => (Method::Dpo, RowFormat::Preference, pair(row)?, false),
        false => {
            known(&row, &OF_CHATS, "")?;
            let made = chat(row.clone())?;
            let is_same = made == row;
            (Method::Supervised, RowFormat::Messages, made, is_same)
        }
    };
    let mut parsed = format.parse(&row).map_err(Error::for_clients)?;
    if method == Method::Supervised && !teaches(&row) {
        return Err(wrong("there is nothing to learn: no message of the assistant has `weight` 1".into()));
    }
    // A row names no file of this machine, and no address that this machine would ask.
    if let Some(medium) = parsed.media_mut().iter().find(|medium| !matches!(medium.source, MediaSource::Bytes(_))) {
        let what = format!("{} come in the row itself, as `data:` addresses", medium.kind.plural());
        return Err(wrong(what));
    }
    Ok((method, if is_same { text.to_owned() } else { Value::Object(row).to_string() }))
}

/// A chat; what it may call has one form.
fn chat(mut row: Map<String, Value>) -> Result<Map<String, Value>> {
    if let Some(functions) = row.remove("functions") {
        if row.contains_key("tools") {
            return Err(Error::new(
                Kind::Data,
                "`functions` are OpenAI's older word for `tools`: a row has one of them",
            ));
        }
        let Value::Array(functions) = functions else {
            return Err(Error::new(Kind::Data, "`functions` must be a list"));
        };
        let tools = functions.into_iter().map(|function| json!({"type": "function", "function": function}));
        row.insert("tools".into(), tools.collect());
    }
    // As of a conversation that is to be answered.
    Ok(with_names_of_tools(&row))
}

/// Whether some answer of a chat is learnt.
fn teaches(row: &Map<String, Value>) -> bool {
    let is_learnt = |message: &Value| {
        let is_off = message.get("weight").and_then(Value::as_f64) == Some(0.0);
        message.get("role").and_then(Value::as_str) == Some("assistant") && !is_off
    };
    row.get("messages").and_then(Value::as_array).is_some_and(|messages| messages.iter().any(is_learnt))
}

/// Two answers as `{"prompt", "chosen", "rejected", "tools"}`.
fn pair(mut row: Map<String, Value>) -> Result<Map<String, Value>> {
    known(&row, &OF_PAIRS, "")?;
    let mut take = |name: &str| row.remove(name).ok_or_else(|| Error::new(Kind::Data, format!("`{name}` is missing")));
    let (input, chosen, rejected) = (take("input")?, take("preferred_output")?, take("non_preferred_output")?);
    let Value::Object(mut input) = input else {
        return Err(Error::new(Kind::Data, "`input` must be an object with `messages`"));
    };
    known(&input, &OF_INPUT, "input.")?;
    let prompt = input.remove("messages").ok_or_else(|| Error::new(Kind::Data, "`input.messages` is missing"))?;
    let mut named = with_names_of_tools(&Map::from_iter([("messages".to_owned(), prompt)]));
    let prompt = named.remove("messages").unwrap_or_default();
    for (name, answer) in [("preferred_output", &chosen), ("non_preferred_output", &rejected)] {
        let is_answer = |message: &Value| message.get("role").and_then(Value::as_str) == Some("assistant");
        if !answer.as_array().is_some_and(|messages| messages.first().is_some_and(is_answer)) {
            let what = format!("`{name}` must be a list of messages that begins with one of the assistant");
            return Err(Error::new(Kind::Data, what));
        }
    }
    let mut pair =
        Map::from_iter([("prompt".into(), prompt), ("chosen".into(), chosen), ("rejected".into(), rejected)]);
    pair.extend(input.remove("tools").map(|tools| ("tools".to_owned(), tools)));
    Ok(pair)
}

/// Refuses keys that mean nothing: what they say would be lost.
fn known(object: &Map<String, Value>, keys: &[&str], before: &str) -> Result<()> {
    let Some(name) = object.keys().find(|name| !keys.contains(&name.as_str())) else { return Ok(()) };
    let error = Error::new(Kind::Data, format!("`{before}{name}` is not known here"));
    Err(match did_you_mean(name, keys.iter().copied()) {
        Some(close) => error.hint(format!("did you mean `{before}{close}`?")),
        None => error,
    })
}

#[cfg(test)]
mod tests;
