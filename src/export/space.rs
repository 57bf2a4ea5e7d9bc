//! Whether the disk has room for what is to be written.

use crate::error::{Error, Kind, Result};
use std::path::Path;

/// Refuses what the disk has no room for, before the long work; `what` names it: `the merged model`.
///
/// # Errors
/// If less than `bytes` are free where `path` is to be.
pub fn check_space(path: &Path, bytes: u64, what: &str) -> Result<()> {
    let named = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    let existing = named.into_iter().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    match fs4::available_space(existing) {
        Ok(free) if free < bytes => {
            let what = format!("{what} needs {}, but only {} are free", size(bytes), size(free));
            Err(Error::new(Kind::NoSpace, what).at_path(path).hint("free some space or choose another folder"))
        }
        // File systems that cannot tell are found out by writing.
        _ => Ok(()),
    }
}

/// Bytes in the largest unit of which there is one.
fn size(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, unit)| bytes as f64 >= *unit);
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{:.1} {name}", bytes as f64 / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_has_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/file");
        check_space(&path, 1, "the file").unwrap();
        let error = check_space(&path, 1 << 62, "the file").unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace);
        assert!(error.what().starts_with("the file needs 4611686018.4 GB, but only "), "{error}");
    }
}
