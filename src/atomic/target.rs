//! Where a name leads that is to be written.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Links that are followed from a name, as many as Linux does.
const MAX_LINKS: usize = 40;

/// Names of what the process was started with: whoever opened it decides what it is, also where it is a file.
const DESCRIPTORS: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A regular file, or none yet: it is replaced as a whole. This is what links lead to, so that they stay.
    File(PathBuf),
    /// A device, a pipe, a socket: it is written into and stays what it is.
    Stream(PathBuf),
}

impl Target {
    /// Follows `path`.
    ///
    /// # Errors
    /// A folder, a name that is none, links that lead in a circle.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let bytes = path.as_os_str().as_encoded_bytes();
        if path.file_name().is_none() || bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
            let what = if bytes.is_empty() { io::ErrorKind::InvalidInput } else { io::ErrorKind::IsADirectory };
            return Err(what.into());
        }
        let mut at = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            let inherited = |path: &Path| DESCRIPTORS.iter().any(|name| path.starts_with(name));
            if inherited(&at) || fs::canonicalize(folder_of(&at)).is_ok_and(|folder| inherited(&folder)) {
                return Ok(Target::Stream(at));
            }
            match fs::symlink_metadata(&at) {
                Ok(found) if found.is_symlink() => at = folder_of(&at).join(fs::read_link(&at)?),
                Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
                Ok(found) if !found.is_file() => return Ok(Target::Stream(at)),
                Ok(_) => return Ok(Target::File(at)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(Target::File(at)); // its folder is looked at by who writes it
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many links lead from one to the next"))
    }
}

/// Opens what is no regular file for writing at its end.
#[cfg(unix)]
pub(super) fn open_stream(path: &Path) -> io::Result<File> {
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt;
    let is_descriptor = |number: u8, name: &str| {
        path == Path::new(name)
            || ["/dev/fd", "/proc/self/fd"].iter().any(|f| path == Path::new(f).join(number.to_string()))
    };
    // The very descriptor, so that what is written before and after lies before and after.
    if is_descriptor(1, "/dev/stdout") {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from);
    }
    if is_descriptor(2, "/dev/stderr") {
        return io::stderr().as_fd().try_clone_to_owned().map(File::from);
    }
    if fs::metadata(path)?.file_type().is_socket() {
        return std::os::unix::net::UnixStream::connect(path).map(|stream| File::from(OwnedFd::from(stream)));
    }
    File::options().append(true).open(path)
}

/// Opens what is no regular file for writing at its end.
#[cfg(not(unix))]
pub(super) fn open_stream(path: &Path) -> io::Result<File> {
    File::options().append(true).open(path)
}

/// The folder that a file lies in, as far as its name says.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a name to be written leads to a regular file, there or not yet: not to a device, a pipe, a socket.
///
/// # Errors
/// A folder, a name that is none, links that lead in a circle.
pub fn is_file(path: &Path) -> Result<bool> {
    file_at(path).map(|file| file.is_some())
}

/// The file that a name to be written leads to, through all links; `None` for what is no regular file.
///
/// # Errors
/// As [`Target::of`].
pub(crate) fn file_at(path: &Path) -> Result<Option<PathBuf>> {
    match Target::of(path).map_err(|e| Error::io("writing", path, e))? {
        Target::File(file) => Ok(Some(file)),
        Target::Stream(_) => Ok(None),
    }
}

/// Whether two names lead to the same regular file, through whatever links, hard ones too.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(first), Ok(second)) = (fs::metadata(one), fs::metadata(other)) else { return false };
    #[cfg(unix)]
    let same = {
        use std::os::unix::fs::MetadataExt;
        (first.dev(), first.ino()) == (second.dev(), second.ino())
    };
    #[cfg(not(unix))]
    let same = fs::canonicalize(one).ok() == fs::canonicalize(other).ok();
    same && first.is_file() && second.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("far")).unwrap();
        symlink("far/real", at("near")).unwrap();
        symlink("near", at("nearer")).unwrap();
        let leads = |name: &str| Target::of(&at(name)).unwrap();
        assert_eq!(leads("nearer"), Target::File(at("far/real")), "also to what is not there yet");
        fs::write(at("far/real"), "").unwrap();
        assert_eq!(leads("nearer"), Target::File(at("far/real")));
        symlink("circle", at("circle")).unwrap();
        assert!(Target::of(&at("circle")).unwrap_err().to_string().contains("too many links"));
        symlink("far", at("folder")).unwrap();
        for folder in ["folder", "far", "far/", "far/.", "new/", ".."] {
            assert_eq!(Target::of(&at(folder)).unwrap_err().kind(), io::ErrorKind::IsADirectory, "{folder}");
        }
        symlink("/dev/stdout", at("out")).unwrap();
        for stream in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert_eq!(Target::of(Path::new(stream)).unwrap(), Target::Stream(stream.into()));
        }
        assert_eq!(leads("out"), Target::Stream("/dev/stdout".into()));
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(leads("socket"), Target::Stream(at("socket")));
        drop(socket);
    }
}
