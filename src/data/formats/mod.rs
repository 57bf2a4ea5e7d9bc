//! Row formats: from columns to a [`Row`]. One file each.

mod alpaca;
mod columns;
mod detect;
mod messages;
mod prompt_completion;
mod python;
mod sharegpt;
mod text;
mod tokens;
mod tools;

pub(super) use columns::{Columns, listed};
pub(super) use detect::{Guess, guesses, may_mean};

use super::layout::Layout;
use super::options::RowFormat;
use super::row::Row;
use crate::error::Result;

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

#[cfg(test)]
mod testing {
    use super::*;
    use crate::data::object::Object;

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
