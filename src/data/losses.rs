//! Rows that are not trained as they stand: how many, how much of the data, and the first of each kind.

use super::encode::SkipReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of columns that are counted; more of them are rows with keys of their own, which nobody wants listed.
const UNUSED_NAMES: usize = 64;

/// Rows to which the same happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Marked {
    /// How many.
    pub rows: u64,
    /// The tokens that it was about.
    pub tokens: u64,
    /// File and row of the first.
    pub first: Option<(u32, u32)>,
}

impl Marked {
    /// Counts a row; what it was about may be part of it only.
    pub fn add(&mut self, file: u32, row: u32, tokens: u64) {
        self.rows += 1;
        self.tokens += tokens;
        self.first = self.first.or(Some((file, row)));
    }

    /// Counts what came after these.
    pub fn extend(&mut self, later: &Marked) {
        self.rows += later.rows;
        self.tokens += later.tokens;
        self.first = self.first.or(later.first);
    }
}

/// What happened to the rows of a data set, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Losses {
    /// Rows whose end was cut off, and the tokens that went with it.
    pub truncated: Marked,
    /// Rows that became several, and all their tokens.
    pub split: Marked,
    /// The rows that they became.
    pub pieces: u64,
    /// Rows in which the model is to say nothing.
    pub empty: Marked,
    /// Rows whose bad answer says nothing.
    pub empty_rejected: Marked,
    /// Rows in which somebody says a word that a program writes where there is no value.
    pub words_for_nothing: Marked,
    /// Rows in which the model is to say something and is asked nothing.
    pub unasked: Marked,
    /// Rows with control words in messages.
    pub control_words: Marked,
    /// Rows with answers that bring along the end of their turn.
    pub ends: Marked,
    /// Rows whose user says `<image>` or `<audio>` and shows none.
    pub placeholders: Marked,
    /// Rows with sounds whose end was cut off.
    pub cut_sounds: Marked,
    /// How much of them, in milliseconds.
    pub cut_sound_ms: u64,
    /// Rows with sounds that became several.
    pub split_sounds: Marked,
    /// How long these are, in milliseconds.
    pub split_sound_ms: u64,
    /// Rows left out, by reason; tokens where they could be counted.
    pub skipped: BTreeMap<SkipReason, Marked>,
    /// Columns that no format reads, and the rows that have them.
    pub unused: BTreeMap<String, u64>,
}

impl Losses {
    /// Counts a column that is not read.
    pub fn not_used(&mut self, column: &str, rows: u64) {
        if let Some(count) = self.unused.get_mut(column) {
            *count += rows;
        } else if self.unused.len() < UNUSED_NAMES {
            self.unused.insert(column.to_owned(), rows);
        }
    }

    /// Counts what happened later.
    pub fn extend(&mut self, later: &Losses) {
        self.truncated.extend(&later.truncated);
        self.split.extend(&later.split);
        self.pieces += later.pieces;
        self.empty.extend(&later.empty);
        self.empty_rejected.extend(&later.empty_rejected);
        self.words_for_nothing.extend(&later.words_for_nothing);
        self.unasked.extend(&later.unasked);
        self.control_words.extend(&later.control_words);
        self.ends.extend(&later.ends);
        self.placeholders.extend(&later.placeholders);
        self.cut_sounds.extend(&later.cut_sounds);
        self.cut_sound_ms += later.cut_sound_ms;
        self.split_sounds.extend(&later.split_sounds);
        self.split_sound_ms += later.split_sound_ms;
        for (reason, rows) in &later.skipped {
            self.skipped.entry(*reason).or_default().extend(rows);
        }
        later.unused.iter().for_each(|(column, rows)| self.not_used(column, *rows));
    }
}
