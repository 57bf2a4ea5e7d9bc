//! Prepared rows, or a part of them.

use super::cache::{RowMeta, Sequences, Store};
use super::layout::Layout;
use super::losses::{Losses, Marked};
use super::media::MediaTable;
use super::pairs::PairLengths;
use super::row::RowId;
use super::spec::SourceSpec;
use super::stats::{FileStats, LeftOut, Lengths, SkippedStats, SourceStats, Stats};
use crate::error::{Error, Kind, Result};
use crate::text::{MediaKind, Tokenized};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A data file that rows came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// As the user named it, or where the Hub's file lies.
    pub path: Arc<Path>,
    /// BLAKE3 of its content, in hexadecimal.
    pub blake3: String,
    /// Index of its source in the spec.
    pub source: usize,
    /// How its rows are read.
    pub layout: Layout,
}

/// A data set in four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Usable rows.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their tokens with a loss.
    pub supervised_tokens: u64,
    /// Tokens of the longest row.
    pub longest: u32,
}

/// Prepared rows. Tokens stay on disk and are read row by row, from any thread.
#[derive(Debug)]
pub struct Dataset {
    store: Arc<Store>,
    media: Arc<MediaTable>,
    files: Arc<[DataFile]>,
    /// What the user calls each source.
    names: Arc<[String]>,
    /// Weight of each source.
    weights: Vec<f64>,
    /// The rows of `store` that belong to this data set.
    rows: Vec<u32>,
    lengths: Vec<u32>,
    supervised: Vec<u32>,
    max_length: usize,
    from_cache: bool,
    /// Whether skipped rows are counted here: those of a split data set are counted once.
    counts_skipped: bool,
}

impl Dataset {
    /// All rows of `store`.
    ///
    /// # Errors
    /// When there are more rows than 32 bits count, or files are missing.
    pub(super) fn new(
        store: Store,
        files: Vec<DataFile>,
        sources: &[SourceSpec],
        max_length: usize,
        from_cache: bool,
        media: MediaTable,
    ) -> Result<Self> {
        let weights: Vec<f64> = sources.iter().map(|source| source.weight).collect();
        let names = sources.iter().map(|source| source.path.clone()).collect();
        let count = u32::try_from(store.rows().len()).map_err(|_| {
            Error::new(Kind::Data, format!("{} rows are more than a data set can hold", store.rows().len()))
        })?;
        if store.meta.files as usize != files.len() || files.iter().any(|file| file.source >= weights.len()) {
            return Err(Error::new(Kind::Run, "the prepared data belongs to other files"));
        }
        let all = Dataset {
            store: Arc::new(store),
            media: Arc::new(media),
            files: files.into(),
            names,
            weights,
            rows: Vec::new(),
            lengths: Vec::new(),
            supervised: Vec::new(),
            max_length,
            from_cache,
            counts_skipped: true,
        };
        let weights = all.weights.clone();
        Ok(all.part((0..count).collect(), weights, true))
    }

