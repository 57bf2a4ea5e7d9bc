//! What is said when the Hub does not take files.

use super::wire::Trouble;
use crate::error::{Error, Kind, Place};
use crate::hub::failure::Failure;
use crate::hub::repository::Repository;
use crate::hub::settings::HubSettings;

/// Who words the ways to say no of a repository that is pushed to.
#[derive(Clone, Copy)]
pub struct Refused<'r> {
    pub repository: &'r Repository,
    pub settings: &'r HubSettings,
}

impl Refused<'_> {
    /// The error of a request that had no success.
    pub fn of(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Refused(refusal) => self.error(refusal.failure(self.settings.token.is_some()), &refusal.message),
            Trouble::Broken(host, why) => {
                let what = format!("the connection to {host} did not hold: {why}");
                let hint = "check the network, a proxy (`HTTPS_PROXY`) or a mirror (`HF_ENDPOINT`); the same command goes on: \
                            files that have arrived are not sent again";
                self.say(Failure::NoNetwork, what, hint.into())
            }
            Trouble::Local(error) => error,
        }
    }

    /// The error of a failure; `detail` is the Hub's own message, possibly empty.
    pub fn error(&self, failure: Failure, detail: &str) -> Error {
        let Repository { id, revision, .. } = self.repository;
        let page = self.repository.page(self.settings);
        let tokens = format!("{}/settings/tokens", self.settings.shown_endpoint());
        let owner = id.split_once('/').map_or(id.as_str(), |(owner, _)| owner);
        let (what, hint) = match failure {
            Failure::NoToken => (
                format!("pushing to `{id}` needs a token that may write, and none was found"),
                format!("make one at {tokens}, then set `HF_TOKEN` or run `hf auth login`"),
            ),
            Failure::TokenWithoutPermission | Failure::LicenceNotAccepted => (
                format!("the token may not write to `{id}`"),
                format!(
                    "at {tokens}, make one of the kind `write`, or allow this one to write to repositories of `{owner}`; or \
                     push to your own account"
                ),
            ),
            Failure::NoSuchRepository => (
                format!("the Hub has no `{id}`, or does not show it to the token's account"),
                format!("check the spelling at {page}, and that the account may write there"),
            ),
            Failure::NoSuchRevision => (
                format!("`{id}` has no branch `{revision}`"),
                format!("see {page}/tree/main for its branches, or leave `--revision` out"),
            ),
            Failure::Conflict => (
                format!("`{id}` changed while files were being pushed to it"),
                "the same command looks again at what is there; files that have arrived are not sent again".into(),
            ),
            Failure::Offline => (
                format!("nothing can be pushed to `{id}` while only the cache may be used (`HF_HUB_OFFLINE`)"),
                "unset `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE`".into(),
            ),
            Failure::TooManyRequests => (
                "the Hub asks to slow down (429)".into(),
                "wait some minutes, or as long as it asks; the same command goes on: files that have arrived are not sent again"
                    .into(),
            ),
            Failure::Hub(status @ 500..) => (
                format!("the Hub failed with status {status}"),
                "try again later: files that have arrived are not sent again".into(),
            ),
            Failure::Hub(status) if status != 0 => {
                (format!("the Hub refuses what is pushed to `{id}` with status {status}"), format!("see {page}"))
            }
            other => return other.error(self.repository, self.settings, detail),
        };
        let what = if detail.is_empty() { what } else { format!("{what}: {detail}") };
        self.say(failure, what, hint)
    }

    /// The error of a Hub that may not be reached.
    pub fn offline(&self) -> Error {
        self.error(Failure::Offline, "")
    }

    /// The error of an answer that makes no sense.
    pub fn nonsense(&self) -> Error {
        self.error(Failure::Hub(0), "")
    }

    fn say(&self, failure: Failure, what: String, hint: String) -> Error {
        Error::new(Kind::Hub, what).at(Place::Named(self.repository.to_string())).hint(hint).caused_by(failure)
    }
}
