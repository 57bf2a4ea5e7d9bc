//! The ways in which the Hub says no, told apart, each with what to do and the page to open.

use super::repository::{Holds, Repository};
use super::settings::HubSettings;
use crate::error::{Error, Kind, Place, did_you_mean};

/// Why files could not be had from the Hub. The cause ([`std::error::Error::source`]) of errors of [`Kind::Hub`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The repository needs a token and there is none.
    #[error("no token")]
    NoToken,
    /// The Hub does not know the token.
    #[error("bad token")]
    BadToken,
    /// The repository is gated and the account behind the token has no access to it (yet).
    #[error("licence not accepted")]
    LicenceNotAccepted,
    /// The token is good but may not read this repository.
    #[error("token without permission")]
    TokenWithoutPermission,
    /// There is no such repository, or it is private to others.
    #[error("no such repository")]
    NoSuchRepository,
    /// The repository has no such branch, tag or commit.
    #[error("no such revision")]
    NoSuchRevision,
    /// The repository has no such file.
    #[error("no such file")]
    NoSuchFile,
    /// The repository is no longer what it was when it was looked at.
    #[error("conflict")]
    Conflict,
    /// The Hub could not be reached.
    #[error("no network")]
    NoNetwork,
    /// The files are not in the cache, and only the cache may be used.
    #[error("offline")]
    Offline,
    /// The Hub asks to slow down.
    #[error("too many requests")]
    TooManyRequests,
    /// The Hub failed with this status or sent what cannot be understood (0).
    #[error("the Hub failed (status {0})")]
    Hub(u16),
}

/// The published ids, for suggestions.
const KNOWN: [&str; 10] = [
    "google/gemma-3-270m",
    "google/gemma-3-270m-it",
    "google/gemma-3-1b-pt",
    "google/gemma-3-1b-it",
    "google/gemma-3-4b-pt",
    "google/gemma-3-4b-it",
    "google/gemma-3-12b-pt",
    "google/gemma-3-12b-it",
    "google/gemma-3-27b-pt",
    "google/gemma-3-27b-it",
];

impl Failure {
    /// Reads an unsuccessful answer: its status and the Hub's `X-Error-Code` and `X-Error-Message`.
    #[cfg(feature = "hub")]
    pub(super) fn of_answer(status: u16, code: &str, message: &str, has_token: bool) -> Failure {
        match (status, code) {
            (401, _) if message.contains("Invalid credentials") => Failure::BadToken,
            (401 | 403, "GatedRepo") if message.contains("fine-grained") => Failure::TokenWithoutPermission,
            (401, "GatedRepo") => {
                if has_token {
                    Failure::BadToken
                } else {
                    Failure::NoToken
                }
            }
            (403, "GatedRepo") => Failure::LicenceNotAccepted,
            (_, "RevisionNotFound") => Failure::NoSuchRevision,
            (_, "EntryNotFound") => Failure::NoSuchFile,
            (_, "RepoNotFound") => Failure::NoSuchRepository,
            // Without a code: an old or another server. The plain meaning of the status.
            (401, _) => {
                if has_token {
                    Failure::BadToken
                } else {
                    Failure::NoToken
                }
            }
            (403, _) if message.contains("gated") => Failure::LicenceNotAccepted,
            (403, _) => {
                if has_token {
                    Failure::TokenWithoutPermission
                } else {
                    Failure::NoToken
                }
            }
            (404, _) => Failure::NoSuchRepository,
            (409 | 412, _) => Failure::Conflict,
            (429, _) => Failure::TooManyRequests,
            (status, _) => Failure::Hub(status),
        }
    }

    /// The error for the user; `detail` is the Hub's or the network's own message, possibly empty.
    pub(super) fn error(self, repository: &Repository, settings: &HubSettings, detail: &str) -> Error {
        let Repository { id, revision, .. } = repository;
        let page = repository.page(settings);
        let tokens = format!("{}/settings/tokens", settings.shown_endpoint());
        let give_token = "set `HF_TOKEN` or run `hf auth login`";
        let (what, hint) = match self {
            Failure::NoToken => (
                format!("`{id}` needs a Hugging Face account that accepted its licence, and no token was found"),
                format!("accept the licence at {page}, make a token at {tokens}, then {give_token}"),
            ),
            Failure::BadToken => (
                "the Hub does not accept the token: it is wrong, expired or deleted".to_string(),
                format!("make a new one at {tokens}, then {give_token}"),
            ),
            Failure::LicenceNotAccepted if detail.contains("await") => {
                (format!("access to `{id}` was requested and not granted yet"), format!("see {page}"))
            }
            Failure::LicenceNotAccepted => (
                format!("the account behind the token has not accepted the licence of `{id}`"),
                format!("open {page} with that account and accept it"),
            ),
            Failure::TokenWithoutPermission => (
                format!("the token may not read `{id}`"),
                format!("at {tokens}, allow it to read public gated repositories and this one, or make a `read` token"),
            ),
            Failure::NoSuchRepository => {
                let known = did_you_mean(id, KNOWN).filter(|known| known != id && repository.holds == Holds::Model);
                let hint = match (known, &settings.token) {
                    (Some(known), _) => format!("did you mean `{known}`?"),
                    (None, None) => format!("check the spelling at {page}; a private one needs a token: {give_token}"),
                    (None, Some(_)) => format!("check the spelling at {page}, and that the token's account may see it"),
                };
                (format!("the Hub has no `{id}`"), hint)
            }
            Failure::NoSuchRevision => (
                format!("`{id}` has no branch, tag or commit `{revision}`"),
                format!("see {page}/tree/main for its branches and tags"),
            ),
            Failure::NoSuchFile => {
                (format!("`{id}` lacks a file that it lists"), format!("see {page}/tree/{revision}"))
            }
            Failure::Conflict => {
                (format!("`{id}` is no longer what it was a moment ago"), format!("try again; see {page}"))
            }
            Failure::NoNetwork => (
                format!("the Hub at {} could not be reached", settings.shown_endpoint()),
                "check the network, a proxy (`HTTPS_PROXY`) or a mirror (`HF_ENDPOINT`), or name a local folder"
                    .to_string(),
            ),
            Failure::Offline => (
                format!(
                    "`{repository}` is not complete in the cache, and only the cache may be used (`HF_HUB_OFFLINE`)"
                ),
                format!(
                    "unset `HF_HUB_OFFLINE` once, or name a local folder; the cache is {}",
                    settings.cache.display()
                ),
            ),
            Failure::TooManyRequests => (
                "the Hub asks to slow down (429)".to_string(),
                if settings.token.is_none() {
                    format!("wait a minute, or {give_token}")
                } else {
                    "wait a minute".into()
                },
            ),
            Failure::Hub(0) => {
                ("the Hub's answer could not be understood".to_string(), format!("see whether {page} opens"))
            }
            Failure::Hub(status) => (format!("the Hub failed with status {status}"), "try again later".to_string()),
        };
        let what = if detail.is_empty() { what } else { format!("{what}: {detail}") };
        Error::new(Kind::Hub, what).at(Place::Named(repository.to_string())).hint(hint).caused_by(self)
    }

    /// The failure behind `error`, if it is one.
    pub fn of(error: &Error) -> Option<Failure> {
        std::error::Error::source(error).and_then(|source| source.downcast_ref()).copied()
    }

    /// Whether what the cache has may be used instead: the Hub is away, rather than against it.
    #[cfg(feature = "hub")]
    pub(super) fn is_passing(self) -> bool {
        matches!(self, Failure::NoNetwork | Failure::TooManyRequests | Failure::Hub(_))
    }
}
