//! What became of the rows: errors to show, skips to count, and whether what is left can be trained on.

use super::cache::{Meta, SkippedRow};
use super::encode::{Refused, SkipReason};
use super::layout::Layout;
use super::losses::Losses;
use super::options::{OnBadRow, OnLong, RowFormat};
use super::source::SourceFile;
use super::spec::DataSpec;
use crate::error::{Error, Kind, Place, Result};
use std::collections::BTreeMap;

/// Wrong or skipped rows that are shown one by one.
const SHOWN_ROWS: usize = 20;

/// After this many wrong rows nothing new is learnt from reading on.
const ENOUGH_WRONG_ROWS: u64 = 1000;

/// Counts rows while a data set is prepared.
pub(super) struct Tally<'a> {
    spec: &'a DataSpec,
    files: &'a [SourceFile],
    layouts: &'a [Layout],
    usable: u64,
    rows_with_stop: u64,
    wrong: Vec<Error>,
    wrong_rows: u64,
    /// Those of them that are too long.
    too_long: u64,
    /// Of each source.
    losses: Vec<Losses>,
    skipped_rows: Vec<SkippedRow>,
}

impl<'a> Tally<'a> {
    pub fn new(spec: &'a DataSpec, files: &'a [SourceFile], layouts: &'a [Layout]) -> Self {
        Tally {
            spec,
            files,
            layouts,
            usable: 0,
            rows_with_stop: 0,
            wrong: Vec::new(),
            wrong_rows: 0,
            too_long: 0,
            losses: vec![Losses::default(); spec.sources.len()],
            skipped_rows: Vec::new(),
        }
    }

    /// Counts usable rows of a file, and what became of them.
    pub fn accept(&mut self, file: usize, rows: usize, with_stop: u64, losses: &Losses) {
        self.losses[self.files[file].source].extend(losses);
        self.usable += rows as u64;
        self.rows_with_stop += with_stop;
    }

    /// Takes a row that cannot be used: an error or a skip, as the spec says.
    pub fn refuse(&mut self, file: usize, row: u32, refused: Refused) {
        let skip = match refused.reason {
            SkipReason::TooLong => self.spec.on_long == Some(OnLong::Skip),
            _ => self.spec.on_bad_row == OnBadRow::Skip,
        };
        if skip {
            let source = self.files[file].source;
            let file = u32::try_from(file).unwrap_or(u32::MAX);
            self.losses[source].skipped.entry(refused.reason).or_default().add(file, row, refused.tokens);
            if self.skipped_rows.len() < SHOWN_ROWS {
                let why = refused.error.what().to_owned();
                self.skipped_rows.push(SkippedRow { file, row, reason: refused.reason, why });
            }
        } else {
            self.wrong_rows += 1;
            self.too_long += u64::from(refused.reason == SkipReason::TooLong);
            if self.wrong.len() < SHOWN_ROWS {
                let path = self.files[file].path.to_path_buf();
                self.wrong.push(refused.error.at(Place::Row { path, row: row as usize }));
            }
        }
    }

    /// Whether so many rows are wrong that reading on is a waste of time.
    pub fn hopeless(&self) -> bool {
        self.wrong_rows >= ENOUGH_WRONG_ROWS
    }

    /// The facts about the data set.
    ///
    /// # Errors
    /// When rows are wrong, none are left, or none would teach the model to stop.
    pub fn finish(self) -> Result<Meta> {
        if self.wrong_rows > 0 {
            return Err(self.wrong_rows_error());
        }
        if self.usable == 0 {
            return Err(self.no_rows_error());
        }
        let empty: u64 = self.losses.iter().map(|losses| losses.empty.rows).sum();
        if empty == self.usable {
            let error = Error::new(
                Kind::Data,
                format!("{} empty: the tuned model would say nothing", all(empty, "answer", ["is", "are"])),
            );
            return Err(error.hint("check `data.format` and `data.columns`: which column holds the answers?"));
        }
        // Plain text and ready-made tokens may be meant to go on without an end.
        let ends = self
            .layouts
            .iter()
            .any(|layout| !matches!(layout.format, RowFormat::Text | RowFormat::Tokens | RowFormat::PromptOnly));
        if ends && self.rows_with_stop == 0 {
            let error = Error::new(
                Kind::Data,
                "no stop token is supervised in any row: the tuned model would never stop its answers",
            );
            return Err(error.hint(format!(
                "every answer is cut off before its end at `max_length` {}: raise `data.max_length`, or check the chat template",
                self.spec.max_length
            )));
        }
        Ok(Meta {
            rows_with_stop: self.rows_with_stop,
            losses: self.losses,
            skipped_rows: self.skipped_rows,
            ..Meta::default()
        })
    }

    fn wrong_rows_error(self) -> Error {
        let hint = match (self.usable, self.too_long) {
            (0, _) => {
                "leaving such rows out would leave none: mend what they have in common, or check `data.format` and `data.columns`"
            }
            (_, 0) => "set `data.on_bad_row: skip` to leave such rows out",
            (_, long) if long == self.wrong_rows => "set `data.on_long: skip` to leave such rows out",
            _ => "set `data.on_bad_row: skip` and `data.on_long: skip` to leave such rows out",
        };
        let (wrong, usable, shown) = (self.wrong_rows, self.usable, self.wrong.len());
        let mut errors = self.wrong;
        if wrong > 1 {
            let rest = if wrong > shown as u64 { format!("; the first {shown} are shown") } else { String::new() };
            let what = if wrong >= ENOUGH_WRONG_ROWS {
                format!(
                    "the first {} rows hold {wrong} that cannot be used, and the rest was not read{rest}",
                    wrong + usable
                )
            } else {
                format!("{wrong} of {} rows cannot be used{rest}", wrong + usable)
            };
            errors.push(Error::new(Kind::Data, what).hint(hint));
        }
        // There is at least one: the caller has counted it.
        Error::many(errors).unwrap_or_else(|| Error::new(Kind::Data, "rows cannot be used"))
    }

    fn no_rows_error(self) -> Error {
        let mut skipped_of = BTreeMap::<SkipReason, u64>::new();
        for (reason, rows) in self.losses.iter().flat_map(|losses| &losses.skipped) {
            *skipped_of.entry(*reason).or_default() += rows.rows;
        }
        let skipped: u64 = skipped_of.values().sum();
        if skipped == 0 {
            let names: Vec<_> = self.files.iter().map(|file| format!("`{}`", file.path.display())).collect();
            return Error::new(Kind::Data, format!("there are no rows in {}", names.join(", "))).at(Place::Key(
                match self.spec.sources.len() {
                    1 => format!("{}[0].path", self.spec.key),
                    _ => self.spec.key.into(),
                },
            ));
        }
        let reasons: Vec<_> = skipped_of.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let error =
            Error::new(Kind::Data, format!("{} skipped: {}", all(skipped, "row", ["was", "were"]), reasons.join(", ")));
        match self.skipped_rows.first() {
            Some(row) => {
                let path = self.files[row.file as usize].path.to_path_buf();
                error.at(Place::Row { path, row: row.row as usize }).hint(format!("the first of them: {}", row.why))
            }
            None => error,
        }
    }
}

/// `the only row was`, `all 3 rows were`.
fn all(count: u64, noun: &str, [one, several]: [&str; 2]) -> String {
    match count {
        1 => format!("the only {noun} {one}"),
        _ => format!("all {count} {noun}s {several}"),
    }
}
