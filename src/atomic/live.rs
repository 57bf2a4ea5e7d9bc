//! What is being written under temporary names right now, so that a signal leaves none of it behind.

use super::locked::Locked;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How temporary names begin, of files and of folders.
pub(super) const TEMPORARY: &str = ".tmp-";

/// How those begin that may lie in a folder of the user, who can tell whose they are.
pub(super) const OURS: &str = ".tmp-gemma-tune-";

static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Folders that were made on the way to others, the outer before the inner.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file or folder that [`abandon`] removes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Live(PathBuf);

impl Live {
    /// Watches over `path`.
    pub(crate) fn new(path: &Path) -> Self {
        lock().push(path.to_path_buf());
        Live(path.to_path_buf())
    }

    /// Makes something at a path and watches over it. Once [`abandon`] has begun nothing is made: it waits.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn make<T: AsRef<Path>>(make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Self)> {
        let mut live = lock();
        let made = make()?;
        let path = made.as_ref().to_path_buf();
        live.push(path.clone());
        Ok((made, Live(path)))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = lock();
        if let Some(at) = live.iter().position(|path| *path == self.0) {
            live.swap_remove(at);
        }
    }
}

/// Has [`abandon`] remove `folder` where nothing is in it, until it is forgotten.
pub(super) fn remember_folder(folder: &Path) {
    MADE.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_path_buf());
}

/// Takes back one [`remember_folder`].
pub(super) fn forget_folder(folder: &Path) {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = made.iter().rposition(|path| path == folder) {
        made.remove(at);
    }
}

/// Removes everything that is being written under temporary names, and the folders that were made for it. Whoever wrote
/// it, or means to write more, waits from then on: the process is to end next.
pub fn abandon() {
    /// How long somebody who registers a file is waited for, who may himself be waiting for ever.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// A thread that still writes into a folder may keep it from going a few times.
    const TRIES: usize = 50;
    let asked = Instant::now();
    let live = loop {
        match LIVE.try_lock() {
            Ok(live) => break live,
            Err(TryLockError::Poisoned(live)) => break live.into_inner(),
            Err(TryLockError::WouldBlock) if asked.elapsed() > PATIENCE => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    for path in live.iter() {
        for _ in 0..TRIES {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if removed.is_ok() || !path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // A folder with something in it refuses to go.
    if let Ok(made) = MADE.try_lock() {
        made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    }
    std::mem::forget(live);
}

/// Removes the temporary files of writers that were killed from a folder of the user: those that are named as ours are,
/// and that nobody holds.
pub(super) fn clear_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(OURS.as_bytes());
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // The lock is held until the file is gone.
        if let Some(locked) = File::open(entry.path()).ok().and_then(|file| Locked::take(file).ok())
            && locked.is_exclusive()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
