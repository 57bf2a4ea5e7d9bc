//! Numbers about a data set, as JSON and as a table.

use super::encode::SkipReason;
use crate::progress::plural;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How long rows are, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: u32,
    /// The median: half of the rows are no longer.
    pub p50: u32,
    /// 90 % are no longer.
    pub p90: u32,
    /// 95 % are no longer.
    pub p95: u32,
    /// 99 % are no longer.
    pub p99: u32,
    /// The longest.
    pub max: u32,
    /// The mean.
    pub mean: f64,
}

impl Lengths {
    /// The percentiles (nearest rank) of `lengths`; zeros when there are none.
    pub fn of(lengths: &[u32]) -> Self {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return Lengths::default() };
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        let sum: u64 = sorted.iter().map(|&n| u64::from(n)).sum();
        let mean = sum as f64 / sorted.len() as f64;
        Lengths { min, p50: rank(50), p90: rank(90), p95: rank(95), p99: rank(99), max, mean }
    }
}

/// A data file and its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStats {
    /// The file.
    pub path: String,
    /// Usable rows from it.
    pub rows: u64,
    /// BLAKE3 of its content, in hexadecimal.
    pub blake3: String,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedStats {
    /// Its file.
    pub file: String,
    /// Its number there, from 1.
    pub row: u32,
    /// The reason as a category.
    pub reason: SkipReason,
    /// The reason in full.
    pub why: String,
}

/// A source and its rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceStats {
    /// As the recipe names it.
    pub path: String,
    /// How its rows are read: `prompt_completion, through the chat template`.
    pub format: String,
    /// Usable rows from it; a long text counts as the rows that it became.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their tokens with a loss.
    pub supervised_tokens: u64,
    /// What is not trained as it stands.
    pub left_out: Vec<LeftOut>,
}

/// Rows that are not trained as they stand, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// What became of them: `truncated`, `split`, `empty`, or `skipped`, with the reason.
    pub what: String,
    /// How many.
    pub rows: u64,
    /// Of all rows that were read, in percent.
    pub rows_percent: f64,
    /// The tokens that this is about: those cut off, or left out; 0 where they could not be counted.
    pub tokens: u64,
    /// Of all tokens that were read, in percent.
    pub tokens_percent: f64,
    /// The first of them: `rows.jsonl, row 7`.
    pub first: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { what, rows, rows_percent, tokens, tokens_percent, first } = self;
        write!(f, "{what}: {rows} {} ({rows_percent:.1} %)", plural(*rows, "row"))?;
        if *tokens > 0 {
            write!(f, ", {tokens} {} ({tokens_percent:.1} %)", plural(*tokens, "token"))?;
        }
        write!(f, "; {}{first}", if *rows == 1 { "" } else { "the first is " })
    }
}

