//! Row formats: from columns to a [`Row`]. One file each.

mod alpaca;
mod columns;
mod detect;
mod media;
mod messages;
mod preference;
mod prompt_completion;
mod prompt_only;
mod python;
mod sharegpt;
mod text;
mod tokens;
mod tools;
mod unpaired;
mod unread;

pub(super) use columns::{Columns, listed};
pub(super) use detect::{Guess, guesses, may_mean, plain, shown};
pub(super) use prompt_only::with_system;
pub(super) use unread::unread_media;

use super::layout::Layout;
use super::media as media_of_rows;
use super::object::Object;
use super::options::RowFormat;
use super::row::Row;
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::collections::BTreeSet;

impl RowFormat {
    /// Reads one row of this format, such as a line of a jsonl file.
    ///
    /// # Errors
    /// When a column is missing or holds something else than the format says, and when pictures or sounds are in one that it
    /// does not read.
    pub fn parse(self, row: &serde_json::Map<String, serde_json::Value>) -> Result<Row> {
        let layout = Layout::new(self, true);
        media_of_rows::refuse(row, None, &layout)?;
        parse(&Columns::new(row, None, &layout))
    }
}

/// Understands a row.
///
/// # Errors
/// When a column is missing or holds something else than the layout says. Names the columns found, and the format that
/// they look like.
pub(super) fn parse(row: &Columns) -> Result<Row> {
    let parsed = match row.format() {
        RowFormat::Auto => match &row.guesses()[..] {
            [Guess::Rows(layout)] => return parse(&row.laid_out(layout)),
            _ => Err(row.unknown()),
        },
        RowFormat::Messages => messages::parse(row),
        RowFormat::PromptCompletion => prompt_completion::parse(row),
        RowFormat::Alpaca => alpaca::parse(row),
        RowFormat::Sharegpt => sharegpt::parse(row),
        RowFormat::Text => return text::parse(row),
        RowFormat::Tokens => tokens::parse(row),
        RowFormat::Preference => preference::parse(row),
        RowFormat::Unpaired => unpaired::parse(row),
        RowFormat::PromptOnly => prompt_only::parse(row),
    };
    let mut parsed = media::attach(parsed?, row)?;
    if row.asked().is_some_and(|asked| asked.of_media) && row.get("prompt").is_none() && parsed.media_mut().is_empty() {
        return Err(Error::new(
            Kind::Data,
            "the row has neither a prompt nor a picture or sound that `data.prompt` asks about",
        )
        .hint("name its file, or leave the row out"));
    }
    Ok(parsed)
}

/// Keys of the turns of a conversation that mean nothing here, as `messages[].name`, each once.
pub(super) fn unused_in_turns(row: &Object, layout: &Layout) -> BTreeSet<String> {
    let mut unused = BTreeSet::new();
    for name in ["messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected"] {
        let column = layout.column(name);
        let Some(Value::Array(turns)) = row.get(column).filter(|_| layout.reads(column)) else { continue };
        for turn in turns.iter().filter_map(Value::as_object) {
            let named = |key: &str| format!("{column}[].{key}");
            match turn.contains_key("from") {
                true => {
                    let said = turn
                        .iter()
                        .filter(|(key, value)| !matches!(key.as_str(), "from" | "value") && !value.is_null());
                    unused.extend(said.map(|(key, _)| named(key)));
                }
                false => unused.extend(messages::unused_keys(turn).map(named)),
            }
        }
    }
    unused
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
