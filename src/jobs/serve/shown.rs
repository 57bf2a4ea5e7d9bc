//! What is kept of the pictures and sounds that requests show: the last ones, as many as there is room for.
//!
//! A chat shows its pictures again with each of its turns, and a client may show ever others: what towers say of them is kept in a
//! folder of its own, beside that of training, and what was not asked for longest goes first. Whoever uses the folder holds a lock on
//! it that others can share, and whoever takes something out of it one that nobody can.

use crate::atomic::Locked;
use crate::error::Result;
use crate::jobs::run::cache::Cache;
use crate::progress::Progress;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Bytes that are kept.
const MOST_BYTES: u64 = 4 << 30;
/// How often is looked how many there are.
const LOOK: Duration = Duration::from_secs(60);
/// Of how many a folder with too many keeps, in hundredths of the most: looking is not to be worth it each time.
const KEPT_HUNDREDTHS: u64 = 90;
/// The file that is locked.
const LOCK: &str = "lock";

/// The folder of what requests show.
#[derive(Default)]
pub struct Shown {
    looked: Mutex<Option<Instant>>,
}

impl Shown {
    /// The folder, and the lock under which it is used.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn open(&self, progress: &dyn Progress) -> Result<(Cache, Option<Locked>)> {
        let folder = match Cache::open(progress)? {
            Cache::Kept(data) => data.with_file_name("served"),
            private => return Ok((private, None)),
        };
        let is_due = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = looked.is_none_or(|at| at.elapsed() >= LOOK);
            looked.take_if(|_| is_due);
            looked.get_or_insert_with(Instant::now);
            is_due
        };
        let lock = lock(&folder, is_due.then_some(MOST_BYTES));
        Ok((Cache::Kept(folder), lock))
    }
}

/// The lock on a folder, from which what is older is taken first where it has more bytes than `most`; nothing where there can be none.
fn lock(folder: &Path, most: Option<u64>) -> Option<Locked> {
    fs::create_dir_all(folder).ok()?;
    let open = || File::options().create(true).append(true).open(folder.join(LOCK)).ok();
    if let Some(most) = most
        && let Ok(locked) = Locked::take(open()?)
        && locked.is_exclusive()
    {
        prune(folder, most);
    }
    Locked::share(open()?).ok()
}

/// Takes files out of a folder, those that were not used for longest first, until it has few enough bytes.
fn prune(folder: &Path, most: u64) {
    let mut files = files(folder);
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    if bytes <= most {
        return;
    }
    files.sort_by_key(|(used, ..)| *used);
    for (_, size, path) in files {
        if bytes <= most / 100 * KEPT_HUNDREDTHS {
            return;
        }
        // What cannot be taken away is looked at the next time.
        if fs::remove_file(path).is_ok() {
            bytes = bytes.saturating_sub(size);
        }
    }
}

/// The files in a folder and those in it, each with when it was used and its bytes.
fn files(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            match about.is_dir() {
                true => folders.push(entry.path()),
                false if entry.file_name() == LOCK => {}
                false => found.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path())),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_nothing_while_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("served");
        let path = |name: &str| folder.join("features/key").join(name);
        fs::create_dir_all(path("")).unwrap();
        for (age, name) in ["new", "old", "older"].into_iter().enumerate() {
            fs::write(path(name), [0; 1000]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(1000 * age as u64);
            File::options().append(true).open(path(name)).unwrap().set_modified(used).unwrap();
        }
        let left = || ["new", "old", "older"].map(|name| path(name).exists());
        let used = lock(&folder, Some(3000)).expect("a lock");
        assert_eq!(left(), [true; 3], "there is room");
        let other = lock(&folder, Some(1000)).expect("another one");
        assert_eq!(left(), [true; 3], "somebody uses it");
        drop((used, other));
        let used = lock(&folder, Some(2500)).expect("a lock");
        assert_eq!(left(), [true, true, false]);
        drop(used);
        drop(lock(&folder, Some(1200)));
        assert_eq!(left(), [true, false, false]);
        assert!(folder.join(LOCK).exists() && lock(&folder, None).is_some());
    }
}
