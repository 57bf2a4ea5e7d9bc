//! Publishes files in a repository of models, in one commit.
//!
//! ```text
//! whoami -> what is there -> [repos/create] -> preupload -> LFS batch -> PUT .. PUT -> commit
//! ```
//!
//! Small files travel inside the commit. Large ones go to the Hub's storage first, as Git LFS does, whole or in parts;
//! what the storage has already is not sent again, so a second try goes on where the first one broke off.

mod commit;
mod lfs;
mod outgoing;
mod refused;
mod remote;
mod wire;

pub use outgoing::Outgoing;
pub use remote::{Remote, Stored};

use self::refused::Refused;
use self::wire::{Call, Trouble, Wire};
use super::failure::Failure;
use super::repository::{Holds, Repository, is_id};
use super::settings::HubSettings;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use serde_json::{Value, json};

/// Where files are to go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `owner/name`, or a name in the account behind the token.
    pub repository: &'a str,
    /// The branch; `main` where there is none.
    pub revision: Option<&'a str>,
    /// Whether a repository that has to be made is private.
    pub private: bool,
    /// Whether the files are proposed in a pull request.
    pub create_pr: bool,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// The new commit.
    pub commit: String,
    /// The page of the pull request, where one was opened.
    pub pull_request: Option<String>,
}

/// A conversation with the Hub about a repository that is pushed to.
pub struct Uploader<'a> {
    repository: Repository,
    private: bool,
    create_pr: bool,
    settings: &'a HubSettings,
    wire: Wire<'a>,
}

impl<'a> Uploader<'a> {
    /// Introduces itself to the Hub, and understands the target.
    ///
    /// # Errors
    /// A target that is none ([`Kind::Recipe`]), and errors of [`Kind::Hub`]: no network allowed, no token, one that the
    /// Hub does not accept or that may only read.
    pub fn open(target: Target, settings: &'a HubSettings, progress: &'a dyn Progress) -> Result<Self> {
        settings.discreet(Uploader::introduce(target, settings, progress))
    }

    fn introduce(target: Target, settings: &'a HubSettings, progress: &'a dyn Progress) -> Result<Self> {
        let name_alone = !target.repository.contains('/');
        let full = if name_alone { format!("account/{}", target.repository) } else { target.repository.to_owned() };
        let named = Place::Named(target.repository.to_owned());
        let mut repository =
            Repository::new(Holds::Model, &full, target.revision).map_err(|error| error.or_at(named))?;
        let wire = Wire::new(settings, progress);
        let (private, create_pr) = (target.private, target.create_pr);
        let named = Repository { id: target.repository.into(), ..repository.clone() };
        let refused = Refused { repository: &named, settings };
        if settings.offline {
            return Err(refused.offline());
        }
        if settings.token.is_none() {
            return Err(refused.error(Failure::NoToken, ""));
        }
        settings.check()?;
        let account = wire.send(&Call::get(&format!("{}/api/whoami-v2", settings.endpoint)).first());
        let account = account.map_err(|trouble| refused.of(trouble))?.json().ok_or_else(|| refused.nonsense())?;
        let name = account.get("name").and_then(Value::as_str).ok_or_else(|| refused.nonsense())?;
        if only_reads(&account) {
            return Err(refused.error(Failure::TokenWithoutPermission, "it is one that only reads"));
        }
        if name_alone {
            repository.id = format!("{name}/{}", target.repository);
            if !is_id(&repository.id) {
                return Err(Error::new(Kind::Hub, format!("`{}` is no name of a repository", repository.id)));
            }
        }
        Ok(Uploader { repository, private, create_pr, settings, wire })
    }

    /// `owner/name`.
    pub fn id(&self) -> &str {
        &self.repository.id
    }

    /// The branch that is pushed to.
    pub fn revision(&self) -> &str {
        &self.repository.revision
    }

    /// The repository's page.
    pub fn page(&self) -> String {
        match self.revision() {
            "main" => self.repository.page(self.settings),
            revision => format!("{}/tree/{revision}", self.repository.page(self.settings)),
        }
    }

