//! Row formats: from columns to a [`Row`]. One file each.

mod alpaca;
mod columns;
mod messages;
mod prompt_completion;
mod python;
mod sharegpt;
mod text;
mod tokens;
mod tools;

pub(super) use columns::Columns;

use super::options::RowFormat;
use super::row::Row;
use crate::error::Result;

/// Every column that some format reads; others need not be read at all.
pub(super) const KNOWN_COLUMNS: [&str; 15] = [
    "messages",
    "tools",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "conversations",
    "conversation",
    "text",
    "input_ids",
    "labels",
    "attention_mask",
];

impl RowFormat {
    /// Reads one row of this format, such as a line of a jsonl file.
    ///
    /// # Errors
    /// When a column is missing or holds something else than the format says.
    pub fn parse(self, row: &serde_json::Map<String, serde_json::Value>) -> Result<Row> {
        parse(self, &Columns::new(row, None))
    }
}

/// Understands a row.
///
/// # Errors
/// When a column is missing or holds something else than `format` says. Names the columns found, and the format that
/// they look like.
pub(super) fn parse(format: RowFormat, row: &Columns) -> Result<Row> {
    match format {
        RowFormat::Messages => messages::parse(row),
        RowFormat::PromptCompletion => prompt_completion::parse(row),
        RowFormat::Alpaca => alpaca::parse(row),
        RowFormat::Sharegpt => sharegpt::parse(row),
        RowFormat::Text => text::parse(row),
        RowFormat::Tokens => tokens::parse(row),
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::data::object::Object;

    /// Parses a row given as JSON.
    pub fn parse_json(format: RowFormat, json: serde_json::Value) -> Result<Row> {
        let object: Object = json.as_object().unwrap().clone();
        parse(format, &Columns::new(&object, None))
    }

    /// What is wrong with a row given as JSON: `what`, and the hint in brackets.
    pub fn problem(format: RowFormat, json: serde_json::Value) -> String {
        let error = parse_json(format, json).unwrap_err();
        match error.hint_text() {
            Some(hint) => format!("{} [{hint}]", error.what()),
            None => error.what().to_owned(),
        }
    }
}
