//! Folders that are either whole or absent: filled under a temporary name, synced, then renamed into place.

use crate::atomic::{Building, create_folders, folder_of, sync_folder};
use crate::error::{Error, Kind, Result};
use crate::paths;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What may be done with a folder that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing<'a> {
    /// Only an empty folder is replaced; what a system puts there by itself stays.
    Refuse,
    /// A folder with a file of this name is one of ours and is replaced as a whole.
    ReplaceIfHas(&'a str),
}

/// Makes `dir` a folder with what `fill` writes into the path it is given.
///
/// A crash leaves `dir` as it was, or as it will be; in the moment between the two renames that replace an old folder,
/// the old one lies complete beside it as `.old-*/NAME`. What a killed process left is cleared away by the next one.
///
/// # Errors
/// An existing folder that may not be replaced ([`may_write`]), one that another process is writing, and every error of
/// `fill`; then nothing new is left.
pub fn write_folder(dir: &Path, existing: Existing<'_>, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    may_write(dir, existing)?;
    // A link to a folder stays: what it points to is replaced.
    let real = behind_links(dir);
    let parent = folder_of(&real);
    let _made = create_folders(parent).map_err(|e| Error::io("creating the folder", parent, e))?;
    let fresh = Building::begin(&real).map_err(|e| Error::io("creating a folder in", parent, e))?;
    let Some(fresh) = fresh else {
        return Err(Error::new(Kind::Run, "another process is writing this folder")
            .at_path(dir)
            .hint("wait until it ends, stop it, or choose another folder"));
    };
    fill(fresh.path()).map_err(|e| e.moved(fresh.path(), dir))?;
    sync_all(fresh.path()).map_err(|e| Error::io("writing", dir, e))?;
    may_write(dir, existing)?; // it may have been filled meanwhile
    let is_empty = !real.exists() || fs::read_dir(&real).is_ok_and(|mut entries| entries.next().is_none());
    match existing {
        Existing::Refuse if is_empty => rename_onto_empty(fresh, &real),
        Existing::Refuse => replace(fresh, &real, true),
        Existing::ReplaceIfHas(_) => replace(fresh, &real, false),
    }
    .and_then(|()| sync_folder(parent))
    .map_err(|e| Error::io("writing", dir, e))
}

/// Checks that [`write_folder`] may write `dir`, before any long work is done for it.
///
/// # Errors
/// A path without a name, a file in its place, the root of a volume, or a folder that `existing` protects.
pub fn may_write(dir: &Path, existing: Existing<'_>) -> Result<()> {
    let refuse = |what: String, hint: &str| Err(Error::new(Kind::Recipe, what).at_path(dir).hint(hint));
    if dir.file_name().is_none() {
        return refuse(format!("`{}` does not name a folder to create", dir.display()), "name a new folder");
    }
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return may_create(dir, refuse),
        Err(error) => return refuse(format!("the folder cannot be written: {error}"), "choose another folder"),
    };
    if !metadata.is_dir() {
        return refuse("a file is in the way of the folder to write".into(), "remove it or choose another folder");
    }
    if is_root_of_volume(dir) {
        let what = "this is the root of a volume, which cannot be replaced as a whole";
        let hint = format!("name a folder in it, such as `{}`", dir.join("model").display());
        return refuse(what.to_owned(), &hint);
    }
    let is_vacant = paths::is_vacant(dir).map_err(|e| Error::io("reading", dir, e))?;
    match existing {
        _ if is_vacant => Ok(()),
        Existing::ReplaceIfHas(mark) if dir.join(mark).is_file() => Ok(()),
        Existing::ReplaceIfHas(mark) => {
            refuse(format!("the folder is not empty and has no `{mark}`"), "it is kept; choose another folder")
        }
        Existing::Refuse => refuse("the folder is not empty".into(), "choose another folder or empty this one"),
    }
}

/// Checks that a folder can be made where the nearest one above it is.
fn may_create(dir: &Path, refuse: impl Fn(String, &str) -> Result<()>) -> Result<()> {
    let real = behind_links(dir);
    let above = real.ancestors().skip(1).find(|path| path.exists());
    let above = above.unwrap_or(Path::new("."));
    match tempfile::tempfile_in(above) {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("the folder cannot be made in `{}`: {error}", above.display());
            refuse(what, "choose a folder that you may write")
        }
    }
}

/// Whether a folder is where another file system begins: it cannot be renamed, nor anything onto it.
#[cfg(unix)]
fn is_root_of_volume(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    real.parent().is_some_and(|parent| device(parent) != device(&real))
}

#[cfg(not(unix))]
fn is_root_of_volume(_: &Path) -> bool {
    false
}

/// What a link leads to, also where nothing is there yet; other paths are themselves.
fn behind_links(dir: &Path) -> PathBuf {
    /// As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut at = dir.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&at) else { break };
        at = folder_of(&at).join(next);
    }
    at
}

