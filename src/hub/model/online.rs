//! A model's files from the Hub itself.

use super::{INDEX, SINGLE, shards};
use crate::error::{Error, Kind, Place, Result};
use crate::hub::Wanted;
use crate::hub::client::Client;
use crate::hub::listing::Listing;
use crate::hub::repository::Repository;
use crate::hub::settings::HubSettings;
use crate::progress::Progress;
use std::path::PathBuf;

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

/// Downloads what `listing` has and the cache has not. Returns the folder.
pub(super) fn download(
    client: &Client,
    repository: &Repository,
    listing: &Listing,
    settings: &HubSettings,
    progress: &dyn Progress,
    wanted: Wanted,
) -> Result<PathBuf> {
    check_listing(listing, repository, settings)?;
    let small: Vec<&str> = SMALL.into_iter().filter(|name| listing.get(name).is_some()).collect();
    client.fetch(listing, &small, progress)?;
    let dir = repository.snapshot(settings, &listing.commit);
    match wanted {
        // The cache goes on saying which commit it has all of.
        Wanted::SmallFiles => return Ok(dir),
        Wanted::All(accept) => accept(&dir)?,
    }
    let weights = if listing.get(SINGLE).is_some() { vec![SINGLE.to_string()] } else { shards(&dir.join(INDEX))? };
    if let Some(missing) = weights.iter().find(|name| listing.get(name).is_none()) {
        let what = format!("`{INDEX}` names `{missing}`, which the repository does not have");
        return Err(Error::new(Kind::Weights, what).at(Place::Named(repository.to_string())));
    }
    client.fetch(listing, &weights.iter().map(String::as_str).collect::<Vec<_>>(), progress)?;
    repository.remember(settings, &listing.commit)?;
    Ok(dir)
}

/// Refuses a repository that is no model in safetensors, saying what it has instead.
fn check_listing(listing: &Listing, repository: &Repository, settings: &HubSettings) -> Result<()> {
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
