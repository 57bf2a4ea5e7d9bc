//! Files and folders that one process at a time uses.

use crate::error::Error;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// An open file or folder that is locked against everybody else, for as long as this lives.
///
/// The lock is given back by name: closing the file is not enough where another thread is starting a program right then, which has
/// everything open that this process has, from its fork until its exec.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
    is_exclusive: bool,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum Unlocked {
    /// Somebody else has it; the file, which may say who.
    Held(File),
    /// It cannot be asked for.
    Failed(io::Error),
}

impl Unlocked {
    /// The error of what is at `path`: that which `held` makes of a file that somebody else has, or why it cannot be locked.
    pub(crate) fn error(self, path: &Path, held: impl FnOnce(File) -> Error) -> Error {
        match self {
            Unlocked::Held(file) => held(file),
            Unlocked::Failed(e) => Error::io("locking", path, e),
        }
    }
}

impl Locked {
    /// Locks what is open. Some network file systems know no locks: there nobody is kept away, and it [is not
    /// exclusive](Self::is_exclusive).
    ///
    /// # Errors
    /// When somebody else holds it, or the system refuses to say.
    pub(crate) fn take(file: File) -> Result<Self, Unlocked> {
        match file.try_lock() {
            Ok(()) => Ok(Locked { file, is_exclusive: true }),
            Err(TryLockError::WouldBlock) => Err(Unlocked::Held(file)),
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                Ok(Locked { file, is_exclusive: false })
            }
            Err(TryLockError::Error(e)) => Err(Unlocked::Failed(e)),
        }
    }

    /// The file at `path` where somebody else holds it, which may say who; changes nothing. `None` where it is free, where there is none,
    /// and where that is not to be known.
    pub(crate) fn held(path: &Path) -> Option<File> {
        // Who opens a pipe waits for ever.
        if !path.is_file() {
            return None;
        }
        // Some network file systems lock nothing that is open for reading alone.
        let file = File::options().read(true).write(true).open(path).or_else(|_| File::open(path)).ok()?;
        match Self::take(file) {
            Err(Unlocked::Held(file)) => Some(file),
            Ok(_) | Err(Unlocked::Failed(_)) => None,
        }
    }

    /// Locks what is open together with all others who share it; waits for somebody who does not.
    ///
    /// # Errors
    /// When there can be no lock.
    #[cfg(any(feature = "serve", test))]
    pub(crate) fn share(file: File) -> io::Result<Self> {
        file.lock_shared()?;
        Ok(Locked { file, is_exclusive: false })
    }

    /// Whether others are really kept away.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_while_somebody_else_has_the_file_open_too() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(path.path()).unwrap();
        let locked = Locked::take(open()).unwrap();
        assert!(locked.is_exclusive());
        // As a program that is being started has it.
        let inherited = locked.try_clone().unwrap();
        assert!(matches!(Locked::take(open()), Err(Unlocked::Held(_))));
        drop(locked);
        let next = Locked::take(open()).expect("given back");
        drop((inherited, next));

        let shared = [(); 2].map(|()| Locked::share(open()).unwrap());
        assert!(matches!(Locked::take(open()), Err(Unlocked::Held(_))));
        let inherited = shared.each_ref().map(|locked| locked.try_clone().unwrap());
        drop(shared);
        assert!(Locked::take(open()).is_ok());
        drop(inherited);
    }
}
