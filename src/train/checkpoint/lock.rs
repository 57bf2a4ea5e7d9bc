//! One run per output folder.

use crate::error::{Error, Kind, Result};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

const LOCK: &str = ".lock";

/// Holds an output folder for one run, until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
    exclusive: bool,
}

impl RunLock {
    /// Locks `output_dir/.lock`; creates both if need be. The file stays when the lock is gone.
    ///
    /// # Errors
    /// [`Kind::Run`] if another run holds the folder, [`Kind::Io`] if the file cannot be created.
    pub fn acquire(output_dir: &Path) -> Result<Self> {
        fs::create_dir_all(output_dir).map_err(|e| Error::io("creating the folder", output_dir, e))?;
        let path = output_dir.join(LOCK);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| Error::io("opening", &path, e))?;
        let exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Where locked files cannot be read, the message does without the number.
                let _ = file.read_to_string(&mut text);
                let holder = text.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
                return Err(Error::new(Kind::Run, format!("another run{holder} is using this output folder"))
                    .at_path(output_dir)
                    .hint("wait until it ends, stop it, or choose another `output.dir`"));
            }
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => false,
            Err(TryLockError::Error(e)) => return Err(Error::io("locking", &path, e)),
        };
        // The number is for the message above only.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file, exclusive })
    }

    /// Whether the folder is really locked: some network file systems know no locks, and the run goes on without.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
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
        drop(first);
        RunLock::acquire(&output).unwrap();
    }
}
