//! A repository of the Hub by name, and its place in the cache that Hugging Face tools share.
//!
//! ```text
//! models--owner--name/refs/main                     the commit that `main` was at
//! models--owner--name/snapshots/COMMIT/config.json  a link to a blob
//! models--owner--name/blobs/ETAG                    the bytes
//! ```

use super::settings::HubSettings;
use crate::error::{Error, Kind, Place, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Model,
    Data,
}

/// `owner/name` at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    pub holds: Holds,
    pub id: String,
    /// A branch, a tag, `refs/pr/N` or a commit.
    pub revision: String,
}

impl Repository {
    pub fn new(holds: Holds, id: &str, revision: Option<&str>) -> Result<Repository> {
        let revision = revision.unwrap_or("main");
        if !is_id(id) {
            return Err(Error::new(Kind::Recipe, format!("`{id}` is not a Hub id"))
                .hint("a Hub id is `owner/name`, of letters, digits, `-`, `_` and `.`"));
        }
        let fine = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !revision.split('/').all(fine) || revision.len() > 255 {
            return Err(Error::new(Kind::Recipe, format!("`{revision}` is not a revision"))
                .at(Place::Named(id.into()))
                .hint("a revision is a branch, a tag or a commit: `owner/name@main`"));
        }
        Ok(Repository { holds, id: id.into(), revision: revision.into() })
    }

    /// The page of the repository, where its licence is accepted.
    pub fn page(&self, settings: &HubSettings) -> String {
        match self.holds {
            Holds::Model => format!("{}/{}", settings.shown_endpoint(), self.id),
            Holds::Data => format!("{}/datasets/{}", settings.shown_endpoint(), self.id),
        }
    }

    /// The address that describes the repository at its revision.
    #[cfg(feature = "hub")]
    pub fn api_url(&self, settings: &HubSettings) -> String {
        let kind = match self.holds {
            Holds::Model => "models",
            Holds::Data => "datasets",
        };
        format!(
            "{}/api/{kind}/{}/revision/{}?blobs=true",
            settings.endpoint,
            self.id,
            self.revision.replace('/', "%2F")
        )
    }

    /// The repository's folder in the cache.
    pub fn folder(&self, settings: &HubSettings) -> PathBuf {
        let kind = match self.holds {
            Holds::Model => "models",
            Holds::Data => "datasets",
        };
        settings.cache.join(format!("{kind}--{}", self.id.replace('/', "--")))
    }

    /// The folder of the files of `commit`.
    pub fn snapshot(&self, settings: &HubSettings, commit: &str) -> PathBuf {
        self.folder(settings).join("snapshots").join(commit)
    }

    /// The commit that the cache last saw this revision at, if its snapshot is there.
    pub fn cached_commit(&self, settings: &HubSettings) -> Option<String> {
        let commit = if is_commit(&self.revision) {
            self.revision.clone()
        } else {
            std::fs::read_to_string(self.folder(settings).join("refs").join(&self.revision)).ok()?.trim().to_string()
        };
        (is_commit(&commit) && self.snapshot(settings, &commit).is_dir()).then_some(commit)
    }

    /// Remembers in the cache that this revision is at `commit`.
    #[cfg(feature = "hub")]
    pub fn remember(&self, settings: &HubSettings, commit: &str) -> Result<()> {
        let refs = self.folder(settings).join("refs");
        if self.revision != commit {
            crate::atomic::write(&refs.join(&self.revision), commit.as_bytes())?;
        }
        // hf-hub downloads by commit and leaves a reference named like it, which means nothing.
        let _ = std::fs::remove_file(refs.join(commit));
        Ok(())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.holds == Holds::Data { "datasets/" } else { "" };
        match self.revision.as_str() {
            "main" => write!(f, "{kind}{}", self.id),
            revision => write!(f, "{kind}{}@{revision}", self.id),
        }
    }
}

/// Whether `id` is `owner/name` as the Hub allows it.
pub(super) fn is_id(id: &str) -> bool {
    let fine = |part: &str| {
        (1..=96).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("--")
            && !part.contains("..")
    };
    id.split_once('/').is_some_and(|(owner, name)| fine(owner) && fine(name))
}

/// Whether `revision` is a full commit hash.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a file name from a server or an index stays inside the folder that it is joined to.
pub(super) fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\\')
        && Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_revisions_that_could_leave_the_cache_are_refused() {
        for id in ["google/gemma-3-1b-it", "a/b", "Owner_1/x.y"] {
            assert!(is_id(id), "{id}");
        }
        for id in ["gemma", "a/b/c", "../x", "a/..", "a/.b", "a/b c", "", "a/", "/b", "a--b/c"] {
            assert!(!is_id(id), "{id}");
        }
        for revision in ["main", "v1.0", "refs/pr/5", "refs/convert/parquet"] {
            assert!(Repository::new(Holds::Model, "a/b", Some(revision)).is_ok(), "{revision}");
        }
        for revision in ["", "..", "../x", "a//b", "a b", "/etc"] {
            let error = Repository::new(Holds::Model, "a/b", Some(revision)).unwrap_err();
            assert_eq!(error.kind(), Kind::Recipe, "{revision}");
        }
        for name in ["config.json", "data/train-0.parquet"] {
            assert!(is_inside(name));
        }
        for name in ["../x", "/etc/passwd", "a/../../b", "", "a\\..\\b"] {
            assert!(!is_inside(name), "{name}");
        }
    }
}
