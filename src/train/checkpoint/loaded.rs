//! Reading one checkpoint.

use super::manifest::{Fingerprint, Manifest};
use super::{META, step_of};
use crate::error::{Error, Kind, Result};
use crate::input;
use std::path::{Path, PathBuf};

/// A checkpoint whose checksums all held when it was opened.
#[derive(Debug)]
pub struct Loaded {
    /// Optimiser steps done.
    pub step: u64,
    /// The small facts that were given to `Writer::finish`.
    pub meta: serde_json::Value,
    folder: PathBuf,
    manifest: Manifest,
}

impl Loaded {
    /// Opens the checkpoint in `folder` and verifies the checksum of every part.
    ///
    /// # Errors
    /// [`Kind::Checkpoint`] that says what is damaged, or [`Kind::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let name = folder.file_name().and_then(|name| name.to_str()).and_then(step_of);
        if name.is_some_and(|step| step != manifest.step) {
            let what = format!("the manifest is that of step {}", manifest.step);
            return Err(Error::new(Kind::Checkpoint, what).at_path(folder));
        }
        manifest.check_lengths(folder)?;
        for (name, part) in &manifest.parts {
            let path = folder.join(name);
            let mut hasher = blake3::Hasher::new();
            input::open(&path)
                .and_then(|file| hasher.update_reader(file).map(drop))
                .map_err(|e| Error::io("reading the checkpoint", &path, e))?;
            check(name, &hasher, &part.blake3).map_err(|e| e.at_path(path))?;
        }
        let mut loaded =
            Loaded { step: manifest.step, meta: serde_json::Value::Null, folder: folder.to_path_buf(), manifest };
        loaded.meta = serde_json::from_slice(&loaded.read(META)?).map_err(|e| {
            Error::new(Kind::Checkpoint, format!("part `{META}` is not readable: {e}")).at_path(folder.join(META))
        })?;
        Ok(loaded)
    }

    /// The content of the part `name`, verified again.
    ///
    /// # Errors
    /// If there is no such part, it cannot be read, or it changed since the checkpoint was opened.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let Some(part) = self.manifest.parts.get(name) else {
            let what = format!("the checkpoint of step {} has no part `{name}`", self.step);
            return Err(Error::new(Kind::Checkpoint, what).at_path(&self.folder));
        };
        let bytes = input::read(&path).map_err(|e| Error::io("reading the checkpoint", &path, e))?;
        check(name, blake3::Hasher::new().update(&bytes), &part.blake3).map_err(|e| e.at_path(path))?;
        Ok(bytes)
    }

    /// The names of its parts, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.manifest.parts.keys().map(String::as_str)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Refuses the checkpoint of another run than the one `fingerprint` identifies.
    ///
    /// # Errors
    /// [`Kind::Checkpoint`] that names what differs.
    pub fn check_run(&self, fingerprint: &Fingerprint) -> Result<()> {
        let then = &self.manifest.fingerprint;
        let Some(difference) = fingerprint.difference(then) else { return Ok(()) };
        let error = Error::new(
            Kind::Checkpoint,
            format!("checkpoint `step-{}` belongs to another run: {difference}", self.step),
        )
        .at_path(&self.folder);
        let error = match fingerprint.both_values(then) {
            values if values.is_empty() => error,
            values => error.excerpt(values),
        };
        Err(error.hint(match way_back(fingerprint, then) {
            Some(way) => format!("{way} resumes it; another `output.dir` starts a new run"),
            None => "resume with what the run was started with, or choose another `output.dir`".to_owned(),
        }))
    }
}

/// What makes a run the former one again, where all that differs is told with the command.
fn way_back(now: &Fingerprint, then: &Fingerprint) -> Option<String> {
    let way = |name| {
        let word = match name {
            "device" => "--device ",
            "threads" => "RAYON_NUM_THREADS=",
            _ => return None,
        };
        Some(format!("`{word}{}`", then.value(name)?))
    };
    let ways: Option<Vec<String>> = now.differing(then).into_iter().map(way).collect();
    ways.filter(|ways| !ways.is_empty()).map(|ways| ways.join(" with "))
}

fn check(name: &str, hasher: &blake3::Hasher, expected: &str) -> Result<()> {
    if hasher.finalize().to_hex().as_str() == expected {
        return Ok(());
    }
    Err(Error::new(Kind::Checkpoint, format!("part `{name}` does not match its checksum")))
}
