//! Files that are dropped into the page.

use super::super::Shared;
use super::super::folder::Uploaded;
use super::{Result, ok, own, query};
use crate::clock::now;
use crate::error::Error;
use crate::paths::named;
use crate::serve::{Body, Refusal};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// How long the next piece of a file may take to come.
const PIECE_TIME: Duration = Duration::from_secs(60);
/// The longest name that is remembered.
const NAME_CHARS: usize = 200;

/// Takes the body as a file, under a name of ours.
pub async fn take(head: &Parts, body: &mut Incoming, shared: &Shared) -> Result<Response<Body>> {
    let name: String = query(head, "name").unwrap_or_default().chars().take(NAME_CHARS).collect();
    let most = shared.max_upload_bytes;
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the file is larger than {most} bytes; `--max-upload-bytes` takes more"),
        )
    };
    let folder = shared.folder.work("");
    let failed = |e: std::io::Error| own(Error::io("writing into", &folder, e));
    let mut out = tempfile::Builder::new().prefix("upload-").tempfile_in(&folder).map_err(failed)?;
    let mut bytes = 0;
    loop {
        let frame = tokio::time::timeout(PIECE_TIME, body.frame()).await;
        let frame = frame.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the file did not come in time"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| Refusal::bad(format!("the file did not come: {e}")))?;
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len() as u64;
        if bytes > most {
            return Err(too_large());
        }
        out.write_all(data).map_err(failed)?;
    }
    out.as_file().sync_all().map_err(failed)?;
    let file = shared.folder.name_for(&name);
    let kept = shared.folder.data(&file);
    out.persist(&kept).map_err(|e| failed(e.error))?;
    let added = Uploaded { file: file.clone(), name, bytes, added: now() };
    shared.folder.add(added).map_err(own)?;
    Ok(ok(&json!({"file": file, "path": named(&kept), "bytes": bytes})))
}
