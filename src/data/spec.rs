//! What to prepare: the sources and the rules for their rows.

use super::layout::Layout;
use super::media::MediaRules;
use super::options::{OnBadRow, OnLong, RowFormat};
use crate::error::{Error, Kind, Place, Result};
use std::collections::BTreeMap;

/// The largest weight of a source: more passes over the same rows are a slip of the pen.
const MAX_WEIGHT: f64 = 10_000.0;

/// One entry of `data.train` or `data.eval`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// A file, a glob, or an `hf://datasets/..` id.
    pub path: String,
    /// How its rows are laid out.
    pub format: RowFormat,
    /// What its columns are called, by what the format calls them.
    pub columns: BTreeMap<String, String>,
    /// Whether prompts and completions that are texts become turns of a conversation.
    pub template: bool,
    /// What the user asks in rows without a prompt.
    pub prompt: Option<String>,
    /// The split of a Hub data set; local files have only `train`.
    pub split: Option<String>,
    /// How often each row is seen per epoch; for the fractional part, rows are chosen anew in each epoch.
    pub weight: f64,
}

impl SourceSpec {
    /// A source that is seen once per epoch, whose columns have the names of the format.
    pub fn new(path: impl Into<String>, format: RowFormat) -> Self {
        let columns = BTreeMap::new();
        SourceSpec { path: path.into(), format, columns, template: true, prompt: None, split: None, weight: 1.0 }
    }
}

/// The sources of one data set and the rules for their rows.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// The recipe's key that names the sources, where messages point: `data.train`.
    pub key: &'static str,
    /// Where rows come from, in order.
    pub sources: Vec<SourceSpec>,
    /// The most tokens a row may have.
    pub max_length: usize,
    /// What happens to longer rows; `None`: what is usual for their format ([`OnLong::usual`]).
    pub on_long: Option<OnLong>,
    /// What happens to rows that cannot be used.
    pub on_bad_row: OnBadRow,
    /// The most bytes a row may have in its file; for Parquet and Arrow, as JSON.
    pub max_row_bytes: usize,
    /// How pictures and sounds are read.
    pub media: MediaRules,
    /// Whether the tokenizer's `eos_token` follows each answer of a pair, where it does not already and where there is room: as TRL has it where pairs
    /// are learnt without a reference.
    pub with_eos: bool,
    /// Whether pairs are taken apart: the preferred answer is a good one, the other a bad one, each a row of its own.
    pub unpair: bool,
}

impl DataSpec {
    /// Finds values that no data set can be prepared with.
    ///
    /// # Errors
    /// All such values together.
    pub(super) fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        if self.sources.is_empty() {
            problems.push(Error::new(Kind::Recipe, "there is no data source"));
        }
        // A row's length is held as u32, and the first token never has a loss.
        if self.max_length < 2 || u32::try_from(self.max_length).is_err() {
            problems
                .push(Error::new(Kind::Recipe, format!("`max_length` must be at least 2, found {}", self.max_length)));
        }
        for source in &self.sources {
            if !(0.0..=MAX_WEIGHT).contains(&source.weight) {
                let what =
                    format!("`weight` of `{}` must be from 0 to {MAX_WEIGHT}, found {}", source.path, source.weight);
                problems.push(Error::new(Kind::Recipe, what));
            }
        }
        Error::many(problems).map_or(Ok(()), Err)
    }

    /// Refuses to split what is no plain text: the second half of an answer has lost its question.
    ///
    /// # Errors
    /// When rows of another format are to be split.
    pub(super) fn check_on_long(&self, layouts: &[Layout]) -> Result<()> {
        let other = layouts.iter().find(|layout| !matches!(layout.format, RowFormat::Text | RowFormat::Auto));
        match other.filter(|_| self.on_long == Some(OnLong::Split)) {
            Some(layout) => Err(split_needs_text(layout.format).at(Place::Key("data.on_long".into()))),
            None => Ok(()),
        }
    }
}

/// The error for rows of `format` that are to be split.
pub fn split_needs_text(format: RowFormat) -> Error {
    Error::new(Kind::Recipe, format!("`on_long: split` is for plain text, and these rows are `{format}`"))
        .hint("leave `on_long` out: then text is split, and other rows are truncated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_are_reported_together() {
        let mut source = SourceSpec::new("a.jsonl", RowFormat::Text);
        source.weight = f64::NAN;
        let spec = DataSpec {
            key: "data.train",
            sources: vec![source],
            max_length: 1,
            on_long: Some(OnLong::Skip),
            on_bad_row: OnBadRow::Skip,
            max_row_bytes: 1 << 20,
            media: MediaRules::default(),
            with_eos: false,
            unpair: false,
        };
        let error = spec.check().unwrap_err();
        let whats: Vec<_> = error.iter().map(Error::what).collect();
        assert_eq!(
            whats,
            ["`max_length` must be at least 2, found 1", "`weight` of `a.jsonl` must be from 0 to 10000, found NaN"]
        );
        assert_eq!(error.exit_code(), 2);
    }
}
