//! What is to be written, known to whoever opens a file to read it: a process that writes a file reads none of its bytes.
//!
//! Nobody keeps a list of what a verb reads. A name to be written is claimed before anything is read, and every file is
//! opened through [`crate::input`], which asks here; so the refusal comes from the opening itself, whether a model, a blob of
//! a store, a recipe or a picture that a row names. Who swallows that error loses the right to write: [`allow`] asks again.

use super::target::is_same;
use crate::error::{Error, Kind, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A name that is to be written; while it lives, what it leads to is not opened for reading.
#[must_use = "what is to be written may be read again when this is dropped"]
#[derive(Debug)]
pub struct Claim(u64);

/// What is known of a name that is to be written.
struct Claimed {
    id: u64,
    option: String,
    /// As the user wrote it.
    named: PathBuf,
    /// The file that is replaced, or the folder; `None` of a device or a pipe.
    leads_to: Option<PathBuf>,
    /// What was opened although it was refused.
    read: Option<PathBuf>,
}

static CLAIMED: Mutex<Vec<Claimed>> = Mutex::new(Vec::new());

/// How many there are, so that where nothing is to be written, reading costs nothing more.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn claimed() -> MutexGuard<'static, Vec<Claimed>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claim {
    /// Claims `named` for `option`; `leads_to` is the file that it leads to, where it leads to one.
    ///
    /// # Errors
    /// [`Kind::Recipe`] where another option is to write the same: the second would replace the first.
    pub(super) fn file(option: &str, named: &Path, leads_to: Option<PathBuf>) -> Result<Self> {
        let place = |path: &Path| Some((fs::canonicalize(super::folder_of(path)).ok()?, path.file_name()?.to_owned()));
        let mut all = claimed();
        let is_same_place = |other: &&Claimed| {
            let places = |one: &Path, other: &Path| place(one).is_some_and(|found| Some(found) == place(other));
            let new = leads_to.as_deref().zip(other.leads_to.as_deref()).is_some_and(|(one, other)| places(one, other));
            new || is_same(named, &other.named)
        };
        if let Some(other) = all.iter().find(is_same_place) {
            let what = format!("`{}` and `{option}` name the same file", other.option);
            return Err(Error::new(Kind::Recipe, what).at_path(named).hint("each needs one of its own"));
        }
        Ok(Claim::of(&mut all, option, named, leads_to))
    }

    /// Claims a folder that is replaced as a whole, with the files in it, for `option`.
    pub fn folder(option: &str, named: &Path) -> Self {
        Claim::of(&mut claimed(), option, named, Some(named.to_path_buf()))
    }

    fn of(all: &mut Vec<Claimed>, option: &str, named: &Path, leads_to: Option<PathBuf>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        all.push(Claimed { id, option: option.to_owned(), named: named.to_path_buf(), leads_to, read: None });
        COUNT.store(all.len(), Ordering::SeqCst);
        Claim(id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = claimed();
        all.retain(|claimed| claimed.id != self.0);
        COUNT.store(all.len(), Ordering::SeqCst);
    }
}

impl Claimed {
    /// Whether writing would change the file at `path`.
    fn covers(&self, path: &Path) -> bool {
        let Some(leads_to) = &self.leads_to else { return false };
        if is_same(leads_to, path) {
            return true;
        }
        let inside =
            || fs::canonicalize(path).ok()?.strip_prefix(fs::canonicalize(leads_to).ok()?).is_ok().then_some(());
        leads_to.is_dir() && inside().is_some()
    }

    fn refusal(&self, read: &Path) -> Error {
        let what = match self.leads_to.as_ref().is_some_and(|folder| folder.is_dir()) {
            true => format!("`{}` is a folder with a file that is read: `{}`", self.option, read.display()),
            false => format!("`{}` is a file that is read: `{}`", self.option, read.display()),
        };
        Error::new(Kind::Recipe, what).at_path(&self.named).hint("it is kept; name another file")
    }
}

/// Checks that the file at `path` may be opened for reading: it is none that is to be written.
///
/// # Errors
/// [`Kind::Recipe`] if it is.
pub fn may_read(path: &Path) -> Result<()> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return Ok(());
    }
    let mut all = claimed();
    let Some(claimed) = all.iter_mut().find(|claimed| claimed.covers(path)) else { return Ok(()) };
    claimed.read = Some(path.to_path_buf());
    Err(claimed.refusal(path))
}