    fn part(&self, rows: Vec<u32>, weights: Vec<f64>, counts_skipped: bool) -> Dataset {
        let of_rows =
            |field: fn(&RowMeta) -> u32| rows.iter().map(|&row| field(&self.store.rows()[row as usize])).collect();
        Dataset {
            lengths: of_rows(|meta| meta.length),
            supervised: of_rows(|meta| meta.supervised),
            store: self.store.clone(),
            media: self.media.clone(),
            files: self.files.clone(),
            names: self.names.clone(),
            weights,
            rows,
            max_length: self.max_length,
            from_cache: self.from_cache,
            counts_skipped,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Tokens with a loss of each row.
    pub fn supervised(&self) -> &[u32] {
        &self.supervised
    }

    /// Tokens of the longest sequence, of which a pair has two; of a part of a data set that of the whole.
    pub fn longest_sequence(&self) -> u32 {
        self.store.meta.sequences.longest
    }

    /// Whether its rows are pairs of answers.
    pub fn has_pairs(&self) -> bool {
        *self.pair_lengths() != PairLengths::default()
    }

    /// How long the answers of its pairs are; of a part of a data set those of the whole.
    pub fn pair_lengths(&self) -> &PairLengths {
        &self.store.meta.sequences.pairs
    }

    /// How many of its answers are good and how many bad, of those that are judged.
    ///
    /// # Errors
    /// When the rows of a part of a data set cannot be read.
    pub fn judged(&self) -> Result<[u64; 2]> {
        let Sequences { desirable, undesirable, .. } = self.store.meta.sequences;
        let whole = [desirable, undesirable];
        if whole == [0, 0] || self.len() == self.store.rows().len() {
            return Ok(whole);
        }
        let mut part = [0, 0];
        for row in 0..self.len() {
            if let Some(desirable) = self.get(row)?.desirable {
                part[usize::from(!desirable)] += 1;
            }
        }
        Ok(part)
    }

    /// The most tokens that a sequence of a row was allowed.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Whether the rows were found in the cache.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    /// The files that rows came from.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The pictures and sounds of its rows; of a part of a data set those of the whole.
    pub fn media(&self) -> &Arc<MediaTable> {
        &self.media
    }

    /// How often `row` is seen per epoch.
    pub(super) fn weight(&self, row: usize) -> f64 {
        self.weights[self.source(row)]
    }

    /// Number of sources.
    pub(super) fn sources(&self) -> usize {
        self.weights.len()
    }

    /// Index of the source of `row`.
    pub(super) fn source(&self, row: usize) -> usize {
        self.files[self.meta(row).file_index()].source
    }

    fn meta(&self, row: usize) -> &RowMeta {
        &self.store.rows()[self.rows[row] as usize]
    }

    fn check(&self, row: usize) -> Result<()> {
        if row < self.len() {
            return Ok(());
        }
        Err(Error::new(Kind::Run, format!("there is no row {row}: the data set has {}", self.len())))
    }

    /// Reads a row's tokens.
    ///
    /// # Errors
    /// When there is no such row, or the cache file cannot be read or has been damaged since it was opened.
    pub fn get(&self, row: usize) -> Result<Tokenized> {
        self.check(row)?;
        self.store.get(self.rows[row] as usize)
    }

    /// Where a row came from.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn origin(&self, row: usize) -> Result<RowId> {
        self.check(row)?;
        let meta = self.meta(row);
        Ok(RowId { file: self.files[meta.file_index()].path.clone(), row: meta.row })
    }

    /// How `row` was read.
    pub(super) fn layout(&self, row: usize) -> &Layout {
        &self.files[self.meta(row).file_index()].layout
    }

    /// Which part of its file's row `row` is, from 1, and how many there are: of a long text that became several.
    pub(super) fn part_of_row(&self, row: usize) -> (usize, usize) {
        let place = |meta: &RowMeta| (meta.file_index(), meta.row);
        // Rows are stored in the order of files and of the rows in them.
        let (rows, here) = (self.store.rows(), place(self.meta(row)));
        let first = rows.partition_point(|meta| place(meta) < here);
        let end = rows.partition_point(|meta| place(meta) <= here);
        (self.rows[row] as usize + 1 - first, end - first)
    }

    /// BLAKE3, in hexadecimal, over what decides which tokens are trained on: each row's content in order, and how
    /// often it is seen. Where the rows came from does not matter.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for row in 0..self.len() {
            hasher.update(&self.meta(row).hash.to_le_bytes());
            hasher.update(&self.weight(row).to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Splits off about `fraction` of the rows: `(rest, split off)`. Which rows is decided by each row's content and
    /// `seed`, so equal rows stay on one side, and adding rows moves no other. Rows that are split off are seen once
    /// per epoch, whatever the weight of their source.
    ///
    /// # Errors
    /// When `fraction` is not between 0 and 1, or there are no two different rows.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::new(Kind::Recipe, format!("`eval_fraction` must be between 0 and 1, found {fraction}")));
        }
        let lots: Vec<u64> = self.rows.iter().map(|&row| lot(self.store.rows()[row as usize].hash, seed)).collect();
        let (lowest, highest) = lots.iter().fold((u64::MAX, 0), |(low, high), &lot| (low.min(lot), high.max(lot)));
        if lowest >= highest {
            return Err(Error::new(Kind::Data, "`eval_fraction` needs at least two different rows"));
        }
        // Both sides get at least one row.
        let bound = ((fraction * 2_f64.powi(64)) as u64).clamp(lowest, highest - 1);
        let side = |inside: bool| {
            self.rows.iter().zip(&lots).filter(|&(_, &lot)| (lot <= bound) == inside).map(|(&row, _)| row).collect()
        };
        let once = self.weights.iter().map(|weight| weight.ceil().min(1.0)).collect();
        Ok((self.part(side(false), self.weights.clone(), self.counts_skipped), self.part(side(true), once, false)))
    }

