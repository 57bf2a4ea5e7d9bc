//! Which base an adapter was trained on.

use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::jobs::Base;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
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
}

/// Records the base in an adapter folder.
///
/// # Errors
/// When the file cannot be written.
pub fn record(base: &Base, folder: &Path) -> Result<()> {
    let provenance = Provenance { base_model: base.name.clone(), base_fingerprint: base.source.fingerprint() };
    let text = serde_json::to_string_pretty(&provenance)
        .map_err(|e| Error::new(Kind::Run, format!("`{FILE}` cannot be written: {e}")).caused_by(e))?;
    atomic::write(&folder.join(FILE), format!("{text}\n").as_bytes())
}

/// Warns if an adapter was trained on other weights than `base`. An adapter of another program says nothing of its base.
pub fn warn_of_another_base(adapter: &Path, base: &Base, progress: &dyn Progress) {
    let recorded = std::fs::read(adapter.join(FILE)).ok();
    let Some(recorded) = recorded.and_then(|bytes| serde_json::from_slice::<Provenance>(&bytes).ok()) else { return };
    if recorded.base_fingerprint != base.source.fingerprint() {
        progress.note(&format!(
            "Warning: this adapter was trained on other weights than `{}`: on those of `{}`. Quantised and original files \
             of a model differ a little; other models do not work at all.",
            base.name, recorded.base_model
        ));
    }
}
