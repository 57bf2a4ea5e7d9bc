//! Bodies of requests, read as the routes read them and with no model behind: for tests that send any bytes.

use super::wire::tuning::Create;
use super::wire::{Asked, Embeddings, object};
use super::{Keys, ServeOptions, multipart};
use crate::infer::Sampling;
use std::ops::Range;
use std::time::Duration;

/// Numbers of a token's place, of which a request for fewer is refused.
const NUMBERS: usize = 64;

/// Whether these bytes are a request for an answer, for a text, for embeddings or for a fine-tuning job.
pub fn is_request(body: &[u8]) -> bool {
    let Ok(object) = object(body) else { return false };
    let options = ServeOptions {
        keys: Keys::default(),
        max_body_bytes: 1 << 20,
        max_tokens: 100,
        sampling: Sampling { temperature: 1.0, top_k: 64, top_p: 0.95 },
        most_answers: 16,
        most_waiting: 8,
        request_time: Duration::from_secs(1),
        requests_per_minute: None,
        tokens_per_minute: None,
        tuning: None,
        routing: None,
    };
    let answered = |asked: &Asked| asked.shape.as_ref().is_none_or(|shape| shape.check().is_ok());
    let read = [
        Asked::chat(&object, &options).is_ok_and(|asked| answered(&asked)),
        Asked::texts(&object, &options).is_ok(),
        Embeddings::of(&object, NUMBERS).is_ok(),
        Create::of(&object, 0).is_ok(),
    ];
    read.contains(&true)
}

/// Where the parts of an upload lie, of bytes that begin with a line that is its `Content-Type`; `None` where they are none.
pub fn parts_of_upload(bytes: &[u8]) -> Option<Vec<Range<u64>>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let boundary = multipart::boundary(str::from_utf8(&bytes[..end]).ok()?)?;
    let parts = multipart::parts(&mut &bytes[end + 1..], &boundary).ok()??;
    Some(parts.into_iter().map(|part| part.start..part.end).collect())
}