    /// Which of its rows are seen in `other` too: the same row of the same file, whatever became of it, or the same tokens from
    /// anywhere.
    pub fn shared_with(&self, other: &Dataset) -> Vec<bool> {
        let (mut by_content, mut by_place) = (HashMap::<_, Vec<usize>>::new(), HashMap::<_, Vec<usize>>::new());
        for row in 0..self.len() {
            by_content.entry(self.meta(row).hash).or_default().push(row);
            by_place.entry(self.place(row)).or_default().push(row);
        }
        let mut shared = vec![false; self.len()];
        for row in (0..other.len()).filter(|&row| other.weight(row) > 0.0) {
            let same = [by_content.remove(&other.meta(row).hash), by_place.remove(&other.place(row))];
            same.into_iter().flatten().flatten().for_each(|row| shared[row] = true);
        }
        shared
    }

    /// The content of its file, the row in it, and which part of that `row` is.
    fn place(&self, row: usize) -> (&str, u32, (usize, usize)) {
        let meta = self.meta(row);
        (&self.files[meta.file_index()].blake3, meta.row, self.part_of_row(row))
    }

    /// Whether there are two rows that differ, as [`Dataset::split`] needs.
    pub fn has_two_rows(&self) -> bool {
        let hash = |row: &u32| self.store.rows()[*row as usize].hash;
        self.rows.windows(2).any(|pair| hash(&pair[0]) != hash(&pair[1]))
    }

    /// Counts of rows and tokens.
    pub fn stats(&self) -> Stats {
        let meta = &self.store.meta;
        let losses: &[Losses] = if self.counts_skipped { &meta.losses } else { &[] };
        let mut all = Losses::default();
        losses.iter().for_each(|losses| all.extend(losses));
        let mut rows_of_file = vec![0; self.files.len()];
        let (mut truncated, mut repeated, mut seen) = (0, 0, HashSet::new());
        for row in 0..self.len() {
            repeated += u64::from(!seen.insert(self.meta(row).hash));
            rows_of_file[self.meta(row).file_index()] += 1;
            truncated += u64::from(self.meta(row).truncated());
        }
        let sum = |numbers: &[u32]| numbers.iter().map(|&n| u64::from(n)).sum();
        Stats {
            rows: self.len() as u64,
            tokens: sum(&self.lengths),
            supervised_tokens: sum(&self.supervised),
            lengths: Lengths::of(&self.lengths),
            max_length: self.max_length as u64,
            images: self.media().count(MediaKind::Image) as u64,
            sounds: self.media().count(MediaKind::Audio) as u64,
            truncated,
            repeated,
            skipped: all.skipped.iter().map(|(reason, rows)| (*reason, rows.rows)).collect(),
            skipped_rows: meta
                .skipped_rows
                .iter()
                .filter(|_| self.counts_skipped)
                .map(|row| SkippedStats {
                    file: self.files.get(row.file as usize).map(|f| f.path.display().to_string()).unwrap_or_default(),
                    row: row.row,
                    reason: row.reason,
                    why: row.why.clone(),
                })
                .collect(),
            left_out: self.left_out(&all, kept(self.store.rows().iter())),
            unused_columns: all.unused,
            sources: (0..self.weights.len()).map(|source| self.source_stats(source)).collect(),
            files: self
                .files
                .iter()
                .zip(rows_of_file)
                .map(|(file, rows)| FileStats {
                    path: file.path.display().to_string(),
                    rows,
                    blake3: file.blake3.clone(),
                })
                .collect(),
            fill_rate: None,
        }
    }
}

impl Dataset {
    /// How many rows, how long: what decides how they are best trained on.
    pub fn totals(&self) -> Totals {
        let sum = |numbers: &[u32]| numbers.iter().map(|&n| u64::from(n)).sum();
        Totals {
            rows: self.len() as u64,
            tokens: sum(&self.lengths),
            supervised_tokens: sum(&self.supervised),
            longest: self.lengths.iter().copied().max().unwrap_or(0),
        }
    }

