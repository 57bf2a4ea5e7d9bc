//! Checkpoints that survive `kill -9`: a folder per step, whole or absent, every byte under a checksum.
//!
//! ```text
//! checkpoints/
//!   step-200/                  newest; appears by one rename, after everything in it is on the disk
//!     adapter.safetensors      parts, named by who writes them
//!     optimizer.safetensors
//!     best_adapter.safetensors where a run keeps its best one
//!     meta.json                small facts (counters, positions) as JSON
//!     manifest.json            step, run, length and blake3 of each part; written last
//!   step-100/
//!   .tmp-step-300-x7Qz/        a save in progress, or killed
//!   .old-step-200-b2Lf/        the former step-200 while a new one takes its name
//!   .trash-step-100-Kw9a/      a deletion in progress, or killed
//! ```
//!
//! A run takes the [`RunLock`], calls [`clean_up`] once, resumes from [`latest_good`] (after
//! [`Loaded::check_run`]), and then alternates [`Writer`] and [`prune`].

mod loaded;
mod lock;
mod manifest;
mod writer;

pub use loaded::Loaded;
pub use lock::{LOCK, RunLock};
pub use manifest::Fingerprint;
pub use writer::Writer;

use crate::atomic::sync_folder;
use crate::error::{Error, Result};
use manifest::Manifest;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";
const META: &str = "meta.json";
const SAVING: &str = ".tmp-";
const REPLACED: &str = ".old-";
const DELETING: &str = ".trash-";

/// What [`latest_good`] found.
#[derive(Debug, Default)]
pub struct Latest {
    /// The newest checkpoint whose checksums all hold.
    pub checkpoint: Option<Loaded>,
    /// Why each newer one was passed over, as sentences for the user.
    pub warnings: Vec<String>,
}

/// The steps that have a checkpoint folder in `dir`, ascending, good or not; none if `dir` does not exist.
///
/// # Errors
/// If `dir` exists and cannot be listed.
pub fn steps(dir: &Path) -> Result<Vec<u64>> {
    let mut steps: Vec<u64> = entries(dir)?.iter().filter_map(|name| step_of(name)).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Finds the newest checkpoint in `dir` that is whole, verifying every checksum; changes nothing.
///
/// A run that means to continue calls [`clean_up`] before.
///
/// # Errors
/// If `dir` exists and cannot be listed. A checkpoint that is damaged or unreadable is no error: the next older one is
/// tried, and [`Latest::warnings`] tells why.
pub fn latest_good(dir: &Path) -> Result<Latest> {
    let mut latest = Latest::default();
    for step in steps(dir)?.into_iter().rev() {
        match Loaded::open(&folder(dir, step)) {
            Ok(checkpoint) => {
                latest.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => latest
                .warnings
                .push(format!("checkpoint `step-{step}` cannot be used and was passed over: {}", error.what())),
        }
    }
    Ok(latest)
}

/// What [`prune`] did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The steps whose checkpoints are gone.
    pub steps: Vec<u64>,
    /// Why others could not be deleted, as sentences for the user.
    pub warnings: Vec<String>,
}

/// Deletes the oldest whole checkpoints until `save_total_limit` are left (0 keeps all).
///
/// The newest good one always stays and counts towards the limit. Damaged ones neither count nor are they deleted. One
/// that cannot be deleted takes space and does no harm: that is a warning.
///
/// # Errors
/// If `dir` cannot be listed.
pub fn prune(dir: &Path, save_total_limit: usize) -> Result<Pruned> {
    if save_total_limit == 0 {
        return Ok(Pruned::default());
    }
    // What the run would resume from is verified to the last byte, so that a damaged one never displaces it. Hashing
    // all older ones after every save would be slow: there the lengths must do.
    let Some(newest) = latest_good(dir)?.checkpoint else { return Ok(Pruned::default()) };
    let mut whole = steps(dir)?;
    whole.retain(|&step| {
        let lengths = |folder: PathBuf| Manifest::read(&folder)?.check_lengths(&folder);
        step <= newest.step && lengths(folder(dir, step)).is_ok()
    });
    let mut excess = whole.len().saturating_sub(save_total_limit);
    whole.retain(|step| {
        let delete = excess > 0 && *step != newest.step;
        excess -= usize::from(delete);
        delete
    });
    let mut pruned = Pruned::default();
    for step in whole {
        match delete(dir, step) {
            Ok(()) => pruned.steps.push(step),
            Err(error) => {
                pruned.warnings.push(format!("checkpoint `step-{step}` cannot be deleted, and stays: {}", error.what()))
            }
        }
    }
    Ok(pruned)
}

/// Removes from `dir` what killed saves and deletions left behind; call once, while holding the [`RunLock`].
///
/// # Errors
/// If `dir` exists and cannot be listed, or a leftover cannot be removed.
pub fn clean_up(dir: &Path) -> Result<()> {
    for name in entries(dir)? {
        let path = dir.join(&name);
        if let Some(step) = name.strip_prefix(REPLACED).and_then(step_of_temporary) {
            // Killed between the two renames of a replacement: the former one is still the newest good state.
            if !folder(dir, step).exists() {
                rename(&path, &folder(dir, step))?;
                continue;
            }
        } else if !name.starts_with(SAVING) && !name.starts_with(DELETING) {
            continue;
        }
        match remove(&path) {
            // What a deletion left is in nobody's way.
            Err(_) if name.starts_with(DELETING) => {}
            result => result?,
        }
    }
    Ok(())
}

fn folder(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("step-{step}"))
}

/// The step of a folder named `step-200`; `None` for other names, `step-0200` among them.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name == format!("step-{step}")).then_some(step)
}

/// The step of `step-200-x7Qz`.
fn step_of_temporary(name: &str) -> Option<u64> {
    step_of(name.rsplit_once('-')?.0)
}

fn entries(dir: &Path) -> Result<Vec<String>> {
    let names = || -> std::io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned())).collect()
    };
    match names() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|e| Error::io("listing the checkpoints", dir, e)),
    }
}

/// Deletes a checkpoint so that no half of it ever bears a checkpoint's name.
fn delete(dir: &Path, step: u64) -> Result<()> {
    let trash = temporary(dir, DELETING, step)?;
    rename(&folder(dir, step), trash.path())?;
    remove(&trash.keep())
}

/// A new, empty folder that is removed when it goes out of scope.
fn temporary(dir: &Path, prefix: &str, step: u64) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{prefix}step-{step}-"))
        .tempdir_in(dir)
        .map_err(|e| Error::io("creating a folder", dir, e))
}

/// Renames `from` to `to` (absent, or an empty folder) and makes it durable.
fn rename(from: &Path, to: &Path) -> Result<()> {
    // Only Unix replaces an empty folder; elsewhere it has to go first.
    #[cfg(not(unix))]
    let _ = fs::remove_dir(to);
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to).and_then(|()| sync_folder(parent)).map_err(|e| Error::io("renaming a checkpoint", from, e))
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("removing", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
