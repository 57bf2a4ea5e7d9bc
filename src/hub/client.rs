//! Asking the Hub and downloading from it.
//!
//! hf-hub downloads and keeps the cache's layout. It has no timeouts and hides why the Hub refuses, so the questions
//! (what is there? may I?) are asked here first; it also downloads a file again when only the commit is new, and
//! stumbles over a partial file that is already whole, so those are put right before it starts.

use super::failure::Failure;
use super::http::{self, Refusal, origin};
use super::listing::Listing;
use super::repository::{Holds, Repository, is_inside};
use super::settings::HubSettings;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use std::cell::Cell;
use std::fs;
use std::path::Path;

/// Attempts at one file; each continues where the one before broke off.
const ATTEMPTS: u32 = 6;
/// The most that a repository's description may be: 64 MB, some 300,000 files.
const LISTING_LIMIT_BYTES: u64 = 64 << 20;

/// A conversation with the Hub about one repository.
pub(super) struct Client<'a> {
    repository: &'a Repository,
    settings: &'a HubSettings,
    agent: ureq::Agent,
    api: Api,
}

impl<'a> Client<'a> {
    pub fn new(repository: &'a Repository, settings: &'a HubSettings) -> Result<Client<'a>> {
        settings.check()?;
        let agent = http::agent(settings);
        let api = ApiBuilder::from_cache(hf_hub::Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_user_agent("gemma-tune", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| Failure::Hub(0).error(repository, settings, &e.to_string()))?;
        Ok(Client { repository, settings, agent, api })
    }

    /// What the repository holds at its revision.
    pub fn list(&self) -> Result<Listing> {
        let url = self.repository.api_url(self.settings);
        let mut response = self.get(&url, |request| request)?;
        let body = response.body_mut().with_config().limit(LISTING_LIMIT_BYTES).read_to_vec();
        let body = body.map_err(|e| self.away(&e))?;
        serde_json::from_slice(&body)
            .ok()
            .as_ref()
            .and_then(Listing::from_json)
            .ok_or_else(|| self.error(Failure::Hub(0), "expected a description of a repository"))
    }

