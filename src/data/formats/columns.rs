//! Looking up a row's columns, with messages that help when they are not as expected.

use super::python;
use crate::data::object::{Object, kind_name};
use crate::data::options::RowFormat;
use crate::error::{Error, Kind, Result, did_you_mean};
use serde_json::Value;
use std::borrow::Cow;

/// The most column names that a message lists.
const LISTED_COLUMNS: usize = 12;

/// A row's columns. A column that holds null is as good as absent: Parquet rows have all columns of the file.
pub(in crate::data) struct Columns<'a> {
    row: &'a Object,
    /// All columns of the file, where `row` holds only some of them.
    of_file: Option<&'a [String]>,
}

impl<'a> Columns<'a> {
    pub fn new(row: &'a Object, of_file: Option<&'a [String]>) -> Self {
        Columns { row, of_file }
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.row.get(name).filter(|value| !value.is_null())
    }

    pub fn require(&self, name: &str, format: RowFormat) -> Result<&'a Value> {
        self.get(name).ok_or_else(|| self.missing(name, format))
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name).map(|value| as_text(value, name)).transpose()
    }

    pub fn require_text(&self, name: &str, format: RowFormat) -> Result<&'a str> {
        as_text(self.require(name, format)?, name)
    }

    /// The error for a row of `format` without column `name`.
    pub fn missing(&self, name: &str, format: RowFormat) -> Error {
        let names = self.names();
        let present = names.contains(&name);
        let mut hint = match names.len() {
            0 => "the row has no columns".to_owned(),
            n => {
                let shown: Vec<_> = names.iter().take(LISTED_COLUMNS).map(|name| format!("`{name}`")).collect();
                let more = if n > LISTED_COLUMNS { format!(" and {} more", n - LISTED_COLUMNS) } else { String::new() };
                format!("columns found: {}{more}", shown.join(", "))
            }
        };
        if let Some(guess) = self.guess().filter(|&guess| guess != format && !present) {
            hint.push_str(&format!("; looks like {guess}: set `data.format: {guess}`"));
        } else if let Some(close) = did_you_mean(name, names.iter().copied()).filter(|_| !present) {
            hint.push_str(&format!("; rename `{close}` to `{name}`"));
        }
        let what = if present {
            format!("`{name}` is null")
        } else {
            format!("the row has no `{name}`, which format `{format}` needs")
        };
        Error::new(Kind::Data, what).hint(hint)
    }

    fn names(&self) -> Vec<&str> {
        match self.of_file {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => self.row.keys().map(String::as_str).collect(),
        }
    }

    fn guess(&self) -> Option<RowFormat> {
        let names = self.names();
        let has = |name: &str| names.contains(&name);
        [
            (has("messages"), RowFormat::Messages),
            (has("conversations") || has("conversation"), RowFormat::Sharegpt),
            (has("prompt") && has("completion"), RowFormat::PromptCompletion),
            (has("instruction") && has("output"), RowFormat::Alpaca),
            (has("input_ids"), RowFormat::Tokens),
            (has("text"), RowFormat::Text),
        ]
        .into_iter()
        .find_map(|(fits, format)| fits.then_some(format))
    }
}

/// `value`, found at `path`, as a text.
pub(super) fn as_text<'a>(value: &'a Value, path: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| wrong_kind(path, "a text", value))
}

/// `value`, found at `path`, as a list. Columns of CSV and of some Hub data sets hold lists as JSON text.
pub(super) fn as_list<'a>(value: &'a Value, path: &str) -> Result<Cow<'a, [Value]>> {
    match value {
        Value::Array(list) => Ok(Cow::Borrowed(list)),
        Value::String(text) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).map(Cow::Owned).or_else(|e| as_python_list(text, path, e))
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
    use super::super::testing::problem;
    use super::*;
    use serde_json::json;

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
    fn columns_that_were_not_read_are_listed_too() {
        let row = Object::new();
        let names: Vec<String> =
            (0..14).map(|i| format!("c{i}")).chain(["instruction".into(), "output".into()]).collect();
        let error = Columns::new(&row, Some(&names)).missing("prompt", RowFormat::PromptCompletion);
        let hint = error.hint_text().unwrap();
        assert!(hint.ends_with("`c11` and 4 more; looks like alpaca: set `data.format: alpaca`"), "{hint}");
    }
}