    fn source_stats(&self, source: usize) -> SourceStats {
        let (mut rows, mut tokens, mut supervised_tokens) = (0, 0, 0);
        for row in (0..self.len()).filter(|&row| self.source(row) == source) {
            rows += 1;
            tokens += u64::from(self.lengths[row]);
            supervised_tokens += u64::from(self.supervised[row]);
        }
        let mut formats: Vec<String> = Vec::new();
        for file in self.files.iter().filter(|file| file.source == source) {
            let format = file.layout.describe();
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        let read = kept(self.store.rows().iter().filter(|row| self.files[row.file_index()].source == source));
        let losses = self.store.meta.losses.get(source).filter(|_| self.counts_skipped);
        SourceStats {
            path: self.names[source].clone(),
            format: formats.join("; "),
            rows,
            tokens,
            supervised_tokens,
            left_out: losses.map(|losses| self.left_out(losses, read)).unwrap_or_default(),
        }
    }

    /// What `losses` say of the sources of which so many rows and tokens are kept.
    fn left_out(&self, losses: &Losses, (kept_rows, kept_tokens): (u64, u64)) -> Vec<LeftOut> {
        let Losses {
            truncated,
            split,
            pieces,
            empty,
            empty_rejected,
            words_for_nothing,
            unasked,
            control_words,
            ends,
            placeholders,
            cut_sounds,
            cut_sound_ms,
            split_sounds,
            split_sound_ms,
            skipped,
            unused: _,
        } = losses;
        let skipped_rows: u64 = skipped.values().map(|rows| rows.rows).sum();
        let skipped_tokens: u64 = skipped.values().map(|rows| rows.tokens).sum();
        // A long text is one row of its file.
        let rows = (kept_rows + skipped_rows + split.rows).saturating_sub(*pieces);
        let tokens = kept_tokens + truncated.tokens + skipped_tokens;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let named = |what: String, rows_of: &Marked| {
            let (file, row) = rows_of.first?;
            let file = self.files.get(file as usize)?.path.clone();
            Some(LeftOut {
                what,
                rows: rows_of.rows,
                rows_percent: percent(rows_of.rows, rows),
                tokens: rows_of.tokens,
                tokens_percent: percent(rows_of.tokens, tokens),
                first: RowId { file, row }.to_string(),
            })
        };
        let max_length = self.max_length;
        let usual = [
            named(format!("end cut off at max_length {max_length}"), truncated),
            named(format!("split into {pieces} rows of at most {max_length} tokens"), split),
            named("empty answers".into(), empty),
            named("empty answers among the rejected".into(), empty_rejected),
            named("empty prompts".into(), unasked),
            named("a word for a missing value (`nan`, `NULL`, `#N/A`), taken as text".into(), words_for_nothing),
            named("control words in messages, taken as text".into(), control_words),
            named("ends of a turn within an answer, left out".into(), ends),
            named("`<image>` or `<audio>` without a picture or sound, taken as text".into(), placeholders),
            named(format!("ends of long sounds cut off, {} in all", secs(*cut_sound_ms)), cut_sounds),
            named(format!("long sounds split into several, {} in all", secs(*split_sound_ms)), split_sounds),
        ];
        let skipped = skipped.iter().map(|(reason, rows)| named(format!("skipped, {reason}"), rows));
        usual.into_iter().chain(skipped).flatten().collect()
    }
}

/// A stretch of sound for people: one that is there is never none.
fn secs(ms: u64) -> String {
    if ms < 100 { format!("{:.3} s", ms as f64 / 1e3) } else { format!("{:.1} s", ms as f64 / 1e3) }
}

/// How many rows these are, and how many tokens they have.
fn kept<'a>(rows: impl Iterator<Item = &'a RowMeta>) -> (u64, u64) {
    rows.fold((0, 0), |(rows, tokens), row| (rows + 1, tokens + u64::from(row.length)))
}

