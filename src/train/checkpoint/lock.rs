//! One run per output folder.

use crate::atomic::{Live, Locked, Made, create_folders};
use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file in an output folder that a run holds.
pub const LOCK: &str = ".lock";

/// Times that a lock which vanishes between two looks is looked for again.
const TRIES: usize = 100;

/// Holds an output folder for one run, until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    file: Option<Locked>,
    is_new: bool,
    /// A signal that ends the program removes the file of a run that has written nothing.
    untouched: Mutex<Option<Live>>,
    // Goes last, when nothing is in the folders any more.
    _made: Made,
}

impl RunLock {
    /// Locks `output_dir/.lock`; creates both if need be. The file stays when the lock is gone, unless it is
    /// [withdrawn](Self::withdraw).
    ///
    /// # Errors
    /// [`Kind::Run`] if another run holds the folder, [`Kind::Recipe`] if the folder cannot be written.
    pub fn acquire(output_dir: &Path) -> Result<Self> {
        let unwritable = |e: std::io::Error| match Error::io("creating the folder", output_dir, e) {
            error if error.kind() == Kind::NoSpace => error,
            error => Error::new(Kind::Recipe, format!("`output.dir` cannot be written: {}", error.what()))
                .at_path(output_dir)
                .hint("choose a folder that you may write"),
        };
        let made = create_folders(output_dir).map_err(unwritable)?;
        let path = output_dir.join(LOCK);
        for _ in 0..TRIES {
            let is_new = !path.exists();
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let held = |file| in_use(output_dir, file);
            let mut file = Locked::take(open.map_err(unwritable)?).map_err(|refused| refused.error(&path, held))?;
            // Who held it may have withdrawn it between the two: then this is no file of the folder any more.
            if !path.exists() {
                continue;
            }
            // The number is for the message above only.
            let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
            let untouched = Mutex::new(is_new.then(|| Live::new(&path)));
            return Ok(Self { path, file: Some(file), is_new, untouched, _made: made });
        }
        Err(Error::new(Kind::Run, "other runs come and go in this output folder").at_path(output_dir))
    }

    /// Looks whether another run holds the folder; changes nothing.
    ///
    /// # Errors
    /// As of [`RunLock::acquire`], if one does.
    pub fn check_free(output_dir: &Path) -> Result<()> {
        Locked::held(&output_dir.join(LOCK)).map_or(Ok(()), |file| Err(in_use(output_dir, file)))
    }

    /// Says that something is written into the folder from now on.
    pub fn keep(&self) {
        self.untouched.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Leaves the folder as it was found: for a run that did not come to write anything into it.
    pub fn withdraw(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
        self.keep();
        self.file = None;
    }

    /// Whether the folder is really locked: some network file systems know no locks, and the run goes on without.
    pub fn is_exclusive(&self) -> bool {
        self.file.as_ref().is_some_and(Locked::is_exclusive)
    }
}

fn in_use(output_dir: &Path, mut file: File) -> Error {
    let mut text = String::new();
    // Where locked files cannot be read, the message does without the number.
    let _ = file.read_to_string(&mut text);
    let holder = text.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
    Error::new(Kind::Run, format!("another run{holder} is using this output folder"))
        .at_path(output_dir)
        .hint("wait until it ends, stop it, or choose another `output.dir`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_by_name_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out/run");
        let first = RunLock::acquire(&output).unwrap();
        assert!(first.is_exclusive());
        let error = RunLock::acquire(&output).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "error: another run (process {}) is using this output folder\n  --> {}\n  \
                 hint: wait until it ends, stop it, or choose another `output.dir`",
                std::process::id(),
                output.display()
            )
        );
        assert_eq!(error.exit_code(), 1);
        assert_eq!(RunLock::check_free(&output).unwrap_err().to_string(), error.to_string());
        drop(first);
        RunLock::check_free(&output).unwrap();
        RunLock::check_free(dir.path()).unwrap();
        RunLock::acquire(&output).unwrap();
    }
    #[test]
    fn a_withdrawn_lock_leaves_nothing_that_was_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out/run");
        RunLock::acquire(&output).unwrap().withdraw();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(RunLock::acquire(&output).unwrap());
        RunLock::acquire(&output).unwrap().withdraw();
        assert!(output.join(LOCK).exists(), "that of an earlier run stays");
    }
}
