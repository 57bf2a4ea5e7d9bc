//! Row formats: from columns to a [`Row`]. One file each.

mod alpaca;
mod columns;
mod detect;
mod messages;
mod prompt_completion;
mod sharegpt;
mod text;
mod tokens;
mod tools;

pub(super) use columns::{Columns, listed};
pub(super) use detect::{Guess, guesses, may_mean};

use super::layout::Layout;
use super::object::Object;
use super::options::RowFormat;
use super::row::Row;
use crate::error::Result;
use serde_json::Value;
use std::collections::BTreeSet;

impl RowFormat {
    /// Reads one row of this format, such as a line of a jsonl file.
    ///
    /// # Errors
    /// When a column is missing or holds something else than the format says.
    pub fn parse(self, row: &serde_json::Map<String, serde_json::Value>) -> Result<Row> {
        parse(&Columns::new(row, None, &Layout::new(self, true)))
    }
}

/// Understands a row.
///
/// # Errors
/// When a column is missing or holds something else than the layout says. Names the columns found, and the format that
/// they look like.
pub(super) fn parse(row: &Columns) -> Result<Row> {
    match row.format() {
        RowFormat::Auto => match &row.guesses()[..] {
            [Guess::Rows(layout)] => parse(&row.laid_out(layout)),
            _ => Err(row.unknown()),
        },
        RowFormat::Messages => messages::parse(row),
        RowFormat::PromptCompletion => prompt_completion::parse(row),
        RowFormat::Alpaca => alpaca::parse(row),
        RowFormat::Sharegpt => sharegpt::parse(row),
        RowFormat::Text => text::parse(row),
        RowFormat::Tokens => tokens::parse(row),
    }
}

/// The fields of a row's messages that mean nothing here, as `messages[].id`.
pub(super) fn unused_message_fields(row: &Object) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for (column, value) in row {
        let messages = value.as_array().into_iter().flatten().filter_map(Value::as_object);
        for message in messages.filter(|message| message.contains_key("role")) {
            fields.extend(messages::unused_keys(message).map(|key| format!("{column}[].{key}")));
        }
    }
    fields
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Parses a row given as JSON.
    pub fn parse_json(format: RowFormat, json: serde_json::Value) -> Result<Row> {
        let object: Object = json.as_object().unwrap().clone();
        parse(&Columns::new(&object, None, &Layout::new(format, true)))
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
