//! What is known of a data set without asking the Hub: the listing of an earlier run, or else the card in the cache.

use super::super::listing::Listing;
use super::super::repository::Repository;
use super::super::settings::HubSettings;
use super::card;
use crate::error::{Error, Kind, Result};
use std::path::PathBuf;

/// Where an earlier run has left what the Hub said of `commit`, beside the snapshots that all tools share.
fn file(repository: &Repository, settings: &HubSettings, commit: &str) -> PathBuf {
    repository.folder(settings).join(".gemma-tune").join(format!("{commit}.json"))
}

/// Keeps what the Hub says, so that the same files are chosen without it. A cache that cannot be written to is no error.
#[cfg(feature = "hub")]
pub(super) fn remember(repository: &Repository, settings: &HubSettings, listing: &Listing) {
    let names: Vec<&str> = listing.names().collect();
    let json = serde_json::json!({"files": names, "configs": listing.configs});
    let _ = crate::atomic::write(&file(repository, settings, &listing.commit), json.to_string().as_bytes());
}

/// What the Hub once said of `commit`.
pub(super) fn recall(repository: &Repository, settings: &HubSettings, commit: &str) -> Option<Listing> {
    let bytes = crate::input::read(&file(repository, settings, commit)).ok()?;
    Listing::from_names(&serde_json::from_slice(&bytes).ok()?, commit)
}

/// What the snapshot of `commit` holds, with the `configs` of its card.
///
/// # Errors
/// When the card is not there or cannot be understood: which files belong to a split is not known then.
pub(super) fn of_snapshot(repository: &Repository, settings: &HubSettings, commit: &str) -> Result<Listing> {
    let dir = repository.snapshot(settings, commit);
    let unknown = |what: String| {
        Error::new(Kind::Data, format!("which files of `{repository}` belong to a split is not known offline: {what}"))
            .hint("name the files, as in `hf://datasets/owner/name/path/to/file.jsonl`, or run once with the Hub")
    };
    let readme = crate::input::read_to_string(&dir.join("README.md"))
        .map_err(|_| unknown("its card is not in the cache".into()))?;
    let configs = card::configs(&readme).ok_or_else(|| unknown("its card cannot be understood".into()))?;
    Ok(Listing { configs, ..Listing::from_snapshot(&dir, commit) })
}
