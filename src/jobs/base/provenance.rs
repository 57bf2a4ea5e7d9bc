//! Which base an adapter was trained on.

use super::Base;
use crate::adapter::peft::AnotherBase;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::export::card::{Card, shared};
use crate::export::plot::Measure;
use crate::hub::{self, ModelFiles};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Beside PEFT's files, which PEFT would warn of keys in that are not its own.
pub const FILE: &str = "gemma_tune.json";

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
    /// Of a base from the Hub: its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_revision: Option<String>,
    /// What its card tells, so that it can be told again where the adapter is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    card: Option<Card>,
    /// The BLAKE3 hash of the card as it was written: one of another hash is somebody's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    card_blake3: Option<String>,
}

/// Records the base in an adapter folder, and what its card tells, whose text is `readme`.
///
/// # Errors
/// When the base's file cannot be read, or the record cannot be written.
pub fn record(base: &Base, card: &Card, readme: &str, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let unchanged = || base.source.changed().is_empty();
    let base_sha256 = match &base.files {
        // That of a file which was written to since says nothing of what was trained on.
        ModelFiles::Gguf { path } if unchanged() => {
            Some(hub::sha256(path, "Hashing the base", progress)?).filter(|_| unchanged())
        }
        ModelFiles::Gguf { .. } | ModelFiles::Folder { .. } => None,
    };
    let (base_model, base_fingerprint) = (base.name.clone(), base.fingerprint.clone());
    let base_revision = match &base.files {
        ModelFiles::Folder { revision, .. } => revision.clone(),
        ModelFiles::Gguf { .. } => None,
    };
    let (card, card_blake3) = (Some(card.clone()), Some(hash(readme)));
    let provenance = Provenance { base_model, base_fingerprint, base_sha256, base_revision, card, card_blake3 };
    atomic::write(&folder.join(FILE), to_text(&provenance)?.as_bytes())
}

/// Carries what is known of an adapter into the folder of something that was made with it, whose card is yet to be
/// written.
///
/// # Errors
/// When the folder cannot be written.
pub fn carry(adapter: &Path, into: &Path) -> Result<()> {
    let Some(record) = recorded(adapter) else { return Ok(()) };
    if let Some(plot) = drawn(adapter)
        && let Ok(picture) = crate::input::read(&adapter.join(plot.file()))
    {
        atomic::write(&into.join(plot.file()), &picture)?;
    }
    atomic::write(&into.join(FILE), to_text(&Provenance { card_blake3: None, ..record })?.as_bytes())
}

/// What the card of a folder tells, where that was recorded.
pub fn card_of(folder: &Path) -> Option<Card> {
    Some(Card { plot: drawn(folder), ..recorded(folder)?.card? })
}

/// What of the run that made a folder is drawn in it.
fn drawn(folder: &Path) -> Option<Measure> {
    Measure::ALL.into_iter().find(|plot| folder.join(plot.file()).is_file())
}

/// Whether a card is as it was written here, and nobody's own.
pub fn wrote_card(folder: &Path, readme: &str) -> bool {
    recorded(folder).and_then(|record| record.card_blake3).is_some_and(|written| written == hash(readme))
}

fn hash(readme: &str) -> String {
    blake3::hash(readme.as_bytes()).to_hex().to_string()
}

fn to_text(record: &Provenance) -> Result<String> {
    let text = serde_json::to_string_pretty(record)
        .map_err(|e| Error::new(Kind::Run, format!("`{FILE}` cannot be written: {e}")).caused_by(e))?;
    Ok(format!("{text}\n"))
}

/// What the folder of an adapter says of its base.
fn recorded(adapter: &Path) -> Option<Provenance> {
    serde_json::from_slice(&crate::input::read(&adapter.join(FILE)).ok()?).ok()
}

/// The base that an adapter folder says it was trained on, as the user named it then.
pub fn base_of(adapter: &Path) -> Option<String> {
    recorded(adapter).map(|recorded| recorded.base_model)
}

/// The commit of that base, where it came from the Hub.
pub fn revision_of(adapter: &Path) -> Option<String> {
    recorded(adapter)?.base_revision
}

/// The text of a record as it is published: the base under its id on the Hub and at its revision, or under the last part
/// of a path of this machine; with the hash of the `readme` that goes with it. `None` for a text that is no record.
pub fn published(text: &str, base: Option<(&str, Option<&str>)>, readme: Option<&str>) -> Option<String> {
    let mut record: Provenance = serde_json::from_str(text).ok()?;
    record.card_blake3 = readme.map(hash);
    if let Some(card) = &mut record.card {
        card.folder.clear();
        if let Some((id, revision)) = base {
            (card.base_model, card.base_is_hub_id) = (id.to_owned(), true);
            card.base_revision = revision.map(str::to_owned);
        } else {
            card.base_model = shared(&card.base_model);
        }
    }
    match base {
        Some((id, revision)) => {
            record.base_model = id.to_owned();
            record.base_revision = revision.map(str::to_owned);
        }
        None => {
            record.base_model = shared(&record.base_model);
        }
    }
    to_text(&record).ok()
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
