//! Looking up a row's columns, with messages that help when they are not as expected.

use super::detect::{Guess, guesses};
use super::python;
use super::unread::unread_media;
use crate::data::exact;
use crate::data::layout::{Asked, Layout};
use crate::data::object::{Object, as_long_list, kind_name};
use crate::data::options::RowFormat;
use crate::error::{Error, Kind, Result, did_you_mean};
use serde_json::Value;
use std::borrow::Cow;

/// Columns without which there is nothing to learn: the answers, the texts, the conversations. What is asked may be nothing.
const NEEDED: [&str; 10] = [
    "messages",
    "conversations",
    "conversation",
    "input_ids",
    "text",
    "completion",
    "output",
    "chosen",
    "rejected",
    "label",
];

/// The most column names that a message lists.
const LISTED_COLUMNS: usize = 12;

/// A row's columns by the names that its format gives them. A column that holds null is as good as absent: Parquet rows
/// have all columns of the file. So is a blank cell of a table of texts, which has no null, where the row is nothing without it.
pub(in crate::data) struct Columns<'a> {
    row: &'a Object,
    /// All columns of the file, where `row` holds only some of them.
    of_file: Option<&'a [String]>,
    layout: &'a Layout,
}

impl<'a> Columns<'a> {
    pub fn new(row: &'a Object, of_file: Option<&'a [String]>, layout: &'a Layout) -> Self {
        Columns { row, of_file, layout }
    }

