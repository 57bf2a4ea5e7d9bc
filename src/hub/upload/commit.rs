//! One commit: which files travel inside it, and the commit itself.

use super::outgoing::Outgoing;
use super::remote::{Remote, Stored};
use super::wire::{Answer, Call, Trouble};
use super::{Committed, Uploader};
use crate::error::{Error, Kind, Result};
use crate::hub::failure::Failure;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Files that the Hub is asked about at once.
const FILES_AT_ONCE: usize = 256;
/// Attempts at a commit of which nobody knows whether it was made: each looks first whether it was.
const COMMIT_ATTEMPTS: usize = 5;
/// The most that a file inside a commit may be; the Hub's own limit is less.
const SMALL_LIMIT_BYTES: u64 = 32 << 20;

/// Of each file, whether it is a large one, which goes to the storage.
pub(super) fn modes(uploader: &Uploader, files: &[Outgoing]) -> Result<Vec<bool>> {
    let mut modes = Vec::with_capacity(files.len());
    for files in files.chunks(FILES_AT_ONCE) {
        let described = files.iter().map(|file| {
            let sample = BASE64_STANDARD.encode(file.sample()?);
            Ok(json!({"path": file.name, "sample": sample, "size": file.size_bytes}))
        });
        let question = json!({"files": described.collect::<Result<Vec<Value>>>()?}).to_string();
        let url = uploader.api("preupload");
        let answer = uploader.wire.send(&Call::post(&url, question.as_bytes()));
        let answer = answer.map_err(|trouble| uploader.refused().of(trouble))?.json();
        let answered = answer.as_ref().and_then(|json| json.get("files")).and_then(Value::as_array);
        for file in files {
            let of_file = |entry: &&Value| entry.get("path").and_then(Value::as_str) == Some(&file.name);
            let entry = answered.and_then(|entries| entries.iter().find(of_file));
            let entry = entry.ok_or_else(|| uploader.refused().nonsense())?;
            if entry.get("shouldIgnore").and_then(Value::as_bool) == Some(true) {
                let what = format!("the repository's `.gitignore` keeps `{}` out of it", file.name);
                return Err(
                    Error::new(Kind::Hub, what).hint("change that file on the Hub, or push to another repository")
                );
            }
            // The storage takes no empty files.
            let is_large = match entry.get("uploadMode").and_then(Value::as_str) {
                Some("lfs") => file.size_bytes > 0,
                Some("regular") if file.size_bytes <= SMALL_LIMIT_BYTES => false,
                _ => return Err(uploader.refused().nonsense()),
            };
            modes.push(is_large);
        }
    }
    Ok(modes)
}

/// Commits files on top of `remote`; large ones are in the storage already.
pub(super) fn commit(
    uploader: &Uploader,
    files: &[Outgoing],
    modes: &[bool],
    removed: &[String],
    remote: &Remote,
    message: &str,
) -> Result<Committed> {
    let header = json!({"summary": message, "description": "", "parentCommit": remote.commit});
    let mut lines = vec![json!({"key": "header", "value": header})];
    for (file, is_large) in files.iter().zip(modes) {
        lines.push(match is_large {
            true => json!({"key": "lfsFile", "value": {
                "path": file.name, "algo": "sha256", "oid": file.sha256(uploader.wire.progress)?, "size": file.size_bytes,
            }}),
            false => json!({"key": "file", "value": {
                "path": file.name, "content": BASE64_STANDARD.encode(file.whole()?), "encoding": "base64",
            }}),
        });
    }
    lines.extend(removed.iter().map(|name| json!({"key": "deletedFile", "value": {"path": name}})));
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let url = uploader.api("commit");
    // Sent twice it would be two commits, should the answer to the first one be lost.
    let call = Call::post(&url, body.as_bytes()).of_type("application/x-ndjson").patient().once();
    let (mut pause, mut attempt) = (uploader.settings.retry_pause, 0);
    loop {
        attempt += 1;
        let trouble = match made(uploader, uploader.wire.send(&call)) {
            Ok(committed) => return Ok(committed),
            Err(trouble) => trouble,
        };
        let is_unknown = is_unknown(&trouble);
        if uploader.create_pr && is_unknown {
            return Err(unknown(uploader, trouble));
        }
        let is_conflict = matches!(&trouble, Trouble::Refused(refusal) if matches!(refusal.status, 409 | 412));
        if !is_unknown && (!is_conflict || uploader.create_pr) {
            return Err(uploader.refused().of(trouble));
        }
        if is_unknown {
            std::thread::sleep(pause);
            pause *= 2;
        }
        // What stands in its way may be the commit itself, of which the Hub was not done when it was asked again.
        let now = uploader.describe(&uploader.repository)?;
        if now.commit != remote.commit && holds(&now, files, removed, uploader)? {
            return Ok(Committed { commit: now.commit, pull_request: None });
        }
        match trouble {
            Trouble::Refused(refusal) if is_conflict => {
                return Err(uploader.refused().error(Failure::Conflict, &refusal.message));
            }
            trouble if attempt == COMMIT_ATTEMPTS => return Err(uploader.refused().of(trouble)),
            _ => {}
        }
    }
}

/// What a success says; one that names no commit is as good as no answer.
fn made(uploader: &Uploader, answer: Result<Answer, Trouble>) -> Result<Committed, Trouble> {
    let json = answer?.json().unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(commit) = text("commitOid") else {
        let host = uploader.settings.shown_endpoint().to_string();
        return Err(Trouble::Broken(host, "its answer to the commit could not be understood".into()));
    };
    Ok(Committed { commit, pull_request: text("pullRequestUrl").map(|url| uploader.settings.without_secrets(&url)) })
}

/// Whether nobody knows if a request was obeyed.
fn is_unknown(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Broken(..) => true,
        Trouble::Refused(refusal) => refusal.status == 408 || refusal.status >= 500,
        Trouble::Local(_) => false,
    }
}

/// Whether a repository has come to hold what was to be committed.
fn holds(remote: &Remote, files: &[Outgoing], removed: &[String], uploader: &Uploader) -> Result<bool> {
    for file in files {
        let stored = remote.files.get(&file.name).unwrap_or(&Stored::Unknown);
        if !file.is(stored, uploader.wire.progress)? {
            return Ok(false);
        }
    }
    Ok(removed.iter().all(|name| !remote.files.contains_key(name)))
}

/// A pull request of which nobody knows whether it was opened.
fn unknown(uploader: &Uploader, trouble: Trouble) -> Error {
    let page = uploader.repository.page(uploader.settings);
    let hint = format!("see {page}/discussions whether it is there, before you try again");
    uploader.refused().of(trouble).hint(hint)
}