    /// Brings files into the snapshot of the listing's commit, where they are not there yet.
    pub fn fetch(&self, listing: &Listing, names: &[&str], progress: &dyn Progress) -> Result<()> {
        let dir = self.repository.snapshot(self.settings, &listing.commit);
        let wanted: Vec<&str> = names.iter().copied().filter(|name| !dir.join(name).is_file()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut sizes = wanted.iter().map(|name| listing.get(name).and_then(|file| file.size_bytes));
        let total = sizes.try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)));
        self.check_space(total.unwrap_or(0))?;
        progress.start(&format!("downloading {}", self.repository.id), total, "bytes");
        let result = wanted.iter().try_for_each(|name| self.fetch_one(listing, &dir, name, progress));
        progress.finish();
        result
    }

    fn fetch_one(&self, listing: &Listing, dir: &Path, name: &str, progress: &dyn Progress) -> Result<()> {
        // hf-hub puts the name into the address as it is.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./+=@,~()".contains(&b)) {
            return Err(Error::new(Kind::Hub, format!("the file name `{name}` cannot be downloaded"))
                .at(Place::Named(self.repository.to_string()))
                .hint("download the repository with `hf download` and name the local folder"));
        }
        let file = self.api.repo(hf_hub::Repo::with_revision(
            self.repository.id.clone(),
            match self.repository.holds {
                Holds::Model => hf_hub::RepoType::Model,
                Holds::Data => hf_hub::RepoType::Dataset,
            },
            listing.commit.clone(),
        ));
        let size_bytes = listing.get(name).and_then(|f| f.size_bytes);
        let target = dir.join(name);
        if size_bytes == Some(0) {
            let _ = fs::remove_file(&target); // a link would be followed to what another revision has
            return crate::atomic::write(&target, b"");
        }
        let etag = self.probe(&file.url(name))?;
        let blob = self.repository.folder(self.settings).join("blobs").join(&etag);
        let seen = Cell::new(0);
        let mut pause = self.settings.retry_pause;
        let mut attempt = 1;
        loop {
            if tidy(&blob, &target, size_bytes).map_err(|e| Error::io("preparing the cache for", &target, e))? {
                progress.advance(size_bytes.unwrap_or(0).saturating_sub(seen.get()));
                return Ok(());
            }
            let bar = Bar { progress, seen: &seen, position: 0 };
            let error = match file.download_with_progress(name, bar) {
                Ok(_) => match (size_bytes, fs::metadata(&blob).or_else(|_| fs::metadata(&target)).map(|m| m.len())) {
                    (Some(expected), Ok(found)) if expected != found => {
                        // A server that ignores where to continue sends the start again.
                        let _ = fs::remove_file(&blob);
                        self.error(
                            Failure::NoNetwork,
                            &format!("`{name}` came with {found} bytes instead of {expected}"),
                        )
                    }
                    _ => return Ok(()),
                },
                Err(error) => self.download_error(name, &target, error),
            };
            if attempt >= ATTEMPTS || Failure::of(&error) != Some(Failure::NoNetwork) {
                return Err(error);
            }
            std::thread::sleep(pause);
            pause *= 2;
            attempt += 1;
        }
    }

    /// Asks for the first byte of a file, to know its tag in the cache and to hear a refusal in full.
    fn probe(&self, url: &str) -> Result<String> {
        let mut url = url.to_string();
        for _ in 0..5 {
            let response =
                self.get(&url, |request| request.header("Range", "bytes=0-0").config().max_redirects(0).build())?;
            let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
            let location = header("location");
            if response.status().is_redirection() && location.is_none() {
                return Err(self.error(Failure::Hub(response.status().as_u16()), "a redirection to nowhere"));
            }
            // A path on the same host is the same file under its new name; another host is the storage.
            if let Some(path) = location.filter(|l| l.starts_with('/') && !l.starts_with("//")) {
                url = format!("{}{path}", origin(&self.settings.endpoint));
                continue;
            }
            let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default().replace('"', "");
            if !is_inside(&etag) || header("x-repo-commit").is_none() {
                return Err(self.error(Failure::Hub(0), "a file without its tag and commit"));
            }
            return Ok(etag);
        }
        Err(self.error(Failure::Hub(0), "too many redirections"))
    }

    /// A GET whose unsuccessful answers are errors.
    fn get(&self, url: &str, change: impl Fn(Request) -> Request) -> Result<ureq::http::Response<ureq::Body>> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = change(request).call().map_err(|e| self.away(&e))?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        let refusal = Refusal::read(&mut response, self.settings);
        Err(self.error(refusal.failure(self.settings.token.is_some()), &refusal.message))
    }

    fn error(&self, failure: Failure, detail: &str) -> Error {
        failure.error(self.repository, self.settings, detail)
    }

    /// The error of a connection that did not come about or broke.
    fn away(&self, error: &ureq::Error) -> Error {
        self.error(Failure::NoNetwork, &http::broken(error))
    }

    fn download_error(&self, name: &str, target: &Path, error: ApiError) -> Error {
        match error {
            ApiError::RequestError(e) => match *e {
                ureq::Error::StatusCode(status) => {
                    let failure = match Failure::of_answer(status, "", "", self.settings.token.is_some()) {
                        // The storage failed, not the question of access, which `probe` has settled.
                        Failure::Hub(500..) | Failure::TooManyRequests => Failure::NoNetwork,
                        other => other,
                    };
                    self.error(failure, &format!("status {status} for `{name}`"))
                }
                other => self.away(&other),
            },
            ApiError::IoError(e) if is_local(&e) => Error::io("downloading", target, e),
            ApiError::IoError(e) => self
                .error(Failure::NoNetwork, &format!("`{name}` broke off: {e}"))
                .hint("try again: what has arrived is kept, and the download continues from there"),
            ApiError::LockAcquisition(lock) => {
                Error::new(Kind::Hub, format!("another program is downloading `{name}` of `{}`", self.repository.id))
                    .at(Place::Path(lock))
                    .hint("wait until it is done")
            }
            other => self.error(Failure::Hub(0), &format!("`{name}`: {other}")),
        }
    }

    /// Refuses a download that the disk cannot hold, where the system can tell.
    fn check_space(&self, needed_bytes: u64) -> Result<()> {
        let cache = &self.settings.cache;
        fs::create_dir_all(cache).map_err(|e| Error::io("creating the folder", cache, e))?;
        match fs4::available_space(cache) {
            Ok(free_bytes) if free_bytes < needed_bytes => {
                let (needed, free) = (needed_bytes.div_ceil(1_000_000), free_bytes / 1_000_000);
                Err(Error::new(Kind::NoSpace, format!("the download needs {needed} MB and {free} MB are free"))
                    .at_path(cache)
                    .hint("free some space, or choose another place with `HF_HOME`"))
            }
            _ => Ok(()),
        }
    }
}

