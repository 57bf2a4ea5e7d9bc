//! Folders that are made on the way to another, and go again where nothing comes into them.

use super::live::{forget_folder, remember_folder};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that were missing, the outermost first. Those that are empty when this is dropped are removed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Made(Vec<PathBuf>);

/// Makes `path` and all folders above it that are missing.
///
/// # Errors
/// When one cannot be made; then none stays.
pub(crate) fn create_folders(path: &Path) -> io::Result<Made> {
    let named = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    let mut missing: Vec<PathBuf> = named.take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
    missing.reverse();
    missing.iter().for_each(|folder| remember_folder(folder));
    let made = Made(missing);
    fs::create_dir_all(path)?;
    Ok(made)
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().for_each(|folder| forget_folder(folder));
        // A folder with something in it refuses to go.
        while self.0.pop().is_some_and(|folder| fs::remove_dir(folder).is_ok()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_empty_goes_again() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        drop(create_folders(&deep).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        fs::create_dir(root.path().join("a")).unwrap();
        let made = create_folders(&deep).unwrap();
        fs::write(root.path().join("a/b/file"), "").unwrap();
        drop(made);
        assert!(!deep.exists() && root.path().join("a/b/file").exists());
        fs::remove_file(root.path().join("a/b/file")).unwrap();
        drop(create_folders(&root.path().join("a/b")).unwrap());
        assert!(root.path().join("a/b").exists(), "what was there before stays");
        let blocked = root.path().join("a/b/file/c");
        fs::write(root.path().join("a/b/file"), "").unwrap();
        assert!(create_folders(&blocked).is_err());
    }
}