    /// What the repository holds on its branch; `None` where either is not there yet.
    ///
    /// # Errors
    /// When the Hub refuses or is away.
    pub fn look(&mut self) -> Result<Option<Remote>> {
        match self.settings.discreet(self.describe(&self.repository)) {
            Ok(remote) => {
                // A repository that was renamed answers under its new name.
                self.repository.id.clone_from(&remote.id);
                Ok(Some(remote))
            }
            Err(error) => match Failure::of(&error) {
                Some(Failure::NoSuchRepository | Failure::NoSuchRevision) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Whether the Hub has a model of this id, as far as the token's account may see; `None` where it cannot be told.
    pub fn knows(&self, id: &str) -> Option<bool> {
        let repository = Repository::new(Holds::Model, id, None).ok()?;
        match self.describe(&repository) {
            Ok(_) => Some(true),
            Err(error) => (Failure::of(&error) == Some(Failure::NoSuchRepository)).then_some(false),
        }
    }

    fn describe(&self, repository: &Repository) -> Result<Remote> {
        let refused = Refused { repository, settings: self.settings };
        let answer = self.wire.send(&Call::get(&repository.api_url(self.settings)));
        let description = answer.map_err(|trouble| refused.of(trouble))?.json();
        description.as_ref().and_then(Remote::from_json).ok_or_else(|| refused.nonsense())
    }

    /// Makes the repository and the branch where they are not there, and says what they hold.
    ///
    /// # Errors
    /// When the Hub refuses or is away.
    pub fn create(&mut self) -> Result<Remote> {
        let settings = self.settings;
        settings.discreet(self.make())
    }

    fn make(&mut self) -> Result<Remote> {
        let (owner, name) = self.repository.id.split_once('/').unwrap_or_default();
        let mut wish = json!({"name": name, "organization": owner, "type": "model"});
        if self.private {
            wish["private"] = true.into();
        }
        let url = format!("{}/api/repos/create", self.settings.endpoint);
        match self.wire.send(&Call::post(&url, wish.to_string().as_bytes())) {
            Ok(_) => {}
            Err(Trouble::Refused(refusal)) if refusal.status == 409 => {}
            Err(trouble) => return Err(self.refused().of(trouble)),
        }
        if let Some(remote) = self.look()? {
            return Ok(remote);
        }
        if self.revision() != "main" {
            let branch = self.repository.revision.replace('/', "%2F");
            let url = format!("{}/api/models/{}/branch/{branch}", self.settings.endpoint, self.id());
            match self.wire.send(&Call::post(&url, b"{}")) {
                Ok(_) => {}
                Err(Trouble::Refused(refusal)) if refusal.status == 409 => {}
                Err(trouble) => return Err(self.refused().of(trouble)),
            }
        }
        self.look()?.ok_or_else(|| self.refused().error(Failure::NoSuchRepository, "it was made and is not there"))
    }

    /// Uploads files into one commit on top of `remote`, and removes others. Without any, nothing is committed.
    ///
    /// # Errors
    /// When the Hub refuses or is away, a file cannot be read or changes meanwhile, or the branch is no longer at
    /// `remote`.
    pub fn push(
        &self,
        files: &[Outgoing],
        removed: &[String],
        remote: &Remote,
        message: &str,
    ) -> Result<Option<Committed>> {
        if files.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        self.settings.discreet(self.send(files, removed, remote, message)).map(Some)
    }

    fn send(&self, files: &[Outgoing], removed: &[String], remote: &Remote, message: &str) -> Result<Committed> {
        let modes = commit::modes(self, files)?;
        let large: Vec<&Outgoing> = files.iter().zip(&modes).filter(|(_, large)| **large).map(|(f, _)| f).collect();
        lfs::upload(self, &large)?;
        files.iter().try_for_each(Outgoing::check_unchanged)?;
        commit::commit(self, files, &modes, removed, remote, message)
    }

    /// The address of the repository's part of the interface.
    fn api(&self, what: &str) -> String {
        let revision = self.repository.revision.replace('/', "%2F");
        let proposal = if self.create_pr { "?create_pr=1" } else { "" };
        format!("{}/api/models/{}/{what}/{revision}{proposal}", self.settings.endpoint, self.id())
    }

    fn refused(&self) -> Refused<'_> {
        Refused { repository: &self.repository, settings: self.settings }
    }
}

/// Whether the account's token may write nowhere.
fn only_reads(account: &Value) -> bool {
    let Some(token) = account.pointer("/auth/accessToken") else { return false };
    match (token.get("role").and_then(Value::as_str), token.get("fineGrained")) {
        (Some("read"), _) => true,
        // One that is allowed this and that: somewhere, writing has to be among it.
        (Some("fineGrained"), Some(allowed)) => !allowed.to_string().contains("\"repo.write\""),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_cannot_write_are_known_before_anything_is_sent() {
        let of = |token: Value| only_reads(&json!({"name": "ann", "auth": {"accessToken": token}}));
        let scoped = |permission: &str| json!({"scoped": [{"entity": {"name": "ann"}, "permissions": [permission]}]});
        assert!(of(json!({"role": "read"})));
        assert!(!of(json!({"role": "write"})));
        assert!(of(json!({"role": "fineGrained", "fineGrained": scoped("repo.content.read")})));
        assert!(!of(json!({"role": "fineGrained", "fineGrained": scoped("repo.write")})));
        assert!(!only_reads(&json!({"name": "ann"})));
    }
}