/// As [`may_read`], of what will be read only later: a file, or the files in a folder. Says so before any work.
///
/// # Errors
/// As [`may_read`].
pub fn will_read(path: &Path) -> Result<()> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return Ok(());
    }
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().filter(|entry| !entry.path().is_dir()).try_for_each(|e| may_read(&e.path())),
        Err(_) => may_read(path),
    }
}

/// Checks that nobody wanted to read what is to be written, also where the refusal was taken for something else, such as a
/// row whose picture is missing. Asked where long work begins.
///
/// # Errors
/// The refusal.
pub fn nothing_was_refused() -> Result<()> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return Ok(());
    }
    claimed().iter().find_map(|claimed| Some(claimed.refusal(claimed.read.as_ref()?))).map_or(Ok(()), Err)
}

/// Checks that the file at `path` may be replaced: nobody wanted to read it while it was claimed.
pub(super) fn allow(path: &Path) -> Result<()> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return Ok(());
    }
    let all = claimed();
    let wanted = all.iter().find_map(|claimed| {
        let read = claimed.read.as_ref()?;
        claimed.leads_to.as_ref().filter(|leads_to| *leads_to == path || is_same(leads_to, path))?;
        Some(claimed.refusal(read))
    });
    wanted.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::{check_target, write};
    use crate::input;

    #[test]
    fn what_is_to_be_written_is_not_opened_and_who_goes_on_does_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("rows"), "r").unwrap();
        fs::hard_link(at("rows"), at("hard")).unwrap();
        fs::write(at("other"), "o").unwrap();
        let claim = check_target("--output", &at("hard"), &[]).unwrap();
        assert_eq!(input::read(&at("other")).unwrap(), b"o");
        let error = Error::io("reading", at("rows"), input::read(&at("rows")).unwrap_err());
        let what = format!("`--output` is a file that is read: `{}`", at("rows").display());
        assert_eq!((error.what(), error.exit_code()), (what.as_str(), 2));
        assert_eq!(error.place().unwrap().to_string(), at("hard").display().to_string());
        assert_eq!(write(&at("hard"), b"new").unwrap_err().what(), what, "somebody took no notice");
        assert_eq!(fs::read(at("hard")).unwrap(), b"r");
        drop(claim);
        assert_eq!(input::read(&at("rows")).unwrap(), b"r");
        write(&at("hard"), b"new").unwrap();
    }

    #[test]
    fn what_was_written_is_no_other_file_and_two_names_are_not_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _claim = check_target("--output", &at("new"), &[]).unwrap();
        for same in ["new", "./new"] {
            let error = check_target("--logits", &at(same), &[]).unwrap_err();
            assert_eq!(error.what(), "`--output` and `--logits` name the same file");
        }
        write(&at("new"), b"n").unwrap();
        drop(check_target("--logits", &at("other"), &[]).unwrap());
        write(&at("other"), b"o").unwrap();
        assert_eq!(input::read(&at("other")).unwrap(), b"o");
    }

    #[test]
    fn a_folder_that_is_replaced_keeps_what_is_read_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("into/deep/model.gguf");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "m").unwrap();
        let into = dir.path().join("into");
        let claim = Claim::folder("--output", &into);
        let said = may_read(&file).unwrap_err();
        assert_eq!(said.what(), format!("`--output` is a folder with a file that is read: `{}`", file.display()));
        will_read(dir.path()).unwrap();
        will_read(file.parent().unwrap()).unwrap_err();
        drop(claim);
        may_read(&file).unwrap();
    }
}
