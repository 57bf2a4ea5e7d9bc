//! A folder of results, published on the Hub in one commit.

#[cfg(feature = "hub")]
mod base_model;
#[cfg(feature = "hub")]
mod contents;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod overwriting;
#[cfg(feature = "hub")]
mod private;
#[cfg(feature = "hub")]
mod record;

use crate::error::Result;
use crate::progress::Progress;
use serde::Serialize;
use std::path::Path;

/// A file or folder that stays here, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its path in the folder.
    pub name: String,
    /// Why it is not published.
    pub why: &'static str,
}

/// Where a folder goes, and how.
#[derive(Debug, Clone, Copy)]
pub struct PushOptions<'a> {
    /// `owner/name`, or a name in the account behind the token.
    pub repository: &'a str,
    /// The base model's id on the Hub, for a base that was a file or folder here.
    pub base_model: Option<&'a str>,
    /// The branch.
    pub revision: Option<&'a str>,
    /// Whether a new repository is private.
    pub private: bool,
    /// Whether the files are proposed in a pull request.
    pub create_pr: bool,
    /// The commit that the repository was at when it was agreed that its files may be replaced.
    pub agreed: Option<&'a str>,
}

/// What became of a folder.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// `owner/name`.
    pub repository: String,
    /// The branch.
    pub revision: String,
    /// The page to look at.
    pub url: String,
    /// The new commit; none where everything was there already.
    pub commit: Option<String>,
    /// The page of the pull request.
    pub pull_request: Option<String>,
    /// Files that were pushed, by name.
    pub pushed: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub unchanged: Vec<String>,
    /// Files that were pushed from this folder earlier and are no longer in it.
    pub removed: Vec<String>,
    /// What stayed here.
    pub left_out: Vec<LeftOut>,
}

/// Asks whether another's files may be replaced; an error says no.
pub type Consent<'a> = &'a dyn Fn(&str) -> Result<()>;

/// Pushes the adapter, the model or the GGUF files in a folder to a repository of the Hub.
///
/// # Errors
/// A folder that nobody else could use, or that holds something private, before anything is sent; no consent; a Hub that
/// refuses or is away.
#[cfg(feature = "hub")]
pub fn push(folder: &Path, options: PushOptions, consent: Consent, progress: &dyn Progress) -> Result<Pushed> {
    use crate::hub::HubSettings;
    use crate::hub::upload::{Target, Uploader};

    let settings = HubSettings::from_env()?;
    let prepared = files::Prepared::of(folder, options.base_model, &settings, progress)?;
    let PushOptions { repository, revision, private, create_pr, .. } = options;
    let mut uploader = Uploader::open(Target { repository, revision, private, create_pr }, &settings, progress)?;
    if prepared.base.is_none() {
        progress.note("The card names no base model: `--base-model owner/name` says which one it is");
    }
    if let Some(base) = prepared.base.as_ref().filter(|base| uploader.knows(&base.id) == Some(false)) {
        progress.note(&format!("Warning: the Hub shows no model `{}` to this account, and the card names it", base.id));
    }
    let remote = uploader.look()?;
    let files = prepared.files(uploader.id())?;
    let place = format!("{}/{}@{}", settings.shown_endpoint(), uploader.id(), uploader.revision());
    let mut record = record::Record::read(&prepared.folder);
    if let Some(remote) = &remote {
        if private && !remote.is_private {
            return Err(overwriting::is_public(uploader.id()));
        }
        let is_agreed = create_pr || options.agreed == Some(&remote.commit);
        if !is_agreed
            && let Some(question) = overwriting::question(&prepared, &files, &place, &record, remote, progress)?
        {
            consent(&question)?;
        }
    }
    let remote = match remote {
        Some(remote) => remote,
        None => uploader.create()?,
    };
    // Somebody else may have made it just now.
    if private && !remote.is_private {
        return Err(overwriting::is_public(uploader.id()));
    }
    let is_there = |file: &crate::hub::upload::Outgoing| match remote.files.get(&file.name) {
        Some(stored) => file.is(stored, progress),
        None => Ok(false),
    };
    let (mut fresh, mut unchanged, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        names.push(file.name.clone());
        match is_there(&file)? {
            true => unchanged.push(file.name),
            false => fresh.push(file),
        }
    }
    let is_gone = |name: &&str| !names.iter().any(|kept| kept == name) && record.has(&place, name, &remote);
    let removed: Vec<String> = record.names(&place).filter(is_gone).map(str::to_owned).collect();
    let message = format!("Upload {} with gemma-tune {}", prepared.sort.name(), env!("CARGO_PKG_VERSION"));
    let committed = uploader.push(&fresh, &removed, &remote, &message)?;
    if !create_pr {
        // What is there now is remembered as what was pushed from here; without that the next push only asks.
        match uploader.look() {
            Ok(Some(now)) => {
                record.keep(&place, names.iter().map(String::as_str), &now);
                record.write(&prepared.folder, progress);
            }
            _ => progress.note("The Hub did not say what it holds now, so the next push of this folder will ask"),
        }
    }
    let (commit, pull_request) = committed.map_or((None, None), |made| (Some(made.commit), made.pull_request));
    Ok(Pushed {
        repository: uploader.id().to_owned(),
        revision: uploader.revision().to_owned(),
        url: pull_request.clone().unwrap_or_else(|| uploader.page()),
        commit,
        pull_request,
        bytes: fresh.iter().map(|file| file.size_bytes).sum(),
        pushed: fresh.into_iter().map(|file| file.name).collect(),
        unchanged,
        removed,
        left_out: prepared.left_out,
    })
}

/// Asks the Hub, before there is anything to push, what it can tell of a later push: whether the token is right, and
/// whether the repository holds something already. Returns the commit that it was agreed to replace.
///
/// # Errors
/// A base that others could not find, and as [`push`].
#[cfg(feature = "hub")]
pub fn check(base: &str, options: PushOptions, consent: Consent, progress: &dyn Progress) -> Result<Option<String>> {
    use crate::hub::HubSettings;
    use crate::hub::upload::{Target, Uploader};

    base_model::check(base, options.base_model)?;
    let settings = HubSettings::from_env()?;
    let PushOptions { repository, revision, private, create_pr, .. } = options;
    let mut uploader = Uploader::open(Target { repository, revision, private, create_pr }, &settings, progress)?;
    let Some(remote) = uploader.look()? else { return Ok(None) };
    if private && !remote.is_private {
        return Err(overwriting::is_public(uploader.id()));
    }
    if let Some(question) = overwriting::question_before(&remote) {
        consent(&question)?;
    }
    Ok(Some(remote.commit))
}

/// Says that this program cannot.
///
/// # Errors
/// In any case.
#[cfg(not(feature = "hub"))]
pub fn check(_: &str, options: PushOptions, consent: Consent, progress: &dyn Progress) -> Result<Option<String>> {
    push(Path::new(""), options, consent, progress).map(|_| None)
}

/// Says that this program cannot.
///
/// # Errors
/// In any case.
#[cfg(not(feature = "hub"))]
pub fn push(_: &Path, _: PushOptions, _: Consent, _: &dyn Progress) -> Result<Pushed> {
    use crate::error::{Error, Kind};
    Err(Error::new(Kind::Hub, "this program was built without the Hub, and pushes nothing")
        .hint("build it with the `hub` feature, or upload the folder with `hf upload`"))
}
