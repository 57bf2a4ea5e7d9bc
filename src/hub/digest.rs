//! Hashes of files, read as a stream.

use crate::error::{Error, Result};
use crate::progress::Progress;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// The SHA-256 of a file, as the Hub and `sha256sum` state it; `what` is being done, for who waits.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path, what: &str, progress: &dyn Progress) -> Result<String> {
    let failed = |e| Error::io("reading", path, e);
    let mut file = crate::input::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    progress.start(what, Some(len), "bytes");
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        progress.advance(read as u64);
    }
    progress.finish();
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_file_has_the_hash_that_the_standard_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, the example of one block.
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path, "Hashing", &Silent).unwrap(), want);
        assert!(sha256(&dir.path().join("none"), "Hashing", &Silent).unwrap_err().to_string().contains("none"));
    }
}
