//! Files that clients leave: of their names and paths nothing is used but to be shown again.

use super::Result;
use super::tuned::{Query, blocking, no_such, own, tuning};
use crate::queue::{Left, Page, Queue, Stored};
use crate::serve::Shared;
use crate::serve::body::{Body, Events};
use crate::serve::multipart::{self, Part};
use crate::serve::refusal::Refusal;
use crate::serve::tuning::{Method, Tuning};
use crate::serve::wire::tuning::{PURPOSE, RESULTS, file, file_id, list};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tempfile::NamedTempFile;

/// How long a file may take to come.
const UPLOAD_TIME: Duration = Duration::from_secs(600);
/// What a form may have beside its file.
const FORM_BYTES: u64 = 64 << 10;
/// The longest field beside a file.
const MOST_FIELD: u64 = 1024;
/// Characters of a file's name that are kept.
const MOST_NAME: usize = 255;
/// Bytes that are written, or sent, at a time.
const PIECE: usize = 256 << 10;

/// Takes a file of rows.
///
/// # Errors
/// A form or rows that are wrong, and a file too large or one too many.
pub async fn upload(head: &Parts, body: &mut Incoming, owner: String, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multipart::boundary(kind)
        .ok_or_else(|| Refusal::bad("a file comes as `multipart/form-data`, with a boundary").code("invalid_form"))?;
    let Ok(_place) = shared.uploading.try_acquire() else {
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many files come at once; try again later");
        return Err(refusal.code("queue_full").retry_after(5));
    };
    let most = tuning(shared)?.max_file_bytes.saturating_add(FORM_BYTES);
    let said = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > most) {
        return Err(too_large(shared));
    }
    let mut stopping = shared.stopping.clone();
    let come = tokio::time::timeout(UPLOAD_TIME, spool(body, most, shared));
    let spooled = tokio::select! {
        come = come => come.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the file did not come in time"))??,
        _ = stopping.wait_for(|stop| *stop) => return Err(super::answers::ending()),
    };
    let stored = blocking(shared, move |shared| take(spooled, &boundary, &owner, tuning(shared)?)).await?;
    Ok(Body::json(StatusCode::OK, &file(&stored)))
}

fn too_large(shared: &Shared) -> Refusal {
    let most = shared.options.tuning.as_ref().map_or(0, |tuning| tuning.max_file_bytes);
    let what = format!("the file is larger than {most} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what).of("file").code("file_too_large")
}

/// Writes a body into a file as it comes; the thread of HTTP waits for no disk.
async fn spool(body: &mut Incoming, most: u64, shared: &Arc<Shared>) -> Result<NamedTempFile> {
    let mut file = blocking(shared, |shared| tuning(shared)?.queue.blank().map_err(own)).await?;
    let (mut pending, mut bytes) = (Vec::new(), 0u64);
    let write = async |mut file: NamedTempFile, pending: Vec<u8>| {
        blocking(shared, move |_| {
            file.write_all(&pending).map_err(|e| own(crate::Error::io("writing", "an uploaded file", e)))?;
            Ok(file)
        })
        .await
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad(format!("the file did not come: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len() as u64;
        if bytes > most {
            return Err(too_large(shared));
        }
        pending.extend_from_slice(&data);
        if pending.len() >= PIECE {
            file = write(file, std::mem::take(&mut pending)).await?;
        }
    }
    write(file, pending).await
}

/// Reads a form, understands its rows, and keeps both.
fn take(spooled: NamedTempFile, boundary: &str, owner: &str, tuning: &Tuning) -> Result<Stored> {
    let failed = |e: std::io::Error| own(crate::Error::io("reading", "an uploaded file", e));
    let mut body = spooled.reopen().map_err(failed)?;
    body.seek(SeekFrom::Start(0)).map_err(failed)?;
    let parts = multipart::parts(&mut BufReader::with_capacity(PIECE, &mut body), boundary).map_err(failed)?;
    let parts = parts.ok_or_else(|| Refusal::bad("the body is no whole form").code("invalid_form"))?;
    let mut named: Vec<(&str, &Part)> = parts.iter().map(|part| (part.name.as_str(), part)).collect();
    named.sort_by_key(|(name, _)| *name);
    if let Some(pair) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Refusal::param(pair[0].0, format!("`{}` is there twice", pair[0].0)));
    }
    if let Some((name, _)) = named.iter().find(|(name, _)| !["file", "purpose"].contains(name)) {
        return Err(Refusal::param(name, format!("`{name}` is not known here")).code("unknown_parameter"));
    }
    let part = |name: &str| {
        let found = parts.iter().find(|part| part.name == name);
        found.ok_or_else(|| Refusal::param(name, format!("`{name}` is missing")))
    };
    let range = |part: &Part, body: &mut File| -> std::io::Result<std::io::Take<File>> {
        body.seek(SeekFrom::Start(part.start))?;
        Ok(body.try_clone()?.take(part.end - part.start))
    };
    let mut purpose = String::new();
    let field = range(part("purpose")?, &mut body).map_err(failed)?;
    if field.take(MOST_FIELD).read_to_string(&mut purpose).is_err() || purpose != PURPOSE {
        return Err(Refusal::param("purpose", format!("`purpose` is `{PURPOSE}`: rows are what files are for here")));
    }
    let given = part("file")?;
    if given.end - given.start > tuning.max_file_bytes {
        let what = format!("the file is larger than {} bytes", tuning.max_file_bytes);
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what).of("file").code("file_too_large"));
    }
    let Tuning { queue, orders, .. } = tuning;
    let mut converted = queue.blank().map_err(own)?;
    let rows = {
        let mut into = std::io::BufWriter::new(converted.as_file_mut());
        let rows =
            orders.rows(&mut BufReader::with_capacity(PIECE, range(given, &mut body).map_err(failed)?), &mut into);
        let rows = rows.map_err(|error| own(error).of("file").code("invalid_file_format"))?;
        into.flush().map_err(failed)?;
        rows
    };
    let mut bytes = queue.blank().map_err(own)?;
    std::io::copy(&mut range(given, &mut body).map_err(failed)?, bytes.as_file_mut()).map_err(failed)?;
    let name = given.file_name.as_deref().unwrap_or("file.jsonl");
    let name = name.chars().filter(|c| !c.is_control()).take(MOST_NAME).collect();
    let left = Left { name, kind: rows.method.name().into(), bytes, rows: Some((converted, rows.count)) };
    queue.leave(owner, left).map_err(own)
}