    /// The same row in another layout.
    pub fn laid_out<'b>(&self, layout: &'b Layout) -> Columns<'b>
    where
        'a: 'b,
    {
        Columns { row: self.row, of_file: self.of_file, layout }
    }

    pub fn format(&self) -> RowFormat {
        self.layout.format
    }

    /// Whether prompts and completions that are texts become turns of a conversation.
    pub fn template(&self) -> bool {
        self.layout.template
    }

    /// The columns that the row itself has, by their names in the file.
    pub fn all_given(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.row.iter()
    }

    /// What to do about pictures or sounds in a column that is not read.
    pub fn unread_media(&self) -> Option<String> {
        unread_media(self.row, self.of_file, &|name| self.layout.reads(name))
    }

    /// What is asked in rows without a prompt.
    pub fn asked(&self) -> Option<&'a Asked> {
        self.layout.prompt.as_ref()
    }

    /// What the file calls the column.
    pub fn column<'b>(&'b self, name: &'b str) -> &'b str {
        self.layout.column(name)
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        let is_none = |value: &Value| self.layout.of_cells && NEEDED.contains(&name) && is_blank(value);
        self.row.get(self.layout.column(name)).filter(|value| !value.is_null() && !is_none(value))
    }

    /// A column that holds a list or a number: an empty cell of a table is as good as none.
    pub fn filled(&self, name: &str) -> Option<&'a Value> {
        self.get(name).filter(|value| value.as_str().is_none_or(|text| !text.trim().is_empty()))
    }

    pub fn require(&self, name: &str, format: RowFormat) -> Result<&'a Value> {
        self.get(name).ok_or_else(|| self.missing(name, format))
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name).map(|value| as_text(value, self.layout.column(name))).transpose()
    }

    pub fn require_text(&self, name: &str, format: RowFormat) -> Result<&'a str> {
        as_text(self.require(name, format)?, self.layout.column(name))
    }

    /// The ways to read the row.
    pub fn guesses(&self) -> Vec<Guess> {
        guesses(self.row, &self.layout.columns, self.asked_text())
    }

    fn asked_text(&self) -> Option<&str> {
        self.layout.prompt.as_ref().map(|asked| asked.text.as_str())
    }

    /// The error for a row of `format` without column `name`.
    pub fn missing(&self, name: &str, format: RowFormat) -> Error {
        let names = self.names();
        let column = self.layout.column(name);
        let present = names.contains(&column);
        let is_cell = self.layout.of_cells && self.row.get(column).is_some_and(Value::is_string);
        // What is to be done in the rows themselves, or in a recipe.
        let (in_rows, in_recipe) = if is_cell {
            (None, Some("; fill it in; `data.on_bad_row: skip` leaves such rows out".to_owned()))
        } else if present {
            (None, None)
        } else if column != name {
            (Some(format!("; that is what `{name}` is called in this file")), None)
        } else if matches!(format, RowFormat::Preference | RowFormat::Unpaired | RowFormat::PromptOnly) {
            (None, self.of_another_task(name, format))
        } else if let Some(guess) = self.guess().filter(|&guess| guess != format.name()) {
            (None, Some(format!("; looks like {guess}: set `data.format: {guess}`")))
        } else if let Some(renaming) = self.renaming(format) {
            (None, Some(renaming))
        } else if let Some(close) = did_you_mean(name, names.iter().copied()) {
            (Some(format!("; rename `{close}` to `{name}`")), None)
        } else {
            let is_answered = name == "prompt" && self.get("completion").is_some();
            let asked = || "; or set `data.prompt`, which is then asked of every row".to_owned();
            (None, is_answered.then(asked))
        };
        let what = if is_cell {
            format!("the cell of `{column}` is empty")
        } else if present {
            format!("`{column}` is null")
        } else {
            format!("the row has no `{column}`, which format `{format}` needs")
        };
        let error = Error::new(Kind::Data, what);
        match in_recipe {
            Some(more) => error.hint_of_files(listed(&names) + &more),
            None => error.hint(listed(&names) + &in_rows.unwrap_or_default()),
        }
    }

    /// The error for a row that could be anything, or nothing that is known.
    pub fn unknown(&self) -> Error {
        let names = self.names();
        let guesses = self.guesses();
        let what = match &guesses[..] {
            [] => "the row's columns fit no format that is known".to_owned(),
            [only] => format!("the row is `{}`, which this task does not train", only.name()),
            _ => "the row's columns fit more than one format".to_owned(),
        };
        Error::new(Kind::Data, what)
            .hint_of_files(format!("{}; set `data.format`, or rename with `data.columns`", listed(&names)))
    }

    fn names(&self) -> Vec<&'a str> {
        match self.of_file {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => self.row.keys().map(String::as_str).collect(),
        }
    }

    /// The row's columns as if all of them held something.
    fn all(&self) -> Object {
        let some = |name: &str| match self.row.get(name) {
            Some(value) if !value.is_null() => value.clone(),
            _ => Value::String(String::new()),
        };
        self.names().into_iter().map(|name| (name.to_owned(), some(name))).collect()
    }

    /// The format whose own column names the row has.
    fn guess(&self) -> Option<&'static str> {
        let guesses = guesses(&self.all(), &self.layout.columns, self.asked_text());
        guesses.into_iter().find_map(|guess| match &guess {
            Guess::Rows(layout) if layout.columns.is_empty() => Some(guess.name()),
            _ => None,
        })
    }

    /// What a row is that was to be a preference, and who would train it.
    fn of_another_task(&self, name: &str, format: RowFormat) -> Option<String> {
        let guesses = guesses(&self.all(), &self.layout.columns, self.asked_text());
        let is = |name: &str| guesses.iter().any(|guess| guess.name() == name);
        let answered = guesses.iter().find_map(|guess| match guess {
            Guess::Rows(layout) if layout.format == RowFormat::PromptCompletion => Some(layout),
            _ => None,
        });
        Some(match (format, answered) {
            (RowFormat::PromptOnly, Some(layout)) if layout.column("prompt") != "prompt" => {
                format!("; set `data.columns: {{prompt: {}}}`", layout.column("prompt"))
            }
            (RowFormat::PromptOnly, _) => {
                "; these rows have no prompt that stands alone: name its column with `data.columns`".into()
            }
            (RowFormat::Unpaired, _) if is("preference") => {
                "; these are preference rows: `data.format: preference` takes them apart, and `task: dpo`, `orpo` and `reward` train them".into()
            }
            (RowFormat::Preference, _) if guesses.iter().any(|guess| guess.is_routed(self.row)) => {
                "; these say who is to answer a prompt: `data.format: unpaired` reads them, beside `task: reward`".into()
            }
            (_, None) if guesses.iter().any(|guess| guess.is_unanswered(self.row)) => {
                "; `label` judges an answer, and the row has none: `data.columns: {completion: ..}` names its column".into()
            }
            (RowFormat::Preference, _) if is("unpaired") => {
                "; these are unpaired rows: `data.format: unpaired` has `task: reward` tell good answers from bad ones, and `task: kto` trains them".into()
            }
            (RowFormat::Unpaired, Some(_)) if name == "label" => {
                "; `label` is true of a good answer and false of a bad one; `task: sft` trains rows without".into()
            }
            (RowFormat::Unpaired, Some(layout)) => {
                let called = ["prompt", "completion"].into_iter().filter(|own| layout.column(own) != *own);
                let named: Vec<String> = called.map(|own| format!("{own}: {}", layout.column(own))).collect();
                format!("; set `data.columns: {{{}}}`", named.join(", "))
            }
            (_, Some(_)) => "; `task: sft` trains rows of one answer".into(),
            _ => return None,
        })
    }

    /// How to name the columns for `format`, where they have other names that mean the same.
    fn renaming(&self, format: RowFormat) -> Option<String> {
        guesses(&self.all(), &self.layout.columns, self.asked_text()).into_iter().find_map(|guess| match guess {
            Guess::Rows(layout) if layout.format == format => {
                let named: Vec<_> = layout.columns.iter().map(|(own, column)| format!("{own}: {column}")).collect();
                Some(format!("; set `data.columns: {{{}}}`, or `data.format: auto`", named.join(", ")))
            }
            Guess::Rows(layout) => Some(format!("; looks like {0}: set `data.format: auto`", layout.format)),
            // A prompt alone is more likely a row that has lost its answer.
            Guess::OtherTask("prompt_only", _) => None,
            Guess::OtherTask(name, _) => Some(format!("; these are {name} rows, which `sft` does not train")),
        })
    }
}