/// Numbers about a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Usable rows.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their tokens with a loss.
    pub supervised_tokens: u64,
    /// How long they are.
    pub lengths: Lengths,
    /// The most tokens that a row was allowed.
    pub max_length: u64,
    /// Different pictures in them.
    pub images: u64,
    /// Different sounds in them.
    pub sounds: u64,
    /// Rows whose end was cut off.
    pub truncated: u64,
    /// Rows that say what an earlier one says: they are learnt as often as they are there.
    pub repeated: u64,
    /// Rows left out, by reason.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// The first rows left out.
    pub skipped_rows: Vec<SkippedStats>,
    /// What is not trained as it stands, of all sources.
    pub left_out: Vec<LeftOut>,
    /// Columns that no format reads, and how many rows have them.
    pub unused_columns: BTreeMap<String, u64>,
    /// The sources.
    pub sources: Vec<SourceStats>,
    /// The files.
    pub files: Vec<FileStats>,
    /// Tokens divided by the room for tokens in the packed bins of an epoch; absent without packing.
    pub fill_rate: Option<f64>,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lengths { min, p50, p90, p95, p99, max, mean } = self.lengths;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(f, "{:<18} {:>12}", "rows", self.rows)?;
        writeln!(f, "{:<18} {:>12}", "tokens", self.tokens)?;
        let supervised = percent(self.supervised_tokens, self.tokens);
        writeln!(f, "{:<18} {:>12}  {supervised:.1} %", "supervised tokens", self.supervised_tokens)?;
        writeln!(
            f,
            "{:<18} {mean:>12.1}  min {min}, p50 {p50}, p90 {p90}, p95 {p95}, p99 {p99}, max {max}",
            "tokens per row"
        )?;
        for (name, count) in [("images", self.images), ("sounds", self.sounds)] {
            if count > 0 {
                writeln!(f, "{name:<18} {count:>12}  different ones")?;
            }
        }
        let truncated = percent(self.truncated, self.rows);
        writeln!(f, "{:<18} {:>12}  {truncated:.1} %, at max_length {}", "truncated", self.truncated, self.max_length)?;
        if self.repeated > 0 {
            let percent = percent(self.repeated, self.rows);
            writeln!(f, "{:<18} {:>12}  {percent:.1} %, say what an earlier row says", "repeated", self.repeated)?;
        }
        writeln!(f, "{:<18} {:>12}", "skipped", self.skipped.values().sum::<u64>())?;
        for (reason, count) in &self.skipped {
            writeln!(f, "{:<18} {count:>12}  {reason}", "")?;
        }
        for (column, rows) in &self.unused_columns {
            writeln!(f, "{:<18} {rows:>12}  rows have `{column}`", "not used")?;
        }
        if let Some(fill_rate) = self.fill_rate {
            writeln!(f, "{:<18} {:>12.1}  % of each packed bin", "fill rate", 100.0 * fill_rate)?;
        }
        for SourceStats { path, format, rows, tokens, supervised_tokens, .. } in &self.sources {
            let (of_rows, of_tokens) = (percent(*rows, self.rows), percent(*tokens, self.tokens));
            let supervised = percent(*supervised_tokens, *tokens);
            writeln!(
                f,
                "{:<18} {rows:>12}  {path} ({format}): {of_rows:.1} % of rows, {tokens} tokens ({of_tokens:.1} %), \
                 {supervised:.1} % of them supervised",
                "rows from"
            )?;
        }
        if self.files.len() > self.sources.len() {
            for file in &self.files {
                writeln!(f, "{:<18} {:>12}  {}", "of which in", file.rows, file.path)?;
            }
        }
        for left_out in &self.left_out {
            writeln!(f, "{left_out}")?;
        }
        for skipped in &self.skipped_rows {
            writeln!(f, "skipped {}, row {}: {}", skipped.file, skipped.row, skipped.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let hundred: Vec<u32> = (1..=100).rev().collect();
        let lengths = Lengths::of(&hundred);
        assert_eq!(
            (lengths.min, lengths.p50, lengths.p90, lengths.p95, lengths.p99, lengths.max),
            (1, 50, 90, 95, 99, 100)
        );
        assert_eq!(lengths.mean, 50.5);
        assert_eq!(Lengths::of(&[7]).p50, 7);
        assert_eq!(Lengths::of(&[]), Lengths::default());
    }

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let stats = Stats {
            rows: 4,
            tokens: 200,
            supervised_tokens: 50,
            lengths: Lengths::of(&[20, 30, 50, 100]),
            max_length: 100,
            images: 0,
            sounds: 0,
            truncated: 1,
            repeated: 1,
            skipped: [(SkipReason::TooLong, 2)].into(),
            skipped_rows: vec![SkippedStats {
                file: "a.jsonl".into(),
                row: 3,
                reason: SkipReason::TooLong,
                why: "long".into(),
            }],
            left_out: vec![LeftOut {
                what: "truncated at max_length 100".into(),
                rows: 1,
                rows_percent: 16.67,
                tokens: 50,
                tokens_percent: 20.0,
                first: "a.jsonl, row 2".into(),
            }],
            unused_columns: [("id".into(), 4)].into(),
            sources: vec![SourceStats {
                path: "*.jsonl".into(),
                format: "messages".into(),
                rows: 4,
                tokens: 200,
                supervised_tokens: 50,
                left_out: Vec::new(),
            }],
            files: vec![FileStats { path: "a.jsonl".into(), rows: 4, blake3: "00".into() }],
            fill_rate: Some(0.985),
        };
        let expected = "\
rows                          4
tokens                      200
supervised tokens            50  25.0 %
tokens per row             50.0  min 20, p50 30, p90 100, p95 100, p99 100, max 100
truncated                     1  25.0 %, at max_length 100
repeated                      1  25.0 %, say what an earlier row says
skipped                       2
                              2  longer than max_length
not used                      4  rows have `id`
fill rate                  98.5  % of each packed bin
rows from                     4  *.jsonl (messages): 100.0 % of rows, 200 tokens (100.0 %), 25.0 % of them supervised
truncated at max_length 100: 1 row (16.7 %), 50 tokens (20.0 %); a.jsonl, row 2
skipped a.jsonl, row 3: long
";
        assert_eq!(stats.to_string(), expected);
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["skipped"], serde_json::json!({"too_long": 2}));
        assert_eq!(json["lengths"]["p50"], 30);
    }
}
