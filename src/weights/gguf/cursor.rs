//! Reading little-endian values from bytes, with every length checked against what is left.

use crate::error::{Error, Place, Result};
use crate::weights::{DAMAGED, wrong};
use std::path::Path;

/// A position in a file's bytes.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Cursor { path, bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A problem at the current position.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Error {
        wrong(what).at(Place::Byte { path: self.path.into(), offset: self.at as u64 }).hint(DAMAGED)
    }

    /// Takes `count` bytes; `what` names them in the error.
    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(self.wrong(format!("{what} needs {count} bytes, but the file has only {} more", self.left())));
        };
        self.at += count;
        Ok(taken)
    }

    /// Takes exactly `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        match self.take(N, what)?.first_chunk() {
            Some(array) => Ok(*array),
            None => Err(self.wrong(format!("{what} is incomplete"))),
        }
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Reads a count of things of at least `least_bytes` each, and refuses one that the rest of the file cannot hold:
    /// a count that has passed is safe to loop over.
    pub(super) fn count(&mut self, least_bytes: usize, what: &str) -> Result<usize> {
        let start = self.at;
        let count = self.u64(what)?;
        let fits =
            usize::try_from(count).ok().filter(|&n| n.checked_mul(least_bytes).is_some_and(|b| b <= self.left()));
        fits.ok_or_else(|| {
            let error = self.wrong(format!("{what} of {count} cannot fit into the rest of the file"));
            error.at(Place::Byte { path: self.path.into(), offset: start as u64 })
        })
    }

    /// Reads a length and that many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str> {
        let length = self.count(1, what)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|e| self.wrong(format!("{what} is not UTF-8")).caused_by(e))
    }
}