/// What a file is called here.
pub fn stored_id(id: &str) -> &str {
    id.strip_prefix("file-").unwrap_or(id)
}

fn stored(id: &str, owner: &str, queue: &Queue) -> Result<Stored> {
    queue.file(owner, stored_id(id)).map_err(own)?.ok_or_else(|| no_file(id))
}

fn no_file(id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no file `{id}`")).of("file_id").code("file_not_found")
}

/// The files of somebody.
///
/// # Errors
/// A query that is wrong.
pub fn listed(query: &Query, owner: &str, queue: &Queue) -> Result<Response<Body>> {
    let (after, most) = query.page(&["purpose", "order"], 1000, 10_000)?;
    let oldest_first = match query.text("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Refusal::param("order", "`order` is `asc` or `desc`")),
    };
    let of_rows = [Method::Supervised.name(), Method::Dpo.name()];
    let kinds: &[&str] = match query.text("purpose") {
        None => &[],
        Some(PURPOSE) => &of_rows,
        Some(RESULTS) => &[RESULTS],
        Some(_) => return Err(Refusal::param("purpose", format!("`purpose` is `{PURPOSE}` or `{RESULTS}`"))),
    };
    let page = Page { after: after.as_deref().map(stored_id), most, oldest_first };
    let files = queue.files(owner, kinds, page).map_err(own)?.ok_or_else(|| no_such("after"))?;
    Ok(Body::json(StatusCode::OK, &list(&files, file)))
}

/// A file of somebody.
///
/// # Errors
/// One that is not there, or not his.
pub fn retrieve(id: &str, owner: &str, queue: &Queue) -> Result<Response<Body>> {
    Ok(Body::json(StatusCode::OK, &file(&stored(id, owner, queue)?)))
}

/// Its bytes, as they came.
///
/// # Errors
/// As [`retrieve`].
pub fn content(id: &str, owner: &str, queue: &Queue) -> Result<Response<Body>> {
    let found = stored(id, owner, queue)?;
    let path = queue.bytes_of(&found.id);
    let file = crate::input::open(&path).map_err(|e| own(crate::Error::io("reading", &path, e)))?;
    Ok(Body::stream("application/octet-stream", Content { file, is_over: false }))
}

/// Deletes it.
///
/// # Errors
/// As [`retrieve`].
pub fn delete(id: &str, owner: &str, queue: &Queue) -> Result<Response<Body>> {
    match queue.delete_file(owner, stored_id(id)).map_err(own)? {
        true => {
            let id = file_id(stored_id(id));
            Ok(Body::json(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})))
        }
        false => Err(no_file(id)),
    }
}

/// The bytes of a file while they are sent, a piece at a time, each as quick as a disk's memory.
struct Content {
    file: File,
    is_over: bool,
}

impl Events for Content {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE];
        let read = self.file.read(&mut piece).unwrap_or(0);
        self.is_over = read == 0;
        piece.truncate(read);
        Poll::Ready((read > 0).then(|| piece.into()))
    }
}
