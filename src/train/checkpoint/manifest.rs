//! `manifest.json`: which run and step a checkpoint belongs to, and what its parts must contain.

use super::MANIFEST;
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::terminal::excerpt;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The layout this version writes and reads.
const FORMAT: u32 = 1;

/// What stands in the place of a hash where a part may be any.
const ANY: &str = "any";

/// Characters of a value that a message shows.
const LONGEST_VALUE: usize = 60;

/// Digits that no number of a run has, so that they are a hash.
const SHORTEST_HASH: usize = 32;

/// What identifies a run: named parts (`"recipe"`, `"data"`, `"base model"`, `"adapter layout"`), each with its hash.
///
/// The names appear in the message that refuses another run's checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// A fingerprint without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the part `name`, a noun for people, with its `hash`.
    pub fn with(mut self, name: impl Into<String>, hash: impl Into<String>) -> Self {
        self.0.insert(name.into(), hash.into());
        self
    }

    /// Adds the part `name`, which is the same whatever it is: another part tells what it holds.
    pub fn with_any(self, name: impl Into<String>) -> Self {
        self.with(name, ANY)
    }

    /// One hash over all parts and their names.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for text in self.0.iter().flat_map(|(name, hash)| [name, hash]) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// What is not as in `other`, as the end of a sentence: "`training.seed` differs"; `None` where all is.
    pub fn difference(&self, other: &Fingerprint) -> Option<String> {
        let shown: Vec<String> = self.differing(other).into_iter().map(|name| format!("`{name}`")).collect();
        match shown.len() {
            0 => None,
            1 => Some(format!("{} differs", shown[0])),
            _ => Some(format!("{} differ", shown.join(", "))),
        }
    }

    /// Both values of the parts that differ and say themselves what they are, a line each: `threads: 8 in the run, 4 now`; empty where
    /// all that differs is known by its hash.
    pub fn both_values(&self, then: &Fingerprint) -> String {
        let is_hash = |value: &str| value.len() >= SHORTEST_HASH && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = |of: &Fingerprint, name: &str| match of.value(name)? {
            "" => Some("none".to_owned()),
            value if is_hash(value) => None,
            value => Some(excerpt(value, LONGEST_VALUE)),
        };
        let line = |name| Some(format!("{name}: {} in the run, {} now", value(then, name)?, value(self, name)?));
        self.differing(then).into_iter().filter_map(line).collect::<Vec<_>>().join("\n")
    }

    /// The parts that are other ones there, by their names.
    pub(super) fn differing<'a>(&'a self, other: &'a Fingerprint) -> BTreeSet<&'a str> {
        let differs = |name: &&str| {
            let (own, other) = (self.value(name), other.value(name));
            own != other && own != Some(ANY) && other != Some(ANY)
        };
        self.0.keys().chain(other.0.keys()).map(String::as_str).filter(differs).collect()
    }

    /// The value of a part.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// One part as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub bytes: u64,
    pub blake3: String,
}

/// The manifest, typed strings and whole numbers only, so that writing it again gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub format: u32,
    pub step: u64,
    pub run_fingerprint: String,
    pub fingerprint: Fingerprint,
    pub parts: BTreeMap<String, Part>,
    /// blake3 over this manifest, written with this field empty.
    pub checksum: String,
}

impl Manifest {
    /// The finished manifest of `parts`.
    pub fn new(step: u64, fingerprint: Fingerprint, parts: BTreeMap<String, Part>) -> Self {
        let run_fingerprint = fingerprint.digest();
        let mut manifest =
            Manifest { format: FORMAT, step, run_fingerprint, fingerprint, parts, checksum: String::new() };
        manifest.checksum = blake3::hash(&manifest.to_bytes()).to_hex().to_string();
        manifest
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default(); // strings and numbers: cannot fail
        text.push(b'\n');
        text
    }

    /// Reads and verifies the manifest of the checkpoint in `folder`; looks at no part.
    ///
    /// # Errors
    /// [`Kind::Checkpoint`] if it is missing, damaged, of a newer format, or names files outside its folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let damaged = |what: String| Error::new(Kind::Checkpoint, what).at_path(&path);
        let text = input::read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => damaged(format!("`{MANIFEST}` is missing")),
            _ => damaged(format!("`{MANIFEST}` cannot be read: {e}")),
        })?;
        let format = serde_json::from_slice::<Versioned>(&text)
            .map_err(|e| damaged(format!("`{MANIFEST}` is not readable: {e}")))?
            .format;
        if format != FORMAT {
            return Err(damaged(format!("`{MANIFEST}` has format {format}, this version reads format {FORMAT}")));
        }
        let mut manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("`{MANIFEST}` is not readable: {e}")))?;
        let checksum = std::mem::take(&mut manifest.checksum);
        if blake3::hash(&manifest.to_bytes()).to_hex().as_str() != checksum {
            return Err(damaged(format!("`{MANIFEST}` does not match its checksum")));
        }
        manifest.checksum = checksum;
        match manifest.parts.keys().find(|name| !is_part_name(name)) {
            Some(name) => Err(damaged(format!("`{MANIFEST}` names the part `{name}`, which is no plain file name"))),
            None => Ok(manifest),
        }
    }

    /// Checks that every part is there with its length.
    ///
    /// # Errors
    /// [`Kind::Checkpoint`] that names the first part that is not.
    pub fn check_lengths(&self, folder: &Path) -> Result<()> {
        for (name, part) in &self.parts {
            let path = folder.join(name);
            let found = fs::metadata(&path).ok().filter(|m| m.is_file()).map(|m| m.len());
            if found != Some(part.bytes) {
                let found = found.map_or("it is missing".into(), |bytes| format!("it has {bytes} bytes"));
                let what = format!("part `{name}` should have {} bytes: {found}", part.bytes);
                return Err(Error::new(Kind::Checkpoint, what).at_path(path));
            }
        }
        Ok(())
    }
}

/// Only the format, which every version can read.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// Whether `name` is a plain file name that a part may have (`manifest.json` is taken).
pub(super) fn is_part_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    name.bytes().all(plain) && !name.is_empty() && !name.starts_with('.') && name != MANIFEST
}
