//! Answers that are kept while others are still to come.
//!
//! A file beside the output: a first line that says what the answers belong to, and a line for each answer, in order.
//! It is appended to and made durable with every batch, so that neither a signal nor a crash loses more than one.

use super::Answer;
use crate::atomic::{self, Locked, Unlocked};
use crate::error::{Error, Kind, Result};
use crate::progress::{Progress, counted};
use crate::train::checkpoint::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What the journal's name adds to the output's.
const SUFFIX: &str = ".partial";

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    generate: Fingerprint,
}

/// How many answers there will be, and how many of them are computed together.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// All prompts.
    pub prompts: usize,
    /// Prompts of a batch; not 0.
    pub batch: usize,
}

/// An open journal, locked against others.
pub struct Journal {
    path: PathBuf,
    file: Locked,
    answers: Vec<Answer>,
}

/// Where the journal of an output lies.
fn journal_path(output: &Path) -> Result<PathBuf> {
    let mut name = atomic::file_at(output)?.unwrap_or_else(|| output.to_path_buf()).into_os_string();
    name.push(SUFFIX);
    Ok(name.into())
}

/// Checks, before any work, that an output can be begun, or continued where it is to `resume`.
///
/// # Errors
/// When answers of a run that was interrupted would be lost.
pub fn check_journal(output: &Path, resume: bool) -> Result<()> {
    let path = journal_path(output)?;
    if !path.exists() {
        return Ok(());
    }
    if !path.is_file() {
        return Err(Error::new(Kind::Recipe, "answers are kept here while others come, and this is no regular file")
            .at_path(path)
            .hint("remove it, or name another output"));
    }
    if Locked::held(&path).is_some() {
        return Err(held(output));
    }
    if resume {
        return Ok(());
    }
    let hint = format!(
        "`--resume` goes on towards `{}`; remove `{}` to begin anew; nothing was changed",
        output.display(),
        path.display()
    );
    Err(Error::new(Kind::Recipe, "answers of an interrupted run are here, and would be lost").at_path(path).hint(hint))
}

/// That somebody else is at it.
fn held(output: &Path) -> Error {
    Error::new(Kind::Run, "another process is answering into this file")
        .at_path(output)
        .hint("wait until it ends, stop it, or name another file")
}

/// Whether there are answers of an interrupted run, or at least its beginning, for `--resume` to go on from.
pub fn is_begun(output: &Path) -> bool {
    journal_path(output).is_ok_and(|path| path.is_file())
}

/// Whether an output that is to be continued is there already, with nothing left to continue.
///
/// # Errors
/// When the output is no name for a file.
pub fn is_finished(output: &Path, resume: bool) -> Result<bool> {
    Ok(resume && output.is_file() && !journal_path(output)?.exists())
}

impl Journal {
    /// Begins the journal of `output`, or continues it: whole batches of answers of the same run stay, what a crash
    /// left of others is dropped.
    ///
    /// # Errors
    /// When another process has it open, when it belongs to another run, or cannot be read or written.
    pub fn open(
        output: &Path,
        resume: bool,
        identity: &Fingerprint,
        sizes: Sizes,
        progress: &dyn Progress,
    ) -> Result<Self> {
        check_journal(output, resume)?;
        let path = journal_path(output)?;
        let failed = |e| Error::io("opening", &path, e);
        if resume && !path.exists() {
            progress.note("There is no interrupted run to continue: this one begins with the first row.");
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut file = Locked::take(file).map_err(|refused| match refused {
            Unlocked::Held(_) => held(output),
            Unlocked::Failed(e) => failed(e),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut journal = Journal { path, file, answers: Vec::new() };
        let kept = journal.read(&bytes, identity, sizes, progress)?;
        journal.continue_at(kept, identity)?;
        Ok(journal)
    }

    /// Takes the answers of whole batches and returns how many bytes they and the head are; 0 without a head.
    fn read(&mut self, bytes: &[u8], identity: &Fingerprint, sizes: Sizes, progress: &dyn Progress) -> Result<u64> {
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let Some(first) = lines.next() else { return Ok(0) };
        let head: Head = serde_json::from_slice(first).map_err(|e| {
            Error::new(Kind::Checkpoint, "the file is no journal of this program")
                .at_path(&self.path)
                .hint("it is kept; name another output, or remove it")
                .caused_by(e)
        })?;
        if let Some(difference) = identity.difference(&head.generate) {
            let what = format!("the answers so far belong to another run: {difference}");
            let error = Error::new(Kind::Checkpoint, what).at_path(&self.path);
            let error = match identity.both_values(&head.generate) {
                values if values.is_empty() => error,
                values => error.excerpt(values),
            };
            return Err(
                error.hint("resume with what the run was started with, name another output, or remove the file")
            );
        }
        let mut ends = vec![first.len() as u64];
        for line in lines {
            let Ok(answer) = serde_json::from_slice(line) else { break };
            self.answers.push(answer);
            ends.push(ends[ends.len() - 1] + line.len() as u64);
        }
        // A batch is answered together: its answers depend, in their last bits, on what they were computed with.
        let found = self.answers.len();
        self.answers.truncate(if found < sizes.prompts { found - found % sizes.batch } else { sizes.prompts });
        let kept = ends[self.answers.len()];
        if kept < bytes.len() as u64 {
            let answers = self.answers.len();
            progress.note(&format!(
                "`{}`: what follows {} is damaged or incomplete, and is generated again",
                self.path.display(),
                counted(answers, "answer")
            ));
        }
        Ok(kept)
    }

    /// Cuts the file after `kept` bytes and goes on there.
    fn continue_at(&mut self, kept: u64, identity: &Fingerprint) -> Result<()> {
        let head = Head { generate: identity.clone() };
        let mut go_on = || {
            self.file.set_len(kept)?;
            self.file.seek(SeekFrom::Start(kept))?;
            if kept == 0 {
                let mut line = serde_json::to_vec(&head)?;
                line.push(b'\n');
                self.file.write_all(&line)?;
            }
            self.file.sync_data()
        };
        go_on().map_err(|e| Error::io("writing", &self.path, e))
    }

    /// The answers so far.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Adds the answers of a batch, and makes them durable.
    ///
    /// # Errors
    /// When they cannot be written; those before stay.
    pub fn append(&mut self, answers: &[Answer]) -> Result<()> {
        let mut write = || {
            let mut lines = Vec::new();
            for answer in answers {
                serde_json::to_writer(&mut lines, answer)?;
                lines.push(b'\n');
            }
            self.file.write_all(&lines)?;
            self.file.sync_data()
        };
        write().map_err(|e| {
            Error::io("writing", &self.path, e).hint("the answers before are kept: free some space, then `--resume`")
        })?;
        self.answers.extend_from_slice(answers);
        Ok(())
    }

    /// Removes the journal: its answers are in the output now.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|e| Error::io("removing", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_run_that_goes_on_is_not_taken_for_one_that_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a.jsonl");
        let sizes = Sizes { prompts: 2, batch: 1 };
        let open = |resume| Journal::open(&output, resume, &Fingerprint::new(), sizes, &Silent);
        let first = open(false).unwrap();
        for resume in [false, true] {
            let refused = [open(resume).err().unwrap(), check_journal(&output, resume).unwrap_err()];
            assert!(refused.iter().all(|error| error.what().contains("another process is answering")), "{refused:?}");
        }
        drop(first);
        assert!(check_journal(&output, false).unwrap_err().what().contains("an interrupted run"));
        open(true).unwrap();
    }
}