/// The number that a row with this content draws under `seed`.
fn lot(hash: u64, seed: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hash.to_le_bytes());
    bytes[8..].copy_from_slice(&seed.to_le_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&bytes).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bytes, spec, write};
    use super::super::{RowFormat, local_only, prepare};
    use crate::progress::Silent;

    fn rows(count: usize) -> (tempfile::TempDir, super::Dataset) {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..count).map(|i| format!("{{\"text\": \"row {}\"}}\n", i % 90)).collect();
        let path = write(dir.path(), "a.jsonl", lines);
        let dataset =
            prepare(&spec(&path, RowFormat::Text), &Bytes, &dir.path().join("cache"), &local_only, &Silent).unwrap();
        (dir, dataset)
    }

    #[test]
    fn a_split_is_by_content_and_seed_and_loses_nothing() {
        let (_dir, all) = rows(100);
        let (train, eval) = all.split(0.3, 1).unwrap();
        assert_eq!(train.len() + eval.len(), 100);
        assert!((15..45).contains(&eval.len()), "{}", eval.len());
        let contents = |d: &super::Dataset| (0..d.len()).map(|i| d.get(i).unwrap().input_ids).collect::<Vec<_>>();
        assert!(contents(&eval).iter().all(|row| !contents(&train).contains(row)), "equal rows stay on one side");
        assert_eq!(all.split(0.3, 1).unwrap().1.content_hash(), eval.content_hash());
        assert_ne!(all.split(0.3, 2).unwrap().1.content_hash(), eval.content_hash());
        let first = (0..all.len()).find(|&row| all.get(row).unwrap() == eval.get(0).unwrap()).unwrap();
        assert_eq!(eval.origin(0).unwrap(), all.origin(first).unwrap());
        assert_eq!(eval.stats().rows, eval.len() as u64);
    }

    #[test]
    fn rows_are_known_again_by_their_place_and_by_their_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = |name: &str, lines: &str, max_length: usize, weight: f64| {
            let path = write(dir.path(), name, lines);
            let mut spec = spec(&path, RowFormat::Text);
            (spec.max_length, spec.sources[0].weight) = (max_length, weight);
            prepare(&spec, &Bytes, &dir.path().join("cache"), &local_only, &Silent).unwrap()
        };
        let lines =
            |texts: &[&str]| -> String { texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect() };
        let few = lines(&["one", "two", "two", "three"]);
        let trained = prepared("a.jsonl", &few, 64, 1.0);
        let shared = |asked: &super::Dataset| asked.shared_with(&trained);
        assert_eq!(shared(&prepared("b.jsonl", &lines(&["two", "four", "two"]), 64, 1.0)), [true, false, true]);
        // Cut to fewer tokens they are other tokens, of the same rows.
        assert_eq!(shared(&prepared("c.jsonl", &few, 3, 1.0)), [true; 4]);
        assert_eq!(shared(&prepared("d.jsonl", &lines(&["one more"]), 3, 1.0)), [false]);
        // Rows of weight 0 are never seen.
        assert_eq!(trained.shared_with(&prepared("a.jsonl", &few, 64, 0.0)), [false; 4]);
        let (train, eval) = trained.split(0.4, 1).unwrap();
        assert!(!eval.shared_with(&train).contains(&true));
        // Each part of a long text is a row of its own.
        let mut long = spec(&write(dir.path(), "e.jsonl", lines(&["abcdefghijklmnopqrstuvwxyz"])), RowFormat::Text);
        (long.max_length, long.on_long) = (5, None);
        let long = prepare(&long, &Bytes, &dir.path().join("cache"), &local_only, &Silent).unwrap();
        let (train, eval) = long.split(0.5, 3).unwrap();
        assert!(long.len() > 3 && !eval.shared_with(&train).contains(&true));
        assert_eq!(long.shared_with(&train).iter().filter(|shared| **shared).count(), train.len());
    }

    #[test]
    fn both_sides_of_a_split_have_rows() {
        let (_dir, two) = rows(2);
        for seed in 0..5 {
            for fraction in [1e-9, 0.999_999_999] {
                let (train, eval) = two.split(fraction, seed).unwrap();
                assert_eq!((train.len(), eval.len()), (1, 1));
            }
        }
        let (_dir, one) = rows(1);
        assert_eq!(one.split(0.5, 0).unwrap_err().what(), "`eval_fraction` needs at least two different rows");
        assert!(two.split(1.0, 0).is_err() && two.split(f64::NAN, 0).is_err());
    }

    #[test]
    fn rows_that_do_not_exist_are_errors() {
        let (_dir, two) = rows(2);
        assert_eq!(two.get(2).unwrap_err().what(), "there is no row 2: the data set has 2");
        assert!(two.origin(usize::MAX).is_err());
    }
}
