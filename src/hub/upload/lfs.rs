//! Large files, sent to the Hub's storage as Git LFS does: whole, or in parts side by side.

use super::Uploader;
use super::outgoing::Outgoing;
use super::wire::{Call, LFS, Part, Trouble};
use crate::error::{Error, Kind, Result};
use crate::hub::failure::Failure;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Objects that the Hub is asked about at once.
const OBJECTS_AT_ONCE: usize = 100;
/// Connections to the storage at a time.
const CONNECTIONS: usize = 4;
/// How often a file is begun anew where its addresses have expired or its parts were not accepted as a whole.
const BEGINNINGS: usize = 3;

/// What the storage has to say on a file.
enum Wanted {
    /// It has the file.
    Nothing,
    /// It takes the file whole at an address, with headers.
    Whole { url: String, headers: Vec<(String, String)> },
    /// It takes parts of a length at an address each, and wants to be told when all have arrived.
    Parts { urls: Vec<String>, length: u64, completion: String },
}

struct Transfer {
    wanted: Wanted,
    /// Where the Hub wants to be told that the file has arrived.
    verify: Option<String>,
}

/// Brings files into the storage that it does not have.
pub(super) fn upload(uploader: &Uploader, files: &[&Outgoing]) -> Result<()> {
    let progress = uploader.wire.progress;
    let (mut known, mut missing) = (HashSet::new(), Vec::new());
    for files in files.chunks(OBJECTS_AT_ONCE) {
        // Two files of the same bytes are one object.
        let mut fresh = Vec::new();
        for file in files {
            if known.insert(file.sha256(progress)?.to_owned()) {
                fresh.push(*file);
            }
        }
        let transfers = ask(uploader, &fresh)?;
        missing.extend(fresh.into_iter().zip(transfers).filter(|(_, t)| !matches!(t.wanted, Wanted::Nothing)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let total = missing.iter().map(|(file, _)| file.size_bytes).sum();
    progress.start(&format!("Pushing to {}", uploader.id()), Some(total), "bytes");
    let sent = missing.into_iter().try_for_each(|(file, transfer)| send(uploader, file, transfer));
    progress.finish();
    sent
}

/// Asks the Hub where files are to go.
fn ask(uploader: &Uploader, files: &[&Outgoing]) -> Result<Vec<Transfer>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let progress = uploader.wire.progress;
    let objects = files.iter().map(|file| Ok(json!({"oid": file.sha256(progress)?, "size": file.size_bytes})));
    let question = json!({
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": objects.collect::<Result<Vec<Value>>>()?,
        "hash_algo": "sha256",
        "ref": {"name": uploader.revision()},
    });
    let url = format!("{}/{}.git/info/lfs/objects/batch", uploader.settings.endpoint, uploader.id());
    let answer = uploader.wire.send(&Call::post(&url, question.to_string().as_bytes()).of_type(LFS));
    let answer = answer.map_err(|trouble| uploader.refused().of(trouble))?.json().unwrap_or_default();
    let objects = answer.get("objects").and_then(Value::as_array);
    let objects = objects.ok_or_else(|| uploader.refused().nonsense())?;
    files.iter().map(|file| transfer(uploader, file, objects)).collect()
}

/// What the answer says of a file.
fn transfer(uploader: &Uploader, file: &Outgoing, objects: &[Value]) -> Result<Transfer> {
    let nonsense = || uploader.refused().nonsense();
    let oid = file.sha256(uploader.wire.progress)?;
    let object = objects.iter().find(|object| object.get("oid").and_then(Value::as_str) == Some(oid));
    let object = object.ok_or_else(nonsense)?;
    if let Some(error) = object.get("error") {
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        let message = uploader.settings.heard(message);
        let failure = Failure::of_answer(status.unwrap_or_default(), "", &message, true);
        return Err(uploader.refused().error(failure, &format!("`{}`: {message}", file.name)));
    }
    let Some(actions) = object.get("actions").filter(|actions| !actions.is_null()) else {
        return Ok(Transfer { wanted: Wanted::Nothing, verify: None });
    };
    let href = |action: &str| actions.get(action)?.get("href")?.as_str().map(str::to_owned);
    let Some(url) = href("upload") else { return Ok(Transfer { wanted: Wanted::Nothing, verify: href("verify") }) };
    let none = Map::new();
    let header = actions.pointer("/upload/header").and_then(Value::as_object).unwrap_or(&none);
    let wanted = match header.get("chunk_size") {
        None => {
            let headers = header.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            // What the length is, is said in any case.
            Wanted::Whole {
                url,
                headers: headers.filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")).collect(),
            }
        }
        Some(size) => {
            let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).filter(|size| *size > 0);
            let length = size.ok_or_else(nonsense)?;
            let part = |(number, url): (&String, &Value)| Some((number.parse::<u64>().ok()?, url.as_str()?.to_owned()));
            let mut parts: Vec<(u64, String)> = header.iter().filter_map(part).collect();
            parts.sort();
            if parts.len() as u64 != file.size_bytes.div_ceil(length) {
                return Err(nonsense());
            }
            Wanted::Parts { urls: parts.into_iter().map(|(_, url)| url).collect(), length, completion: url }
        }
    };
    Ok(Transfer { wanted, verify: href("verify") })
}

/// Sends a file, and begins anew where only new addresses help.
fn send(uploader: &Uploader, file: &Outgoing, first: Transfer) -> Result<()> {
    let mut transfer = first;
    let seen: Vec<AtomicU64> = match &transfer.wanted {
        Wanted::Parts { urls, .. } => urls.iter().map(|_| AtomicU64::new(0)).collect(),
        _ => vec![AtomicU64::new(0)],
    };
    let mut beginning = 1;
    loop {
        let trouble = match attempt(uploader, file, &transfer, &seen) {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        // Addresses are good for a while only, and parts that the storage has lost cannot be put together.
        let is_stale = matches!(&trouble, Trouble::Refused(refusal) if matches!(refusal.status, 400 | 401 | 403 | 404));
        if !is_stale || beginning == BEGINNINGS {
            return Err(storage_error(uploader, file, trouble));
        }
        let again = ask(uploader, &[file])?.pop().ok_or_else(|| uploader.refused().nonsense())?;
        let same_parts = match (&transfer.wanted, &again.wanted) {
            (Wanted::Parts { length: before, .. }, Wanted::Parts { length: now, .. }) => before == now,
            (Wanted::Parts { .. }, Wanted::Whole { .. }) | (Wanted::Whole { .. }, Wanted::Parts { .. }) => false,
            _ => true,
        };
        if !same_parts {
            return Err(uploader.refused().nonsense());
        }
        transfer = again;
        beginning += 1;
    }
}

fn attempt(uploader: &Uploader, file: &Outgoing, transfer: &Transfer, seen: &[AtomicU64]) -> Result<(), Trouble> {
    let wire = &uploader.wire;
    let oid = file.sha256(wire.progress).map_err(Trouble::Local)?;
    match (&transfer.wanted, seen) {
        (Wanted::Whole { url, headers }, [seen, ..]) => {
            let part = Part { file, offset: 0, length: file.size_bytes, seen };
            wire.send(&Call::put(url, part, headers.clone()))?;
        }
        (Wanted::Parts { urls, length, completion }, seen) => {
            let etags = parts(uploader, file, urls, *length, seen)?;
            let parts = etags.iter().enumerate().map(|(i, etag)| json!({"partNumber": i + 1, "etag": etag}));
            let done = json!({"oid": oid, "parts": parts.collect::<Vec<_>>()}).to_string();
            wire.send(&Call::post(completion, done.as_bytes()).of_type(LFS).without_token().patient())?;
        }
        _ => {}
    }
    if let Some(verify) = &transfer.verify {
        let arrived = json!({"oid": oid, "size": file.size_bytes}).to_string();
        wire.send(&Call::post(verify, arrived.as_bytes()).patient())?;
    }
    Ok(())
}

/// Sends the parts of a file, some at a time; the tags that the storage gave them. The first trouble ends all.
fn parts(
    uploader: &Uploader,
    file: &Outgoing,
    urls: &[String],
    length: u64,
    seen: &[AtomicU64],
) -> Result<Vec<String>, Trouble> {
    let next = AtomicUsize::new(0);
    let tags = Mutex::new(vec![String::new(); urls.len()]);
    let trouble = Mutex::new(None);
    let work = || {
        while let Some((i, url)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, urls.get(i)?))) {
            let offset = i as u64 * length;
            let seen = &seen[i];
            let part = Part { file, offset, length: length.min(file.size_bytes - offset), seen };
            let sent = uploader.wire.send(&Call::put(url, part, Vec::new())).and_then(|answer| {
                let lost = || Trouble::Broken("the storage".into(), "it gave a part no tag".into());
                answer.etag.filter(|tag| !tag.is_empty()).ok_or_else(lost)
            });
            match sent {
                Ok(tag) => tags.lock().unwrap_or_else(PoisonError::into_inner)[i] = tag,
                Err(found) => {
                    next.store(urls.len(), Ordering::Relaxed);
                    trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..CONNECTIONS.min(urls.len())).for_each(|_| drop(scope.spawn(work)));
    });
    match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(trouble) => Err(trouble),
        None => Ok(tags.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// The error of a file that did not arrive.
fn storage_error(uploader: &Uploader, file: &Outgoing, trouble: Trouble) -> Error {
    match trouble {
        // The storage knows no tokens: what it refuses is the address that the Hub gave.
        Trouble::Refused(refusal) if refusal.status < 500 && refusal.status != 429 => {
            let (status, message) = (refusal.status, &refusal.message);
            let detail = if message.is_empty() { String::new() } else { format!(": {message}") };
            Error::new(Kind::Hub, format!("the Hub's storage does not take `{}` (status {status}){detail}", file.name))
                .at(crate::error::Place::Named(uploader.repository.to_string()))
                .hint("try again: files that have arrived are not sent again")
                .caused_by(Failure::Hub(status))
        }
        trouble => uploader.refused().of(trouble),
    }
}
