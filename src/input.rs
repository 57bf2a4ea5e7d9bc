//! Files that are read: opened only where they are regular files, so that nothing waits for a pipe or reads a device for ever.
//!
//! Nor are they opened where they are to be written, so that no result takes the place of what it was made of.

use crate::atomic;
use crate::error::{Error, Kind, NotAFile, Result};
use crate::paths;
use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;

/// Opens the regular file at `path`.
///
/// # Errors
/// The system's, [`NotAFile`] for a folder, a pipe, a socket or a device, which [`Error::io`] makes wrong input, and the
/// refusal of a file that is to be written, which [`Error::io`] passes on.
pub fn open(path: &Path) -> io::Result<File> {
    // Before opening: a pipe without a writer would wait here.
    let metadata = std::fs::metadata(path)?;
    atomic::may_read(path).map_err(io::Error::other)?;
    match what_else(metadata.file_type()) {
        Some(what) => Err(io::Error::new(io::ErrorKind::InvalidInput, NotAFile(what))),
        None => File::open(path),
    }
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// As [`open`], and when reading fails.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::with_capacity(file.metadata().map_or(0, |m| usize::try_from(m.len()).unwrap_or(0)));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of the regular file at `path`.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.utf8_error()))
}

/// Opens the regular file that the user named at `path`.
///
/// # Errors
/// Of `kind` where the name is wrong: nothing is there, it may not be read, or it is no file.
pub fn open_named(path: &Path, kind: Kind) -> Result<File> {
    open(path).map_err(|e| wrong_name(e, path, kind))
}

/// What [`open`], [`read`] or [`read_to_string`] failed with, for a file that the user named at `path`.
pub fn wrong_name(error: io::Error, path: &Path, kind: Kind) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file",
        io::ErrorKind::PermissionDenied => "the file may not be read by this user",
        io::ErrorKind::NotADirectory => "the path leads through a file as if it were a folder",
        _ => return Error::io("opening", path, error),
    };
    let is_absent = error.kind() == io::ErrorKind::NotFound;
    let error = Error::new(kind, what).at_path(path).caused_by(error);
    match is_absent.then(|| paths::absent(path, &|found| found.is_file() || found.is_dir())).flatten() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Whether `path` stands for the program's own input, which is read once, as it comes.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new("/dev/stdin") || path.starts_with("/dev/fd")
}

/// Opens what [`is_stdin`] means.
///
/// # Errors
/// As [`open`], but for pipes, sockets and terminals, which can be read as they come.
pub fn open_stdin(path: &Path) -> io::Result<Box<dyn Read>> {
    let dash = path == Path::new("-");
    let metadata = std::fs::metadata(if dash { Path::new("/dev/stdin") } else { path });
    if let Some(what) = metadata.ok().and_then(|m| what_else(m.file_type())) {
        let terminal = what == DEVICE && io::IsTerminal::is_terminal(&io::stdin());
        if !terminal && what != PIPE && what != SOCKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, NotAFile(what)));
        }
    }
    Ok(if dash { Box::new(io::stdin()) } else { Box::new(File::open(path)?) })
}

const PIPE: &str = "a pipe";
const SOCKET: &str = "a socket";
const DEVICE: &str = "a device";

/// What something is that is no regular file.
fn what_else(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some(PIPE);
        }
        if kind.is_socket() {
            return Some(SOCKET);
        }
    }
    Some(DEVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "é").unwrap();
        assert_eq!(read_to_string(&file).unwrap(), "é");
        let folder = Error::io("reading", dir.path(), open(dir.path()).unwrap_err());
        assert_eq!((folder.what(), folder.exit_code()), ("this is a folder, not a file", 2));
        let gone = open_named(&dir.path().join("b"), Kind::Data).unwrap_err();
        assert_eq!((gone.what(), gone.exit_code()), ("there is no such file", 2));
        #[cfg(unix)]
        {
            let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
            assert_eq!(open(&dir.path().join("s")).unwrap_err().to_string(), "this is a socket, not a file");
            assert_eq!(open(Path::new("/dev/zero")).unwrap_err().to_string(), "this is a device, not a file");
        }
    }
}