/// `columns found: ..`, not too many of them.
pub(in crate::data) fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "the row has no columns".to_owned();
    }
    let shown: Vec<_> = names.iter().take(LISTED_COLUMNS).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(LISTED_COLUMNS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("columns found: {}{more}", shown.join(", "))
}

/// `value`, found at `path`, as a text.
pub(super) fn as_text<'a>(value: &'a Value, path: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| wrong_kind(path, "a text", value))
}

/// `value`, found at `path`, as a list. Columns of CSV and of some Hub data sets hold lists as JSON text.
pub(super) fn as_list<'a>(value: &'a Value, path: &str) -> Result<Cow<'a, [Value]>> {
    if let Some(list) = as_long_list(value).and_then(|text| serde_json::from_str(text).ok()) {
        return Ok(Cow::Owned(list));
    }
    match value {
        Value::Array(list) => Ok(Cow::Borrowed(list)),
        Value::String(text) if text.trim_start().starts_with('[') => {
            let parsed = exact::from_str(text).and_then(serde_json::from_value);
            parsed.map(Cow::Owned).or_else(|e| as_python_list(text, path, e))
        }
        other => Err(wrong_kind(path, "a list", other)),
    }
}

/// `text`, which was found at `path` and is no JSON, as a list that Python printed.
fn as_python_list<'a>(text: &str, path: &str, not_json: serde_json::Error) -> Result<Cow<'a, [Value]>> {
    if !python::is_likely(text) {
        return Err(Error::new(Kind::Data, format!("`{path}` is text that is no valid JSON list: {not_json}")));
    }
    match python::parse(text) {
        Ok(Value::Array(list)) => Ok(Cow::Owned(list)),
        Ok(other) => Err(wrong_kind(path, "a list", &other)),
        Err(e) => Err(Error::new(
            Kind::Data,
            format!("`{path}` is a list that Python printed, and not all of it can be read: {e}"),
        )
        .hint("write the column with `json.dumps`, or the rows as JSON lines")),
    }
}

/// `value`, found at `path`, as an object.
pub(super) fn as_object<'a>(value: &'a Value, path: &str) -> Result<&'a Object> {
    value.as_object().ok_or_else(|| wrong_kind(path, "an object", value))
}