type Request = ureq::RequestBuilder<ureq::typestate::WithoutBody>;

/// Whether an I/O error of a download is the disk's rather than the network's.
fn is_local(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        error.kind(),
        StorageFull | PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory | QuotaExceeded
    ) || error.raw_os_error() == Some(28)
}

/// Puts the cache right for `target`. Returns whether it is there already, linked to a blob that is whole.
fn tidy(blob: &Path, target: &Path, size_bytes: Option<u64>) -> std::io::Result<bool> {
    if target.is_symlink() && !target.exists() {
        fs::remove_file(target)?;
    }
    let Some(size_bytes) = size_bytes else { return Ok(target.exists()) };
    let part = blob.with_extension("part");
    match fs::metadata(&part).map(|m| m.len()) {
        // Stopped between the last byte and the renaming: hf-hub would ask for bytes beyond the end.
        Ok(len) if len == size_bytes => fs::rename(&part, blob)?,
        Ok(len) if len > size_bytes => fs::remove_file(&part)?,
        _ => {}
    }
    match fs::metadata(blob).map(|m| m.len()) {
        Ok(len) if len == size_bytes => {
            if !target.exists() {
                link(blob, target)?;
            }
            Ok(true)
        }
        Ok(_) => fs::remove_file(blob).map(|()| false),
        Err(_) => Ok(false),
    }
}

/// Makes `target` (`snapshots/COMMIT/..`) a link to `blob` (`blobs/ETAG`), or a copy where links are not to be had.
fn link(blob: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    #[cfg(unix)]
    {
        // From `snapshots/COMMIT/a/b` up to the repository's folder: a link that survives moving the cache.
        let folder = blob.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        let ups = target.strip_prefix(folder).map_or(0, |inside| inside.components().count().saturating_sub(1));
        let up: std::path::PathBuf = std::iter::repeat_n("..", ups).collect();
        let etag = blob.strip_prefix(folder).unwrap_or(blob);
        std::os::unix::fs::symlink(up.join(etag), target)
    }
    #[cfg(not(unix))]
    fs::hard_link(blob, target).or_else(|_| fs::copy(blob, target).map(drop))
}

/// hf-hub's progress of one attempt, as ours: bytes that an earlier attempt brought are counted once.
struct Bar<'a> {
    progress: &'a dyn Progress,
    /// Bytes of the file that have been reported.
    seen: &'a Cell<u64>,
    position: u64,
}

impl hf_hub::api::Progress for Bar<'_> {
    fn init(&mut self, _: usize, _: &str) {
        self.position = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.position += bytes as u64;
        let news = self.position.saturating_sub(self.seen.get());
        self.seen.set(self.seen.get().max(self.position));
        self.progress.advance(news);
    }

    fn finish(&mut self) {}
}
