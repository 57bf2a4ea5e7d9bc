//! Files that are either whole or absent: written to a temporary name, synced, then renamed.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// How temporary names begin, of files here and of folders elsewhere.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Writes `path` through `fill`: temporary name in the same folder, flush, sync, rename, sync of the folder.
///
/// # Errors
/// On any failure the temporary file is removed and `path` is as it was before.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
    let write = || -> std::io::Result<()> {
        let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        let mut writer = BufWriter::with_capacity(1 << 20, temporary.reopen()?);
        fill(&mut writer)?;
        writer.flush()?;
        writer.get_ref().sync_all()?;
        #[cfg(unix)]
        {
            // tempfile creates 0600; a result should be readable like any other file of the user.
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o644))?;
        }
        temporary.persist(path).map_err(|e| e.error)?;
        sync_folder(folder)
    };
    write().map_err(|e| Error::io("writing", path, e))
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
