//! A file on its way to the Hub: read in pieces, never held whole.

use crate::error::{Error, Kind, Result};
use crate::hub::digest;
use crate::hub::upload::Stored;
use crate::progress::Progress;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// What of a file's beginning the Hub looks at, to tell texts from other files.
const SAMPLE_BYTES: u64 = 512;

/// A file to be published.
#[derive(Debug)]
pub struct Outgoing {
    /// Its path in the repository, with `/`.
    pub name: String,
    /// How long it is.
    pub size_bytes: u64,
    content: Content,
    sha256: OnceLock<String>,
}

#[derive(Debug)]
enum Content {
    /// A file here, and when it was last written to.
    File(PathBuf, Option<SystemTime>),
    /// Bytes that are in no file.
    Bytes(Vec<u8>),
}

impl Outgoing {
    /// The file at `path`, under the name that it is to have.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(name: &str, path: &Path) -> Result<Self> {
        let failed = |e| Error::io("reading", path, e);
        let metadata = crate::input::open(path).and_then(|file| file.metadata()).map_err(failed)?;
        let content = Content::File(path.into(), metadata.modified().ok());
        Ok(Outgoing { name: name.into(), size_bytes: metadata.len(), content, sha256: OnceLock::new() })
    }

    /// A small file that is made of `bytes`.
    pub fn bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let size_bytes = bytes.len() as u64;
        Outgoing { name: name.into(), size_bytes, content: Content::Bytes(bytes), sha256: OnceLock::new() }
    }

    /// Where it is on this machine, if anywhere.
    pub fn path(&self) -> Option<&Path> {
        match &self.content {
            Content::File(path, _) => Some(path),
            Content::Bytes(_) => None,
        }
    }

    /// Whether the repository has this very content under `stored`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is(&self, stored: &Stored, progress: &dyn Progress) -> Result<bool> {
        match stored {
            Stored::Large { sha256, size_bytes } => {
                Ok(*size_bytes == self.size_bytes && self.sha256(progress)? == sha256)
            }
            Stored::Small { git_sha1, size_bytes } => {
                Ok(size_bytes.is_none_or(|size| size == self.size_bytes) && self.git_sha1()? == *git_sha1)
            }
            Stored::Unknown => Ok(false),
        }
    }

    /// Its SHA-256, which is its name in the storage; computed once.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sha256(&self, progress: &dyn Progress) -> Result<&str> {
        if let Some(known) = self.sha256.get() {
            return Ok(known);
        }
        let hash = match &self.content {
            Content::File(path, _) => digest::sha256(path, &format!("Hashing {}", self.name), progress)?,
            Content::Bytes(bytes) => format!("{:x}", Sha256::digest(bytes)),
        };
        Ok(self.sha256.get_or_init(|| hash))
    }

    /// Its name in git, if it is committed as it is.
    fn git_sha1(&self) -> Result<String> {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", self.size_bytes));
        let (mut reader, mut buffer) = (self.part(0, self.size_bytes)?, vec![0; 1 << 16]);
        loop {
            match reader.read(&mut buffer).map_err(|e| self.unreadable(e))? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        Ok(format!("{:x}", hasher.finalize()))
    }

    /// Its beginning.
    pub(super) fn sample(&self) -> Result<Vec<u8>> {
        self.read(SAMPLE_BYTES.min(self.size_bytes))
    }

    /// All of it; for small files.
    pub(super) fn whole(&self) -> Result<Vec<u8>> {
        self.read(self.size_bytes)
    }

    fn read(&self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.part(0, length)?.read_to_end(&mut bytes).map_err(|e| self.unreadable(e))?;
        Ok(bytes)
    }

    /// `length` bytes of it from `offset` on, as a stream.
    pub(super) fn part(&self, offset: u64, length: u64) -> Result<Box<dyn Read + '_>> {
        Ok(match &self.content {
            Content::File(path, _) => {
                let mut file: File = crate::input::open(path).map_err(|e| self.unreadable(e))?;
                file.seek(SeekFrom::Start(offset)).map_err(|e| self.unreadable(e))?;
                Box::new(file.take(length))
            }
            Content::Bytes(bytes) => {
                let mut cursor = Cursor::new(bytes);
                cursor.set_position(offset);
                Box::new(cursor.take(length))
            }
        })
    }

    /// That nobody has written to the file since it was looked at.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let Content::File(path, modified) = &self.content else { return Ok(()) };
        let now = std::fs::metadata(path).map_err(|e| self.unreadable(e))?;
        if now.len() == self.size_bytes && now.modified().ok() == *modified {
            return Ok(());
        }
        Err(Error::new(Kind::Run, "the file changed while it was being pushed, and nothing was committed")
            .at_path(path)
            .hint("push again when nothing writes to it"))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::io("reading", self.path().unwrap_or(Path::new(&self.name)), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn what_the_repository_has_is_known_by_its_hashes() {
        // The names that git gives: `printf abc | git hash-object --stdin`, and of an empty file.
        let abc = Outgoing::bytes("a", "abc");
        let git = |hash: &str, size| Stored::Small { git_sha1: hash.into(), size_bytes: size };
        assert!(abc.is(&git("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f", Some(3)), &Silent).unwrap());
        assert!(abc.is(&git("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f", None), &Silent).unwrap());
        assert!(!abc.is(&git("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", None), &Silent).unwrap());
        assert!(
            Outgoing::bytes("e", "").is(&git("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", Some(0)), &Silent).unwrap()
        );
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        let large = |size_bytes| Stored::Large { sha256: sha256.clone(), size_bytes };
        assert!(abc.is(&large(3), &Silent).unwrap() && !abc.is(&large(4), &Silent).unwrap());
        assert!(!abc.is(&Stored::Unknown, &Silent).unwrap());
    }

    #[test]
    fn a_file_that_is_written_to_meanwhile_is_not_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, "0123456789").unwrap();
        let file = Outgoing::file("model.gguf", &path).unwrap();
        let mut part = String::new();
        file.part(3, 4).unwrap().read_to_string(&mut part).unwrap();
        assert_eq!(part, "3456");
        file.check_unchanged().unwrap();
        std::fs::write(&path, "01234567890").unwrap();
        let error = file.check_unchanged().unwrap_err();
        assert!(error.what().contains("changed while it was being pushed"), "{error}");
    }
}
