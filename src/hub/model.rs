//! Which files of a model's repository are needed, in which order, and whether the cache has them all.

use super::failure::Failure;
use super::listing::Listing;
use super::repository::{Repository, is_commit, is_inside};
use super::settings::Settings;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Fetched first, so that whatever they make impossible is known before gigabytes are.
const SMALL: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    INDEX,
    "tokenizer.json",
];

/// Brings a model's files into the cache where they are not there yet. Returns their folder and commit.
pub(super) fn fetch(
    repository: &Repository,
    settings: &Settings,
    progress: &dyn Progress,
    accept: &dyn Fn(&Path) -> Result<()>,
) -> Result<(PathBuf, String)> {
    let cached = repository
        .cached_commit(settings)
        .map(|commit| (repository.snapshot(settings, &commit), commit))
        .filter(|(dir, _)| is_complete(dir));
    if let Some((dir, commit)) = &cached
        && (settings.offline || is_commit(&repository.revision))
    {
        accept(dir)?;
        return Ok((dir.clone(), commit.clone()));
    }
    if settings.offline {
        return Err(Failure::Offline.error(repository, settings, ""));
    }
    online(repository, settings, progress, accept, cached)
}

#[cfg(not(feature = "hub"))]
fn online(
    repository: &Repository,
    _: &Settings,
    _: &dyn Progress,
    accept: &dyn Fn(&Path) -> Result<()>,
    cached: Option<(PathBuf, String)>,
) -> Result<(PathBuf, String)> {
    let (dir, commit) = cached.ok_or_else(|| super::built_without_hub(repository))?;
    accept(&dir)?;
    Ok((dir, commit))
}

#[cfg(feature = "hub")]
fn online(
    repository: &Repository,
    settings: &Settings,
    progress: &dyn Progress,
    accept: &dyn Fn(&Path) -> Result<()>,
    cached: Option<(PathBuf, String)>,
) -> Result<(PathBuf, String)> {
    let client = super::client::Client::new(repository, settings)?;
    let listing = match client.list() {
        Ok(listing) => listing,
        // The Hub is away: what it last said is good enough.
        Err(error) => match cached.filter(|_| Failure::of(&error).is_some_and(Failure::is_passing)) {
            Some((dir, commit)) => {
                accept(&dir)?;
                return Ok((dir, commit));
            }
            None => return Err(error),
        },
    };
    check_listing(&listing, repository, settings)?;
    let small: Vec<&str> = SMALL.into_iter().filter(|name| listing.get(name).is_some()).collect();
    client.fetch(&listing, &small, progress)?;
    let dir = repository.snapshot(settings, &listing.commit);
    accept(&dir)?;
    let weights = if listing.get(SINGLE).is_some() { vec![SINGLE.to_string()] } else { shards(&dir.join(INDEX))? };
    if let Some(missing) = weights.iter().find(|name| listing.get(name).is_none()) {
        return Err(Error::new(
            Kind::Weights,
            format!("`{INDEX}` names `{missing}`, which the repository does not have"),
        )
        .at(Place::Named(repository.to_string())));
    }
    client.fetch(&listing, &weights.iter().map(String::as_str).collect::<Vec<_>>(), progress)?;
    repository.remember(settings, &listing.commit)?;
    Ok((dir, listing.commit))
}

/// Refuses a repository that is no model in safetensors, saying what it has instead.
#[cfg(feature = "hub")]
fn check_listing(listing: &Listing, repository: &Repository, settings: &Settings) -> Result<()> {
    let refuse = |what: &str, hint: String| {
        Err(Error::new(Kind::Weights, format!("`{}` {what}", repository.id))
            .at(Place::Named(repository.to_string()))
            .hint(hint))
    };
    let page = repository.page(settings);
    if listing.get("adapter_config.json").is_some() && listing.get("config.json").is_none() {
        return refuse("is an adapter, not a model", format!("name the base model that its card names: {page}"));
    }
    if listing.get(SINGLE).is_some() || listing.get(INDEX).is_some() {
        return match listing.get("config.json") {
            Some(_) => Ok(()),
            None => refuse("has no `config.json`", format!("see {page}/tree/{}", repository.revision)),
        };
    }
    let ggufs: Vec<&str> = listing.names().filter(|name| name.to_ascii_lowercase().ends_with(".gguf")).collect();
    match ggufs.first() {
        Some(first) => refuse(
            "holds GGUF files and no safetensors",
            format!("download the one you want (`hf download {} {first}`) and name the file", repository.id),
        ),
        None => refuse("has no `model.safetensors`", format!("see {page}/tree/{}", repository.revision)),
    }
}

/// Whether a snapshot has everything that a model needs.
fn is_complete(dir: &Path) -> bool {
    dir.join("config.json").is_file()
        && (dir.join(SINGLE).is_file()
            || shards(&dir.join(INDEX)).is_ok_and(|names| names.iter().all(|name| dir.join(name).is_file())))
}

/// The files that an index of shards names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let wrong = |what: String| Error::new(Kind::Weights, what).at_path(index);
    let bytes = std::fs::read(index).map_err(|e| Error::io("reading", index, e))?;
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
