//! Data sets of the Hub: which files a URI means, and bringing them here.

mod card;
mod choose;
mod known;

use super::failure::Failure;
use super::listing::Listing;
use super::repository::{Holds, Repository, is_commit};
use super::settings::HubSettings;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use std::path::PathBuf;

/// Brings the files that `uri` and `split` mean into the cache. Returns their paths, sorted by name.
pub(super) fn fetch(uri: &str, split: &str, settings: &HubSettings, progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    let (repository, path) = parse(uri)?;
    let choose = |listing: &Listing| {
        choose::choose(listing, path.as_deref(), split).map_err(|e| e.or_at(Place::Named(uri.to_string())))
    };
    let cached = |or: Error| match repository.cached_commit(settings) {
        Some(commit) => {
            let dir = repository.snapshot(settings, &commit);
            let names = match (known::recall(&repository, settings, &commit), path.as_deref()) {
                (Some(listing), _) => choose(&listing)?,
                // A file that is named needs nobody to choose it.
                (None, Some(path)) if dir.join(path).is_file() => choose(&Listing::from_snapshot(&dir, &commit))?,
                (None, _) => {
                    let listing = known::of_snapshot(&repository, settings, &commit)
                        .map_err(|e| e.or_at(Place::Named(uri.to_string())))?;
                    match choose(&listing) {
                        Ok(names) => names,
                        Err(_) => return Err(or),
                    }
                }
            };
            // An earlier run has brought what it needed; what it did not need is not there.
            let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
            if paths.iter().all(|path| path.is_file()) { Ok(paths) } else { Err(or) }
        }
        None => Err(or),
    };
    if settings.offline {
        return cached(Failure::Offline.error(&repository, settings, ""));
    }
    #[cfg(not(feature = "hub"))]
    {
        let _ = (progress, is_commit);
        cached(super::built_without_hub(&repository))
    }
    #[cfg(feature = "hub")]
    {
        let client = super::client::Client::new(&repository, settings)?;
        let listing = match client.list() {
            Ok(listing) => listing,
            Err(error) if Failure::of(&error).is_some_and(Failure::is_passing) => return cached(error),
            Err(error) => return Err(error),
        };
        known::remember(&repository, settings, &listing);
        let names = choose(&listing)?;
        client.fetch(&listing, &names.iter().map(String::as_str).collect::<Vec<_>>(), progress)?;
        if !is_commit(&repository.revision) {
            repository.remember(settings, &listing.commit)?;
        }
        let dir = repository.snapshot(settings, &listing.commit);
        Ok(names.iter().map(|name| dir.join(name)).collect())
    }
}

/// Reads `hf://datasets/owner/name[@revision][/path]`.
pub(super) fn parse(uri: &str) -> Result<(Repository, Option<String>)> {
    let wrong = |what: &str| {
        Error::new(Kind::Recipe, format!("`{uri}` {what}"))
            .hint("a data set of the Hub is `hf://datasets/owner/name`, with `@revision` and `/path/inside` if need be")
    };
    let rest = uri.strip_prefix("hf://datasets/").ok_or_else(|| wrong("is not a data set's address"))?;
    let (owner, rest) = rest.split_once('/').ok_or_else(|| wrong("names no repository"))?;
    let (name, revision, path) = match rest.find(['@', '/']) {
        None => (rest, None, ""),
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], None, &rest[at + 1..]),
        Some(at) => {
            let after = &rest[at + 1..];
            // `refs/convert/parquet` and `refs/pr/N` are the revisions that have slashes.
            let slashes = if after.starts_with("refs/convert/") || after.starts_with("refs/pr/") { 3 } else { 1 };
            let end = after.match_indices('/').nth(slashes - 1).map_or(after.len(), |(end, _)| end);
            (&rest[..at], Some(after[..end].replace("%2F", "/")), after.get(end + 1..).unwrap_or_default())
        }
    };
    let repository = Repository::new(Holds::Data, &format!("{owner}/{name}"), revision.as_deref())?;
    Ok((repository, Some(path.trim_matches('/').to_string()).filter(|p| !p.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_repository_a_revision_and_a_path() {
        let parts = |uri: &str| {
            let (repository, path) = parse(uri).unwrap();
            (repository.id, repository.revision, path.unwrap_or_default())
        };
        let own = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
        assert_eq!(parts("hf://datasets/a/b"), own("a/b", "main", ""));
        assert_eq!(parts("hf://datasets/a/b/"), own("a/b", "main", ""));
        assert_eq!(parts("hf://datasets/a/b/data/*.parquet"), own("a/b", "main", "data/*.parquet"));
        assert_eq!(parts("hf://datasets/a/b@v1/x.jsonl"), own("a/b", "v1", "x.jsonl"));
        assert_eq!(
            parts("hf://datasets/a/b@refs/convert/parquet/d/0.parquet"),
            own("a/b", "refs/convert/parquet", "d/0.parquet")
        );
        assert_eq!(parts("hf://datasets/a/b@refs%2Fpr%2F3"), own("a/b", "refs/pr/3", ""));
        for uri in ["hf://a/b", "hf://datasets/a", "hf://datasets/../x", "hf://datasets/a/b@../x", "a/b"] {
            assert_eq!(parse(uri).unwrap_err().kind(), Kind::Recipe, "{uri}");
        }
    }
}
