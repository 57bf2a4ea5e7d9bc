//! Which base an adapter was trained on.

use super::Base;
use crate::adapter::peft::AnotherBase;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::hub::ModelFiles;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// Beside PEFT's files, which PEFT would warn of keys in that are not its own.
const FILE: &str = "gemma_tune.json";

/// What an adapter folder says of its base.
#[derive(Debug, Serialize, Deserialize)]
struct Provenance {
    /// The base as the user named it.
    base_model: String,
    /// [`crate::weights::Source::fingerprint`] of its weights.
    base_fingerprint: String,
    /// Of a base in a single file: the SHA-256 of that file, as the Hub and `sha256sum` state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_sha256: Option<String>,
}

/// Records the base in an adapter folder.
///
/// # Errors
/// When the base's file cannot be read, or the record cannot be written.
pub fn record(base: &Base, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let unchanged = || base.source.changed().is_empty();
    let base_sha256 = match &base.files {
        // That of a file which was written to since says nothing of what was trained on.
        ModelFiles::Gguf { path } if unchanged() => Some(sha256(path, progress)?).filter(|_| unchanged()),
        ModelFiles::Gguf { .. } | ModelFiles::Folder { .. } => None,
    };
    let (base_model, base_fingerprint) = (base.name.clone(), base.fingerprint.clone());
    let provenance = Provenance { base_model, base_fingerprint, base_sha256 };
    let text = serde_json::to_string_pretty(&provenance)
        .map_err(|e| Error::new(Kind::Run, format!("`{FILE}` cannot be written: {e}")).caused_by(e))?;
    atomic::write(&folder.join(FILE), format!("{text}\n").as_bytes())
}

/// The SHA-256 of a file.
fn sha256(path: &Path, progress: &dyn Progress) -> Result<String> {
    let failed = |e| Error::io("reading", path, e);
    let mut file = crate::input::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    progress.start("Hashing the base", Some(len), "bytes");
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

/// What the folder of an adapter says of its base.
fn recorded(adapter: &Path) -> Option<Provenance> {
    serde_json::from_slice(&crate::input::read(&adapter.join(FILE)).ok()?).ok()
}

/// The base that an adapter folder says it was trained on, as the user named it then.
pub fn base_of(adapter: &Path) -> Option<String> {
    recorded(adapter).map(|recorded| recorded.base_model)
}

/// The error with the names of both bases, where it is that an adapter was made for another one than `given`.
pub fn name_bases(error: Error, given: &str) -> Error {
    let Some(other) = AnotherBase::of(&error).cloned() else { return error };
    let made_for = recorded(&other.folder).map(|recorded| recorded.base_model).or_else(|| other.base.clone());
    let hint = match made_for.filter(|base| base != given) {
        Some(base) => {
            format!("it was made for `{base}`: name that as the base, or an adapter that was made for `{given}`")
        }
        None => format!("name the base that it was made for, or an adapter that was made for `{given}`"),
    };
    let what = format!("the adapter was made for another base than `{given}`: {}", other.shown);
    Error::new(Kind::Adapter, what).at_path(&other.folder).hint(hint).caused_by(other)
}

/// Warns if an adapter was trained on other weights than `base`. An adapter of another program says nothing of its
/// base.
pub fn warn_of_another_base(adapter: &Path, base: &Base, progress: &dyn Progress) {
    let Some(recorded) = recorded(adapter) else { return };
    if recorded.base_fingerprint != base.fingerprint {
        progress.note(&format!(
            "Warning: this adapter was trained on other weights than `{}`: on those of `{}`. Quantised and original files \
             of a model differ a little; other models do not work at all.",
            base.name, recorded.base_model
        ));
    }
}

/// Warns of an adapter that leaves its base as it is.
pub fn warn_of_no_effect(adapter: &Path, is_zero: bool, progress: &dyn Progress) {
    if is_zero {
        progress.note(&format!(
            "Warning: the adapter in `{}` changes nothing: every `lora_B` in it, or its scale, is 0. The run that wrote it \
             took no step, or every step at rate 0.",
            adapter.display()
        ));
    }
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
        assert_eq!(sha256(&path, &Silent).unwrap(), want);
        assert!(sha256(&dir.path().join("none"), &Silent).unwrap_err().to_string().contains("none"));
    }
}
