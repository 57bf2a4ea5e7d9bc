//! Files that are either whole or absent: written to a temporary name, synced, then renamed.
//!
//! What a name leads to decides how it is written. A regular file is replaced, at the end of whatever links lead to it;
//! a device, a pipe or a socket is written into, as a shell's `>` would.

mod building;
mod check;
mod claim;
mod live;
mod locked;
mod made;
mod target;

pub(crate) use building::Building;
pub use check::check_target;
pub use claim::{Claim, may_read, nothing_was_refused, will_read};
pub use live::abandon;
pub(crate) use made::{Made, create_folders};
pub use target::is_file;
pub(crate) use target::{file_at, folder_of};

use crate::error::{Error, Result};
pub(crate) use live::Live;
use live::{OURS, TEMPORARY};
pub(crate) use locked::{Locked, Unlocked};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use target::Target;

/// Writes `path` through `fill`: temporary name in the same folder, flush, sync, rename, sync of the folder. What is no
/// regular file is written into.
///
/// # Errors
/// On any failure the temporary file is removed and a regular file at `path` is as it was before.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    match Target::of(path).map_err(|e| Error::io("writing", path, e))? {
        Target::File(file) => {
            claim::allow(&file)?;
            let folder = folder_of(&file);
            replace(&file, folder, fill).map_err(|e| Error::io("writing", path, e))
        }
        Target::Stream(stream) => write_into(&stream, fill).map_err(|e| Error::io("writing", path, e)),
    }
}

fn replace(path: &Path, folder: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(OURS);
    #[cfg(unix)]
    let everyone = {
        // tempfile creates 0600; a result should be readable like any other new file of the user.
        use std::os::unix::fs::PermissionsExt;
        fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    temporary.permissions(everyone);
    let (temporary, live) = Live::make(|| {
        fs::create_dir_all(folder)?;
        loop {
            let made = temporary.tempfile_in(folder)?;
            // The lock tells that its writer lives. Before it was there, another process may have cleared it away.
            let _ = made.as_file().try_lock();
            if made.path().exists() {
                break Ok(made);
            }
        }
    })?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.reopen()?);
    fill(&mut writer)?;
    writer.flush()?;
    #[cfg(unix)]
    if let Ok(former) = fs::metadata(path) {
        // A file that is replaced stays whose it was and open to whom it was, as far as this process may say so.
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let file = writer.get_ref();
        let _ = fchown(file, Some(former.uid()), Some(former.gid()));
        let _ = file.set_permissions(fs::Permissions::from_mode(former.mode() & 0o777));
    }
    writer.get_ref().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    drop(live);
    sync_folder(folder)
}

fn write_into(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 16, target::open_stream(path)?);
    fill(&mut writer)?;
    writer.flush()
}

/// Writes `bytes` to `path` as a whole or not at all.
///
/// # Errors
/// As [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |w| w.write_all(bytes))
}

/// Removes the temporary files and folders that killed writes left in `folder`; only while nobody else writes there.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("listing the folder", folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io("listing the folder", folder, e))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| Error::io("removing what a killed run left", &path, e))?;
        }
    }
    Ok(())
}

/// Makes renames and new files in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::from_raw_os_error(28))
        });
        assert_eq!(failed.unwrap_err().kind(), crate::error::Kind::NoSpace);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_killed_writers_left_goes_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in [".tmp-gemma-tune-killed", ".tmp-other", "mine"] {
            fs::write(at(name), "").unwrap();
        }
        write_with(&at("new"), |w| {
            live::clear_abandoned(dir.path());
            w.write_all(b"x")
        })
        .unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".tmp-other", "mine", "new"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_written_into() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link, socket) = (dir.path().join("pipe"), dir.path().join("link"), dir.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink("pipe", &link).unwrap();
        for name in [&pipe, &link] {
            let reader = pipe.clone();
            let reader = std::thread::spawn(move || fs::read_to_string(reader).unwrap());
            write(name, b"through").unwrap();
            assert_eq!(reader.join().unwrap(), "through");
        }
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        write(&socket, b"heard").unwrap();
        assert_eq!(io::read_to_string(listener.accept().unwrap().0).unwrap(), "heard");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_a_file_keeps_its_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("far/real"), dir.path().join("link"));
        symlink("far/real", &link).unwrap();
        write(&link, b"new").unwrap();
        let mode = || fs::metadata(&real).unwrap().permissions().mode() & 0o777;
        let usual = File::create(dir.path().join("usual")).unwrap().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), usual);
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        write(&link, b"newer").unwrap();
        assert_eq!((fs::read(&real).unwrap().as_slice(), mode()), (&b"newer"[..], 0o640));
        assert!(link.is_symlink());
        let failed = write(dir.path(), b"");
        assert!(failed.unwrap_err().to_string().contains("directory"), "a folder is no file");
    }

    #[test]
    fn leftovers_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join(".tmp-folder/half"), b"x").unwrap();
        write(&dir.path().join(".tmp-file"), b"x").unwrap();
        write(&dir.path().join("kept/.tmp-other"), b"x").unwrap();
        remove_leftovers(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(dir.path().join("kept/.tmp-other").exists());
    }
}