/// Gives a folder its name, which at most an empty folder has.
fn rename_onto_empty(fresh: Building, dir: &Path) -> std::io::Result<()> {
    // Only Unix replaces an empty folder; elsewhere it has to go first.
    #[cfg(not(unix))]
    let _ = fs::remove_dir(dir);
    fs::rename(fresh.path(), dir)?;
    fresh.done();
    Ok(())
}

/// Gives a folder the name of another, which goes, but for what a system put there. `only_vacant`: there may be nothing else.
fn replace(fresh: Building, dir: &Path, only_vacant: bool) -> std::io::Result<()> {
    let mut old = None;
    if dir.exists() {
        let aside = tempfile::Builder::new().prefix(".old-").tempdir_in(folder_of(dir))?;
        let kept = aside.path().join(dir.file_name().unwrap_or_default());
        fs::rename(dir, &kept)?;
        if only_vacant && !paths::is_vacant(&kept)? && fs::rename(&kept, dir).is_ok() {
            return Err(std::io::ErrorKind::DirectoryNotEmpty.into()); // it was filled just now
        }
        old = Some((aside, kept));
    }
    if let Err(error) = fs::rename(fresh.path(), dir) {
        if let Some((aside, kept)) = old
            && fs::rename(&kept, dir).is_err()
        {
            let _ = aside.keep(); // the only copy: better a stray folder than none
        }
        return Err(error);
    }
    fresh.done();
    if let Some((aside, _)) = old.take_if(|(_, kept)| carry_over(kept, dir).is_err()) {
        let _ = aside.keep(); // somebody's bin may be in it
    }
    sync_folder(folder_of(dir))
    // `old` goes here, after the new folder is durable.
}

/// Moves what a system put into a folder to the one that takes its place.
fn carry_over(old: &Path, new: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let into = new.join(entry.file_name());
        if paths::is_of_the_system(&entry.file_name()) && !into.exists() {
            fs::rename(entry.path(), into)?;
        }
    }
    Ok(())
}

/// Makes every file below `dir` durable.
fn sync_all(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Existing<'static> = Existing::ReplaceIfHas("mark");

    fn put(dir: &Path, name: &str, text: &str) -> Result<()> {
        crate::atomic::write(&dir.join(name), text.as_bytes())
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_folder_replaces_the_old_one_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("deep/adapter");
        write_folder(&dir, OURS, |d| put(d, "mark", "1").and_then(|()| put(d, "stale", ""))).unwrap();
        write_folder(&dir, OURS, |d| put(d, "mark", "2")).unwrap();
        assert_eq!(names(&dir), ["mark"]);
        assert_eq!(fs::read_to_string(dir.join("mark")).unwrap(), "2");
        assert_eq!(names(dir.parent().unwrap()), ["adapter"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn a_failure_leaves_the_old_folder_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("adapter");
        write_folder(&dir, OURS, |d| put(d, "mark", "old")).unwrap();
        let failed = write_folder(&dir, OURS, |d| {
            put(d, "mark", "new")?;
            Err(Error::io("writing", d, std::io::Error::from_raw_os_error(28)))
        });
        assert_eq!(failed.unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(fs::read_to_string(dir.join("mark")).unwrap(), "old");
        assert_eq!(names(root.path()), ["adapter"]);
    }

    #[test]
    fn folders_of_the_user_are_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("photos");
        fs::create_dir(&dir).unwrap();
        write_folder(&dir, Existing::Refuse, |d| put(d, "cat.jpg", "")).unwrap();
        for existing in [OURS, Existing::Refuse] {
            let error = write_folder(&dir, existing, |_| Ok(())).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.what().contains("not empty"), "{error}");
        }
        assert!(may_write(&dir.join("cat.jpg"), OURS).unwrap_err().what().contains("a file is in the way"));
        assert!(may_write(Path::new(".."), OURS).is_err());
        assert_eq!(names(&dir), ["cat.jpg"]);
    }

    #[test]
    fn what_a_system_put_into_a_folder_neither_protects_it_nor_goes() {
        let root = tempfile::tempdir().unwrap();
        for existing in [Existing::Refuse, OURS] {
            let dir = root.path().join("model");
            fs::create_dir_all(dir.join(".Trash-1000")).unwrap();
            fs::write(dir.join(".Trash-1000/thesis.txt"), "t").unwrap();
            fs::write(dir.join(".DS_Store"), "").unwrap();
            write_folder(&dir, existing, |d| put(d, "mark", "x")).unwrap();
            assert_eq!(names(&dir), [".DS_Store", ".Trash-1000", "mark"]);
            assert!(dir.join(".Trash-1000/thesis.txt").exists());
            assert_eq!(names(root.path()), ["model"]);
            fs::remove_dir_all(&dir).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_root_of_a_volume_is_refused_before_any_work() {
        let error = may_write(Path::new("/proc"), Existing::Refuse).unwrap_err();
        assert_eq!(error.what(), "this is the root of a volume, which cannot be replaced as a whole");
        assert_eq!(error.hint_text(), Some("name a folder in it, such as `/proc/model`"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_pointing_where_it_pointed() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_folder(&link, OURS, |d| put(d, "mark", "x")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(names(&real), ["mark"]);
    }
}
