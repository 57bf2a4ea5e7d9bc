//! Whether what is to be written can be, asked before any work is done for it.

use super::claim::{Claim, will_read};
use super::live::clear_abandoned;
use super::target::{Target, folder_of};
use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Checks that a file can be written under the name that the user gave for `option`, before any work is done for it and
/// before anything is read: while what is returned lives, nothing that would be overwritten can be opened for reading.
/// What is known to be read, `inputs` (files, or folders with the files in them), is refused at once.
///
/// # Errors
/// [`Kind::Recipe`] for a folder, a name in a folder that is missing or not writable, a file that may not be written,
/// the file of another option, and for one of the inputs by whatever name.
pub fn check_target(option: &str, path: &Path, inputs: &[&Path]) -> Result<Claim> {
    let file = check_writable(option, path)?;
    let claim = Claim::file(option, path, file.clone())?;
    inputs.iter().try_for_each(|input| will_read(input))?;
    // Only now is anything made: a file of the input's is not even touched.
    file.map_or(Ok(()), |file| try_writing(option, path, &file))?;
    Ok(claim)
}

/// Checks that a name leads to a place for a file, and says to which; to none where it leads to a device or a pipe.
fn check_writable(option: &str, path: &Path) -> Result<Option<PathBuf>> {
    let wrong = |what: String, hint: &str| Err(Error::new(Kind::Recipe, what).at_path(path).hint(hint));
    let file = match Target::of(path) {
        Ok(Target::File(file)) => file,
        Ok(Target::Stream(stream)) => {
            let open = |found: fs::Metadata| match found.is_file() {
                true if is_of_the_system(&found) => Err(io::ErrorKind::PermissionDenied.into()),
                true => File::options().append(true).open(&stream).map(drop), // nothing comes of it
                false if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
                false => Ok(()), // a device may do something when it is opened, and a pipe waits
            };
            return match fs::metadata(&stream).and_then(open) {
                Ok(()) => Ok(None),
                Err(error) => wrong(format!("`{option}` cannot be written: {error}"), "name another file"),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return wrong(format!("`{option}` names a folder"), "name a file, in this folder or another");
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return wrong(format!("`{option}` is empty"), "name a file");
        }
        Err(error) => return wrong(format!("`{option}` cannot be written: {error}"), "name another file"),
    };
    let folder = folder_of(&file);
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let what = format!("`{option}` needs a folder, and `{}` is a file", folder.display());
            return wrong(what, "name a file in a folder");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("`{option}` names a file in `{}`, which does not exist", folder.display());
            return wrong(what, "create the folder, or name another file");
        }
        Err(error) => return wrong(format!("`{option}` cannot be written: {error}"), "name another file"),
    }
    Ok(Some(file))
}

/// Checks that a file that is there takes writing, and its folder a file beside it, which becomes the new one.
fn try_writing(option: &str, path: &Path, file: &Path) -> Result<()> {
    let folder = folder_of(file);
    clear_abandoned(folder);
    let existing = if file.exists() { File::options().write(true).open(file).map(drop) } else { Ok(()) };
    existing.and_then(|()| tempfile::tempfile_in(folder).map(drop)).map_err(|error| {
        Error::new(Kind::Recipe, format!("`{option}` cannot be written: {error}"))
            .at_path(path)
            .hint("name a file in a folder that you may write")
    })
}

/// Whether a file tells something of the system, and keeps nothing.
fn is_of_the_system(file: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata("/proc").is_ok_and(|proc| proc.dev() == file.dev())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_cannot_be_written_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("model")).unwrap();
        fs::write(at("model/weights"), "w").unwrap();
        fs::write(at("rows"), "r").unwrap();
        symlink("rows", at("link")).unwrap();
        fs::hard_link(at("model/weights"), at("hard")).unwrap();
        let check = |name: &str| check_target("--output", &at(name), &[&at("rows"), &at("model"), &at("none")]);
        let refused = |name: &str| {
            let error = check(name).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.what().replace(&format!("{}/", dir.path().display()), "")
        };
        drop(check("new").unwrap());
        assert_eq!(refused("rows"), "`--output` is a file that is read: `rows`");
        assert_eq!(refused("link"), "`--output` is a file that is read: `rows`");
        assert_eq!(refused("hard"), "`--output` is a file that is read: `model/weights`");
        assert_eq!(refused("model"), "`--output` names a folder");
        assert_eq!(refused("none/new"), "`--output` names a file in `none`, which does not exist");
        assert_eq!(refused("rows/new"), "`--output` needs a folder, and `rows` is a file");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "nothing is left by looking: {left:?}");
    }
}
