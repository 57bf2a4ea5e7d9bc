//! Which files of a model's repository are needed, in which order, and whether the cache has them all.

#[cfg(feature = "hub")]
mod online;

use super::Wanted;
use super::failure::Failure;
use super::repository::{Repository, is_commit, is_inside};
use super::settings::HubSettings;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Brings a model's files into the cache where they are not there yet. Returns their folder and commit.
pub(super) fn fetch(
    repository: &Repository,
    settings: &HubSettings,
    progress: &dyn Progress,
    wanted: Wanted,
) -> Result<(PathBuf, String)> {
    let accept = |dir: &Path| match wanted {
        Wanted::SmallFiles => Ok(()),
        Wanted::All(accept) => accept(dir),
    };
    let cached = repository
        .cached_commit(settings)
        .map(|commit| (repository.snapshot(settings, &commit), commit))
        .filter(|(dir, _)| is_complete(dir, wanted));
    if let Some((dir, commit)) = &cached
        && (settings.offline || is_commit(&repository.revision))
    {
        accept(dir)?;
        return Ok((dir.clone(), commit.clone()));
    }
    if settings.offline {
        return Err(Failure::Offline.error(repository, settings, ""));
    }
    #[cfg(not(feature = "hub"))]
    {
        let _ = progress;
        let (dir, commit) = cached.ok_or_else(|| super::built_without_hub(repository))?;
        accept(&dir)?;
        Ok((dir, commit))
    }
    #[cfg(feature = "hub")]
    {
        let client = super::client::Client::new(repository, settings)?;
        match client.list() {
            Ok(listing) => {
                let dir = online::download(&client, repository, &listing, settings, progress, wanted)?;
                Ok((dir, listing.commit))
            }
            // The Hub is away: what it last said is good enough.
            Err(error) => match cached.filter(|_| Failure::of(&error).is_some_and(Failure::is_passing)) {
                Some((dir, commit)) => {
                    accept(&dir)?;
                    Ok((dir, commit))
                }
                None => Err(error),
            },
        }
    }
}

/// Whether a snapshot has everything that is wanted.
fn is_complete(dir: &Path, wanted: Wanted) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    // The tokenizer is the last of the small files, and some models have none.
    let small = matches!(wanted, Wanted::SmallFiles) && has("tokenizer.json");
    has("config.json")
        && (small || has(SINGLE) || shards(&dir.join(INDEX)).is_ok_and(|names| names.iter().all(|name| has(name))))
}

/// The files that an index of shards names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let wrong = |what: String| Error::new(Kind::Weights, what).at_path(index);
    let bytes = crate::input::read(index).map_err(|e| Error::io("reading", index, e))?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("not valid JSON: {e}")))?;
    let map =
        json.get("weight_map").and_then(Value::as_object).ok_or_else(|| wrong("there is no `weight_map`".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str().filter(|name| is_inside(name)) {
            Some(name) => names.insert(name.to_string()),
            None => return Err(wrong(format!("`{tensor}` is in {file}, which is not a file of the folder"))),
        };
    }
    if names.is_empty() {
        return Err(wrong("`weight_map` is empty".into()));
    }
    Ok(names.into_iter().collect())
}
