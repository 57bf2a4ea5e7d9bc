//! The answers of a run with what rewards said of them, a line for each answer: `rewards.jsonl` has those that were learnt from,
//! `eval_rewards.jsonl` those to evaluation prompts.
//!
//! The answers of a step are there before it changes the adapter, and those of an evaluation before the next of its prompts are
//! answered, so that a run that was killed need not judge them again when it goes on, and does what it would have done, whatever a
//! program would say now.

use crate::error::{Error, Kind, Place, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The step that it was drawn for, from 1; of an evaluation how many steps were done.
    pub step: u64,
    /// Where the prompt is from, as `file, row`.
    pub prompt: String,
    /// What the model said.
    pub completion: String,
    /// What each reward said of it, by name.
    pub rewards: Map<String, Value>,
    /// The sum of these, each with its weight.
    pub reward: f64,
    /// Whether it was cut off.
    pub is_cut: bool,
    /// Its tokens, the one that ends it too.
    pub tokens: Vec<u32>,
    /// The log-probability of each when it was said, where later steps ask for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<f64>,
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Answers of steps that are still to be taken, by their step.
    kept: BTreeMap<u64, Kept>,
}

/// Answers of a step, as they were found.
#[derive(Debug, Default)]
struct Kept {
    /// Where each begins in the file.
    starts: Vec<u64>,
    lines: Vec<Line>,
}

impl Journal {
    /// Opens the file of a run whose next draw is for `step`; what a crash left of a line is dropped.
    ///
    /// # Errors
    /// When it cannot be read or written, and when a whole line is no answer: nothing is cut off that a crash did not leave.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let failed = |e| Error::io("opening", path, e);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (mut kept, mut end) = (BTreeMap::<u64, Kept>::new(), 0);
        for (number, bytes) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            if !bytes.ends_with(b"\n") {
                break;
            }
            let line: Line = serde_json::from_slice(bytes).map_err(|error| {
                Error::new(Kind::Checkpoint, format!("a line is no answer of this run: {error}"))
                    .at(Place::Row { path: path.to_path_buf(), row: number + 1 })
                    .hint("put the file back as it was; without it the run goes on all the same, but asks its rewards again")
            })?;
            if line.step >= step {
                let of_step = kept.entry(line.step).or_default();
                of_step.starts.push(end);
                of_step.lines.push(line);
            }
            end += bytes.len() as u64;
        }
        let mut journal = Journal { path: path.to_owned(), file, kept };
        if end < bytes.len() as u64 {
            journal.cut(end)?;
        }
        journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(journal)
    }

    /// What is known of the answers that were drawn for a step.
    pub fn of(&self, step: u64) -> Option<&[Line]> {
        self.kept.get(&step).map(|kept| kept.lines.as_slice())
    }

    /// Keeps answers of a step, durably, after the first `before` of it, in the place of what else is known of it and of later steps.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep(&mut self, step: u64, before: usize, lines: &[Line]) -> Result<()> {
        let of_step = self.kept.get(&step).and_then(|kept| kept.starts.get(before));
        let later = || self.kept.range(step + 1..).find_map(|(_, kept)| kept.starts.first());
        if let Some(&start) = of_step.or_else(later) {
            self.cut(start)?;
            self.kept.retain(|of, _| *of <= step);
            if let Some(kept) = self.kept.get_mut(&step) {
                kept.starts.truncate(before);
                kept.lines.truncate(before);
            }
        }
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line).map_err(|e| Error::io("writing", &self.path, e.into()))?;
            bytes.push(b'\n');
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::io("writing", &self.path, e))
    }

    /// Forgets the steps before this one, which are taken; their lines stay in the file.
    pub fn forget(&mut self, step: u64) {
        self.kept = self.kept.split_off(&step);
    }

    fn cut(&mut self, end: u64) -> Result<()> {
        let cut = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        cut.map(drop).map_err(|e| Error::io("writing", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(step: u64, token: u32) -> Line {
        Line {
            step,
            prompt: "a.jsonl, row 1".into(),
            completion: "é".into(),
            rewards: Map::new(),
            reward: 0.1 + 0.2,
            is_cut: false,
            tokens: vec![token, 1],
            old: vec![-1.0 / 3.0],
        }
    }

    #[test]
    fn what_is_kept_is_read_back_to_the_bit_and_what_is_torn_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rewards.jsonl");
        let mut journal = Journal::open(&path, 1).unwrap();
        for step in 1..=3 {
            journal.keep(step, 0, &[line(step, 7), line(step, 8)]).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"step\": 4, \"pro"].concat()).unwrap();
        let mut journal = Journal::open(&path, 2).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(journal.of(1), None);
        assert_eq!(journal.of(2), Some(&[line(2, 7), line(2, 8)][..]));
        let spoilt = String::from_utf8(whole.clone()).unwrap().replacen("\"step\":2", "\"stp\":2", 1);
        fs::write(&path, &spoilt).unwrap();
        let error = Journal::open(&path, 1).unwrap_err();
        assert!(
            error.to_string().contains("a line is no answer of this run") && error.to_string().contains("row 3"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), spoilt);
        fs::write(&path, &whole).unwrap();
        // What differs takes the place of all that came after it.
        journal.keep(2, 0, &[line(2, 9)]).unwrap();
        let again = Journal::open(&path, 1).unwrap();
        assert_eq!((again.of(1).unwrap().len(), again.of(2), again.of(3)), (2, Some(&[line(2, 9)][..]), None));
    }

    #[test]
    fn a_step_is_kept_part_by_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eval_rewards.jsonl");
        let tokens = |journal: &Journal, step| {
            let lines = journal.of(step).unwrap_or_default();
            lines.iter().map(|line| line.tokens[0]).collect::<Vec<_>>()
        };
        let mut journal = Journal::open(&path, 0).unwrap();
        for (step, before, token) in [(0, 0, 10), (0, 2, 12), (4, 0, 40), (4, 2, 42), (8, 0, 80)] {
            journal.keep(step, before, &[line(step, token), line(step, token + 1)]).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let mut journal = Journal::open(&path, 4).unwrap();
        assert_eq!(
            (tokens(&journal, 0), tokens(&journal, 4), tokens(&journal, 8)),
            (vec![], vec![40, 41, 42, 43], vec![80, 81])
        );
        // The second part of it differs: the first stays, and so does what came before.
        journal.keep(4, 2, &[line(4, 7), line(4, 8)]).unwrap();
        journal.keep(4, 4, &[line(4, 9)]).unwrap();
        assert_eq!(tokens(&journal, 4), [40, 41], "what was found of it");
        let again = Journal::open(&path, 0).unwrap();
        assert_eq!(
            (tokens(&again, 0), tokens(&again, 4), again.of(8)),
            (vec![10, 11, 12, 13], vec![40, 41, 7, 8, 9], None)
        );
        // What a crash left of a part is no part: its whole lines go too.
        let lines = |count: usize| whole.split_inclusive(|&byte| byte == b'\n').take(count).flatten().copied();
        fs::write(&path, lines(7).collect::<Vec<u8>>()).unwrap();
        let mut journal = Journal::open(&path, 4).unwrap();
        assert_eq!(tokens(&journal, 4), [40, 41, 42]);
        journal.keep(4, 2, &[line(4, 42), line(4, 43)]).unwrap();
        journal.keep(8, 0, &[line(8, 80), line(8, 81)]).unwrap();
        assert!(fs::read(&path).unwrap() == whole);
    }
}