/// The error for a value of the wrong kind.
pub(super) fn wrong_kind(path: &str, expected: &str, found: &Value) -> Error {
    Error::new(Kind::Data, format!("`{path}` must be {expected}, found {}", kind_name(found)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_that_are_no_preferences_are_named_with_the_task_that_trains_them() {
        for (format, row, said) in [
            (
                RowFormat::Unpaired,
                json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
                "`task: dpo`, `orpo` and `reward` train them",
            ),
            (
                RowFormat::Preference,
                json!({"prompt": "a", "completion": "b", "label": true}),
                "`task: kto` trains them",
            ),
            (
                RowFormat::Preference,
                json!({"Prompt": "a", "Label": "Local"}),
                "`data.format: unpaired` reads them, beside `task: reward`",
            ),
            (
                RowFormat::Preference,
                json!({"prompt": "a", "Label": false}),
                "the row has none: `data.columns: {completion: ..}` names its column",
            ),
            (
                RowFormat::Unpaired,
                json!({"prompt": "a", "label": "true"}),
                "the row has none: `data.columns: {completion: ..}` names its column",
            ),
            (RowFormat::Preference, json!({"prompt": "a", "completion": "b"}), "`task: sft` trains rows of one answer"),
            (RowFormat::Unpaired, json!({"prompt": "a", "completion": "b"}), "`task: sft` trains rows without"),
            (
                RowFormat::Unpaired,
                json!({"question": "a", "answer": "b", "label": true}),
                "set `data.columns: {prompt: question, completion: answer}`",
            ),
        ] {
            let problem = problem(format, row);
            assert!(problem.ends_with(&format!("{said}]")), "{problem}");
        }
    }

    #[test]
    fn a_missing_column_lists_those_found_and_guesses_the_format() {
        assert_eq!(
            problem(RowFormat::Messages, json!({"id": 1, "conversations": []})),
            "the row has no `messages`, which format `messages` needs [columns found: `id`, `conversations`; \
             looks like sharegpt: set `data.format: sharegpt`]"
        );
        assert_eq!(
            problem(RowFormat::Messages, json!({"mesages": []})),
            "the row has no `messages`, which format `messages` needs [columns found: `mesages`; \
             rename `mesages` to `messages`]"
        );
        assert_eq!(
            problem(RowFormat::Text, json!({"text": null, "id": 1})),
            "`text` is null [columns found: `text`, `id`]"
        );
        assert_eq!(
            problem(RowFormat::Text, json!({})),
            "the row has no `text`, which format `text` needs [the row has no columns]"
        );
    }

    #[test]
    fn a_blank_cell_is_what_null_is_elsewhere_where_the_row_is_nothing_without_it() {
        for (format, row, blank) in [
            (RowFormat::PromptCompletion, json!({"prompt": "a", "completion": ""}), Some("completion")),
            (RowFormat::Alpaca, json!({"instruction": "a", "input": "", "output": " \t"}), Some("output")),
            (RowFormat::Preference, json!({"prompt": "a", "chosen": "", "rejected": "b"}), Some("chosen")),
            (RowFormat::Preference, json!({"prompt": "a", "chosen": "b", "rejected": " "}), Some("rejected")),
            (RowFormat::Unpaired, json!({"prompt": "a", "completion": "b", "label": ""}), Some("label")),
            (RowFormat::Unpaired, json!({"prompt": "a", "completion": "", "label": "true"}), Some("completion")),
            (RowFormat::Unpaired, json!({"prompt": "a", "completion": "", "label": "local"}), None),
            (RowFormat::Text, json!({"text": "\n"}), Some("text")),
            (RowFormat::Messages, json!({"messages": ""}), Some("messages")),
            (RowFormat::PromptCompletion, json!({"prompt": "", "completion": "b", "system": ""}), None),
            (RowFormat::PromptOnly, json!({"prompt": "a", "completion": ""}), None),
        ] {
            let of_cells = Layout { of_cells: true, ..Layout::new(format, true) };
            let parsed = super::super::parse(&Columns::new(row.as_object().unwrap(), None, &of_cells));
            let what = parsed.err().map(|error| error.what().to_owned());
            assert_eq!(what, blank.map(|column| format!("the cell of `{column}` is empty")), "{row}");
        }
        // Of other sources a text of nothing is a text.
        assert!(parse_json(RowFormat::PromptCompletion, json!({"prompt": "a", "completion": ""})).is_ok());
    }

    #[test]
    fn clients_are_told_what_they_can_change() {
        let told = |row: Value| {
            let error = parse_json(RowFormat::Messages, row).unwrap_err().for_clients();
            error.hint_text().map(str::to_owned)
        };
        assert_eq!(
            told(json!({"mesages": []})).as_deref(),
            Some("columns found: `mesages`; rename `mesages` to `messages`")
        );
        for row in [
            json!({"conversations": []}),
            json!({"messages": [{"from": "human", "value": "a"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]}),
        ] {
            assert_eq!(told(row.clone()), None, "{row}");
        }
    }

    #[test]
    fn columns_that_were_not_read_are_listed_too() {
        let row = Object::new();
        let names: Vec<String> =
            (0..14).map(|i| format!("c{i}")).chain(["instruction".into(), "output".into()]).collect();
        let layout = Layout::new(RowFormat::PromptCompletion, true);
        let error = Columns::new(&row, Some(&names), &layout).missing("prompt", RowFormat::PromptCompletion);
        let hint = error.hint_text().unwrap();
        assert!(hint.ends_with("`c11` and 4 more; looks like alpaca: set `data.format: alpaca`"), "{hint}");
    }
}
