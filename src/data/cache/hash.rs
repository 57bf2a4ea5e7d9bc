//! Content hashes of data files, remembered by path, size and time so that an unchanged file is not read again.

use crate::atomic;
use crate::clock::since_1970;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const BUFFER_BYTES: usize = 1 << 20;

/// A file changed within this time may change again without its time showing it (FAT counts in two seconds).
const SETTLED: Duration = Duration::from_secs(3);

/// A data file and what it held when it was hashed.
#[derive(Debug, Clone)]
pub(crate) struct HashedFile {
    pub path: Arc<Path>,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub blake3: String,
    stamp: Stamp,
}

impl HashedFile {
    /// The file's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.stamp.size_bytes
    }

    /// Makes sure that the file is still the one that was hashed.
    ///
    /// # Errors
    /// When it has been written to since, or is gone.
    pub fn check_unchanged(&self) -> Result<()> {
        if Stamp::of(&self.path)?.0 == self.stamp {
            return Ok(());
        }
        Err(Error::new(Kind::Data, "the file changed while it was read")
            .at(Place::Path(self.path.to_path_buf()))
            .hint("run again when it is complete"))
    }
}

/// What tells that a file is the one seen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size_bytes: u64,
    modified_nanos: u128,
    /// Inode on Unix: a file moved here with its old time is another one.
    identity: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, and when it was last modified.
    pub fn of(path: &Path) -> Result<(Stamp, SystemTime)> {
        atomic::may_read(path)?; // what is remembered of it stands for reading it
        let metadata = std::fs::metadata(path).map_err(|e| Error::io("reading", path, e))?;
        let modified = metadata.modified().unwrap_or(SystemTime::now());
        let modified_nanos = since_1970(modified).as_nanos();
        Ok((Stamp { size_bytes: metadata.len(), modified_nanos, identity: identity(&metadata) }, modified))
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> u64 {
    0
}

/// What is remembered of a file.
#[derive(Serialize, Deserialize)]
struct Remembered {
    path: String,
    stamp: Stamp,
    blake3: String,
}

/// Hashes `paths`, reading only those that `folder` does not remember.
///
/// # Errors
/// When a file cannot be read. Failing to remember is no error.
pub(crate) fn hash_files(paths: &[Arc<Path>], folder: &Path, progress: &dyn Progress) -> Result<Vec<HashedFile>> {
    let mut hashed: Vec<HashedFile> = Vec::with_capacity(paths.len());
    for path in paths {
        // A file may serve several sources.
        if let Some(same) = hashed.iter().find(|h| h.path == *path) {
            let same = same.clone();
            hashed.push(same);
            continue;
        }
        let (stamp, modified) = Stamp::of(path)?;
        let absolute = std::fs::canonicalize(path).map_err(|e| Error::io("reading", path, e))?;
        let absolute = absolute.to_string_lossy().into_owned();
        let note = folder.join(format!("{}.json", &blake3::hash(absolute.as_bytes()).to_hex()[..32]));
        let blake3 = match recall(&note, &absolute, &stamp) {
            Some(blake3) => blake3,
            None => {
                let blake3 = hash(path, stamp.size_bytes, progress)?;
                if modified.elapsed().is_ok_and(|age| age > SETTLED) {
                    let remembered = Remembered { path: absolute, stamp: stamp.clone(), blake3: blake3.clone() };
                    // Without the note the file is merely hashed again next time.
                    let _ = serde_json::to_vec(&remembered).map(|json| atomic::write(&note, &json));
                }
                blake3
            }
        };
        hashed.push(HashedFile { path: path.clone(), blake3, stamp });
    }
    Ok(hashed)
}

fn recall(note: &Path, path: &str, stamp: &Stamp) -> Option<String> {
    let remembered: Remembered = serde_json::from_slice(&std::fs::read(note).ok()?).ok()?;
    (remembered.path == path && remembered.stamp == *stamp).then_some(remembered.blake3)
}

fn hash(path: &Path, size_bytes: u64, progress: &dyn Progress) -> Result<String> {
    let mut file = crate::input::open_named(path, Kind::Data)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    progress.start(&format!("hashing {name}"), Some(size_bytes), "bytes");
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let hashed = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(hasher.finalize().to_hex().to_string()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                progress.advance(read as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => break Err(Error::io("reading", path, e)),
        }
    };
    progress.finish();
    hashed
}
