//! What rows with these columns are: how `format: auto` sees it.
//!
//! Names are compared without case and surrounding spaces, as spreadsheets have them. Columns that the user renamed are
//! what the user says; others of the same meaning then do not count.

use crate::data::layout::{Asked, Layout};
use crate::data::object::{Object, holds};
use crate::data::options::RowFormat;
use crate::text::MediaKind;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a prompt may be called.
const PROMPTS: [&str; 4] = ["prompt", "question", "query", "input"];
/// What an answer may be called.
const ANSWERS: [&str; 4] = ["completion", "answer", "response", "output"];
/// The same, and what it may be called beside a picture or sound where what is asked about all of them is known.
const DESCRIPTIONS: [&str; 9] =
    ["completion", "answer", "response", "output", "transcription", "transcript", "sentence", "caption", "text"];
/// Columns that have a meaning under other names than a format gives them.
const OTHERS: [&str; 5] = ["context", "system_prompt", "chosen", "rejected", "label"];

/// A way to read a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) enum Guess {
    /// Rows of this layout.
    Rows(Layout),
    /// Rows for another task: what they are called, and the columns that say so.
    OtherTask(&'static str, Vec<String>),
}

impl Guess {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Guess::Rows(layout) => layout.format.name(),
            Guess::OtherTask(name, _) => name,
        }
    }

    /// The columns that show it, by their names in the file.
    pub fn columns(&self) -> Vec<String> {
        match self {
            Guess::Rows(layout) => {
                let needed: &[&str] = match layout.format {
                    RowFormat::Messages => &["messages"],
                    RowFormat::PromptCompletion if layout.prompt.is_some() => &["completion"],
                    RowFormat::PromptCompletion => &["prompt", "completion"],
                    RowFormat::Alpaca => &["instruction", "output"],
                    RowFormat::Sharegpt => &["conversations"],
                    RowFormat::Text => &["text"],
                    RowFormat::Tokens => &["input_ids"],
                    RowFormat::Preference => &["chosen", "rejected"],
                    RowFormat::Unpaired => &["prompt", "completion", "label"],
                    RowFormat::PromptOnly => &["prompt"],
                    RowFormat::Auto => &[],
                };
                needed.iter().map(|name| layout.column(name).to_owned()).collect()
            }
            Guess::OtherTask(_, columns) => columns.clone(),
        }
    }

    /// The way in words: `` `prompt_completion` (`question`, `answer`) ``.
    pub fn reading(&self) -> String {
        let columns: Vec<_> = self.columns().iter().map(|column| format!("`{column}`")).collect();
        format!("`{}` ({})", self.name(), columns.join(", "))
    }

    /// Whether it is a prompt with the word that says who is to answer it.
    pub fn is_routed(&self, row: &Object) -> bool {
        match self {
            Guess::OtherTask("unpaired", columns) => match &columns[..] {
                [_, label] => row.get(label).and_then(is_for_here).is_some(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether it is a prompt with a judgement of an answer, which it does not have.
    pub fn is_unanswered(&self, row: &Object) -> bool {
        matches!(self, Guess::OtherTask("unpaired", columns) if columns.len() == 2) && !self.is_routed(row)
    }

    /// Whether each of the columns that show it holds something in `row`.
    fn is_held_by(&self, row: &Object) -> bool {
        self.columns().iter().all(|column| row.get(column).is_some_and(holds))
    }
}

/// Whether a column of this name can mean something.
pub(in crate::data) fn may_mean(name: &str) -> bool {
    let name = plain(name);
    let known = RowFormat::Auto.columns().iter().chain(&PROMPTS).chain(&DESCRIPTIONS).chain(&OTHERS);
    known.into_iter().any(|known| *known == name)
}

/// Every way to read `row`, where `renamed` are the columns that the user named, and `prompt` is what is asked of rows that
/// do not say it; the more telling ones first. Of several, one by columns that hold nothing is none.
pub(in crate::data) fn guesses(row: &Object, renamed: &BTreeMap<String, String>, prompt: Option<&str>) -> Vec<Guess> {
    let mut guesses = Names { prompt, ..Names::of(row, renamed) }.guesses();
    if guesses.iter().any(|guess| guess.is_held_by(row)) {
        guesses.retain(|guess| guess.is_held_by(row));
    }
    guesses
}

/// What a row shows beside its words.
pub(in crate::data) fn shown(row: &Object, renamed: &BTreeMap<String, String>) -> Option<MediaKind> {
    Names::of(row, renamed).medium()
}

/// Whether a prompt with this label is to be answered by this model; `None` where the label says something else.
pub(in crate::data) fn is_for_here(label: &Value) -> Option<bool> {
    match plain(label.as_str()?).as_str() {
        "local" => Some(true),
        "remote" => Some(false),
        _ => None,
    }
}

/// A name as names are compared: without case and the spaces around it.
pub(in crate::data) fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

/// A row's columns that are not null.
struct Names<'a> {
    row: &'a Object,
    /// By their names without case and spaces.
    found: BTreeMap<String, &'a str>,
    renamed: &'a BTreeMap<String, String>,
    /// What is asked of rows without a prompt.
    prompt: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn of(row: &'a Object, renamed: &'a BTreeMap<String, String>) -> Self {
        let mut found: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in row {
            if value.is_null() || renamed.values().any(|column| column == name) {
                continue;
            }
            // Where two differ by case only, the one that holds something counts, or else is spelt as formats spell it.
            let key = plain(name);
            let tells = |name: &str| (row.get(name).is_some_and(holds), name == key);
            if found.get(&key).is_none_or(|other| tells(name) > tells(other)) {
                found.insert(key, name.as_str());
            }
        }
        Names { row, found, renamed, prompt: None }
    }

    /// What the file calls `name`.
    fn find(&self, name: &str) -> Option<&'a str> {
        match self.renamed.get(name) {
            Some(column) => {
                self.row.get_key_value(column).filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
            }
            None => self.found.get(name).copied(),
        }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.find(name).and_then(|column| self.row.get(column))
    }

    /// The columns that mean the same as `own`, which the user's own word settles.
    fn meaning(&self, own: &str, all: &[&'static str]) -> Vec<&'a str> {
        match self.renamed.contains_key(own) {
            true => self.find(own).into_iter().collect(),
            false => all
                .iter()
                .filter(|name| !self.renamed.contains_key(**name))
                .filter_map(|name| self.find(name))
                .collect(),
        }
    }

    fn guesses(&self) -> Vec<Guess> {
        let mut guesses = Vec::new();
        let mut rows = |format, named: &[(&str, &str)]| guesses.push(Guess::Rows(self.layout(format, named)));
        for name in ["messages", "conversations", "conversation"] {
            let Some(column) = self.find(name) else { continue };
            match name {
                // Turns of sharegpt under the other name.
                "messages" if self.first_turn_has(name, "from") => {
                    rows(RowFormat::Sharegpt, &[("conversations", column)])
                }
                "messages" => rows(RowFormat::Messages, &[("messages", column)]),
                _ => rows(RowFormat::Sharegpt, &[("conversations", column)]),
            }
        }
        if let Some(ids) = self.find("input_ids") {
            rows(RowFormat::Tokens, &[("input_ids", ids)]);
        }
        let answers = self.meaning("completion", &ANSWERS);
        let instruction = self.find("instruction");
        match instruction {
            Some(instruction) => {
                let answers =
                    if self.renamed.contains_key("output") { self.meaning("output", &[]) } else { answers.clone() };
                for answer in answers {
                    let mut named = vec![("instruction", instruction), ("output", answer)];
                    let context = self.find("context").filter(|_| self.find("input").is_none());
                    named.extend(context.map(|context| ("input", context)));
                    rows(RowFormat::Alpaca, &named);
                }
            }
            None => {
                let prompts = self.meaning("prompt", &PROMPTS);
                for prompt in &prompts {
                    for answer in &answers {
                        rows(RowFormat::PromptCompletion, &[("prompt", prompt), ("completion", answer)]);
                    }
                }
                if prompts.is_empty() && self.prompt.is_some() {
                    let described = self.meaning("completion", &DESCRIPTIONS);
                    for answer in if self.medium().is_some() { &described } else { &answers } {
                        rows(RowFormat::PromptCompletion, &[("completion", answer)]);
                    }
                }
            }
        }
        guesses.extend(self.other_tasks(instruction.is_none() && answers.is_empty()));
        // Other columns beside it say more: Alpaca's own file has each row as `text` too.
        // A row that lost its medium is a bad one among its neighbours, and no text.
        let is_lost = self.prompt.is_some() && self.has_null_media();
        if let Some(text) = self.find("text").filter(|_| guesses.is_empty() && !is_lost) {
            guesses.push(Guess::Rows(self.layout(RowFormat::Text, &[("text", text)])));
        }
        guesses
    }

    fn other_tasks(&self, no_answer: bool) -> Vec<Guess> {
        let of = |name, columns: &[&str]| {
            let found: Option<Vec<String>> = columns.iter().map(|name| self.find(name).map(str::to_owned)).collect();
            found.map(|found| Guess::OtherTask(name, found))
        };
        let judged = self.value("label").is_some_and(|label| match label {
            Value::Bool(_) => true,
            Value::String(word) => matches!(plain(word).as_str(), "true" | "false"),
            _ => false,
        });
        // Who is to answer is said of a prompt alone.
        let routed = no_answer && self.value("label").and_then(is_for_here).is_some();
        let unpaired = if judged && !no_answer { of("unpaired", &["prompt", "completion", "label"]) } else { None };
        let unpaired = unpaired.or_else(|| if judged || routed { of("unpaired", &["prompt", "label"]) } else { None });
        let alone = no_answer && self.find("text").is_none() && self.find("messages").is_none();
        let preference = of("preference", &["chosen", "rejected"]);
        let prompt_only =
            if alone && preference.is_none() && unpaired.is_none() { of("prompt_only", &["prompt"]) } else { None };
        preference.into_iter().chain(unpaired).chain(prompt_only).collect()
    }

    /// The layout of `format`, with the columns `named` for it and all others that it has.
    fn layout(&self, format: RowFormat, named: &[(&str, &str)]) -> Layout {
        let mut layout = Layout::new(format, true);
        if format == RowFormat::PromptCompletion {
            let asked = |text: &str| Asked { text: text.to_owned(), of_media: self.medium().is_some() };
            layout.prompt = self.prompt.map(asked);
        }
        let mut name = |own: &str, column: &str| {
            if own != column {
                layout.columns.insert(own.to_owned(), column.to_owned());
            }
        };
        for own in format.columns() {
            match named.iter().find(|(name, _)| name == own) {
                Some((_, column)) => name(own, column),
                None if *own == "system" => {
                    let column = self.find("system").or_else(|| self.find("system_prompt"));
                    column.into_iter().for_each(|column| name(own, column));
                }
                None => self.find(own).into_iter().for_each(|column| name(own, column)),
            }
        }
        layout
    }

    /// What the row shows beside its words.
    fn medium(&self) -> Option<MediaKind> {
        let of_column = |kind: &MediaKind| kind.columns().iter().any(|name| self.find(name).is_some());
        let of_file = || MediaKind::of_file_name(self.value("file_name")?.as_str()?.trim());
        MediaKind::ALL.into_iter().find(of_column).or_else(of_file)
    }

    /// Whether it has a column for them that holds none.
    fn has_null_media(&self) -> bool {
        let holds_some = |name: &str| MediaKind::ALL.into_iter().any(|kind| kind.columns().contains(&name));
        self.row.iter().any(|(name, value)| value.is_null() && holds_some(&plain(name)))
    }

    fn first_turn_has(&self, name: &str, key: &str) -> bool {
        // Columns of CSV hold lists as JSON text.
        let parsed = match self.value(name) {
            Some(Value::String(text)) => serde_json::from_str::<Value>(text).ok(),
            _ => None,
        };
        let turns = parsed.as_ref().or_else(|| self.value(name)).and_then(Value::as_array);
        let first = turns.and_then(|turns| turns.first()).and_then(Value::as_object);
        first.is_some_and(|turn| turn.contains_key(key) && !turn.contains_key("role"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a row with these columns is, each by its name and the columns that show it.
    fn seen(row: Value, renamed: &[(&str, &str)]) -> Vec<String> {
        let renamed = renamed.iter().map(|(own, column)| (own.to_string(), column.to_string())).collect();
        let guesses = guesses(row.as_object().unwrap(), &renamed, None);
        guesses.iter().map(|guess| format!("{}: {}", guess.name(), guess.columns().join(", "))).collect()
    }

    #[test]
    fn columns_say_what_rows_are() {
        let turns = json!([{"role": "user", "content": "a"}]);
        for (row, expected) in [
            (json!({"messages": turns, "id": 1}), "messages: messages"),
            (json!({"conversations": [{"from": "human", "value": "a"}]}), "sharegpt: conversations"),
            (json!({"conversation": turns}), "sharegpt: conversation"),
            (json!({"messages": [{"from": "human", "value": "a"}]}), "sharegpt: messages"),
            (json!({"prompt": "a", "completion": "b"}), "prompt_completion: prompt, completion"),
            (json!({"Question ": "a", " ANSWER": "b"}), "prompt_completion: Question ,  ANSWER"),
            (json!({"query": "a", "response": "b"}), "prompt_completion: query, response"),
            (json!({"input": "a", "output": "b"}), "prompt_completion: input, output"),
            (json!({"instruction": "a", "input": "", "output": "b", "text": "c"}), "alpaca: instruction, output"),
            (json!({"instruction": "a", "context": "", "response": "b"}), "alpaca: instruction, response"),
            (json!({"text": "a", "label": 1}), "text: text"),
            (json!({"input_ids": [1], "labels": [1], "text": "a"}), "tokens: input_ids"),
            (json!({"prompt": "a", "prompt_id": "x", "messages": turns}), "messages: messages"),
            (json!({"prompt": "a", "chosen": "b", "rejected": "c"}), "preference: chosen, rejected"),
            (json!({"prompt": "a", "label": true}), "unpaired: prompt, label"),
            (json!({"prompt": "a", "label": "Remote"}), "unpaired: prompt, label"),
            (json!({"prompt": "a", "label": "far"}), "prompt_only: prompt"),
            (json!({"prompt": "a"}), "prompt_only: prompt"),
        ] {
            assert_eq!(seen(row.clone(), &[]), [expected], "{row}");
        }
        assert_eq!(seen(json!({"question": null, "answer": "b", "id": 1}), &[]), [""; 0]);
    }

    #[test]
    fn two_readings_are_two_unless_the_user_says_which() {
        let row = json!({"question": "a", "answer": "b", "prompt": "c"});
        assert_eq!(
            seen(row.clone(), &[]),
            ["prompt_completion: prompt, answer", "prompt_completion: question, answer"]
        );
        assert_eq!(seen(row, &[("prompt", "question")]), ["prompt_completion: question, answer"]);
        let row = json!({"messages": [], "conversations": []});
        assert_eq!(seen(row, &[]), ["messages: messages", "sharegpt: conversations"]);
        let row = json!({"prompt": "a", "completion": "b", "label": false});
        assert_eq!(seen(row, &[]), ["prompt_completion: prompt, completion", "unpaired: prompt, completion, label"]);
    }

    #[test]
    fn what_holds_nothing_is_no_other_reading() {
        for (row, expected) in [
            (json!({"instruction": "a", "output": "b", "completion": ""}), &["alpaca: instruction, output"][..]),
            (json!({"prompt": "a", "question": " ", "answer": "b"}), &["prompt_completion: prompt, answer"]),
            (json!({"messages": [], "prompt": "a", "completion": "b"}), &["prompt_completion: prompt, completion"]),
            (json!({"text": "", "messages": "", "conversation": [null], "input_ids": [2]}), &["tokens: input_ids"]),
            // The only reading is one, and so are two of which none holds anything.
            (json!({"prompt": "a", "completion": "", "text": "b"}), &["prompt_completion: prompt, completion"]),
            (
                json!({"instruction": "a", "output": "", "completion": null, "answer": " "}),
                &["alpaca: instruction, answer", "alpaca: instruction, output"],
            ),
        ] {
            assert_eq!(seen(row.clone(), &[]), expected, "{row}");
        }
    }

    #[test]
    fn what_a_format_reads_besides_is_found_too() {
        let row = json!({"Instruction": "a", "Context": "c", "Response": "b", "System_Prompt": "s"});
        let Guess::Rows(layout) = guesses(row.as_object().unwrap(), &BTreeMap::new(), None).remove(0) else { panic!() };
        let named =
            [("input", "Context"), ("instruction", "Instruction"), ("output", "Response"), ("system", "System_Prompt")];
        assert_eq!(layout.columns, named.map(|(own, column)| (own.to_owned(), column.to_owned())).into());
    }

    #[test]
    fn what_stands_beside_media_answers_what_the_recipe_asks() {
        let seen = |row: Value, prompt| {
            let guesses = guesses(row.as_object().unwrap(), &BTreeMap::new(), prompt);
            guesses.iter().map(|guess| format!("{}: {}", guess.name(), guess.columns().join(", "))).collect::<Vec<_>>()
        };
        for (medium, answer) in [
            ("audio", "transcription"),
            ("audio", "text"),
            ("Audio", "Sentence"),
            ("file_name", "transcript"),
            ("image", "caption"),
            ("images", "text"),
        ] {
            let row = json!({medium: "a.wav", answer: "b", "id": 1});
            assert_eq!(seen(row.clone(), Some("What?")), [format!("prompt_completion: {answer}")], "{row}");
            assert!(seen(row, None).iter().all(|guess| guess == "text: text"));
        }
        // Without media only what is an answer under any circumstances.
        assert_eq!(seen(json!({"response": "b"}), Some("What?")), ["prompt_completion: response"]);
        assert_eq!(seen(json!({"text": "b"}), Some("What?")), ["text: text"]);
        assert_eq!(seen(json!({"file_name": "a.txt", "text": "b"}), Some("What?")), ["text: text"]);
        assert!(seen(json!({"audio": null, "text": "b"}), Some("What?")).is_empty());
        // What the row asks itself counts.
        let own = seen(json!({"audio": "a.wav", "question": "a", "answer": "b", "text": "c"}), Some("What?"));
        assert_eq!(own, ["prompt_completion: answer"]);
        let two = seen(json!({"audio": "a.wav", "text": "a", "sentence": "b"}), Some("What?"));
        assert_eq!(two, ["prompt_completion: sentence", "prompt_completion: text"]);
    }
}
