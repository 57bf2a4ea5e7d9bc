//! The storage of large files: whole or in parts, behind addresses that are permissions.

use super::{Answer, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Storage {
    /// Bytes by their SHA-256.
    pub objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Upload>,
}

/// A file that is on its way in parts.
struct Upload {
    oid: String,
    size: usize,
    parts: BTreeMap<usize, Vec<u8>>,
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &format!("{:x}", Sha256::digest(bytes))[..32])
}

/// The storage is on a host of its own, to which no client shows a token.
pub fn host(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

impl Storage {
    /// The actions by which an object gets here; none for one that is here.
    pub fn actions(&mut self, oid: &str, size: usize, part_bytes: usize, url: &str, verify: &str) -> Option<Value> {
        if self.objects.contains_key(oid) {
            return None;
        }
        let (number, here) = (self.uploads.len(), host(url));
        let key = format!("{number}-{}", &oid[..8]);
        self.uploads.insert(key.clone(), Upload { oid: oid.into(), size, parts: BTreeMap::new() });
        let upload = match size <= part_bytes {
            true => json!({"href": format!("{here}/storage/whole/{key}?X-Amz-Signature=secret")}),
            false => {
                let mut header = serde_json::Map::new();
                header.insert("chunk_size".into(), part_bytes.to_string().into());
                for part in 1..=size.div_ceil(part_bytes) {
                    let part_url = format!("{here}/storage/part/{key}.{part}?X-Amz-Signature=secret");
                    header.insert(format!("{part:05}"), part_url.into());
                }
                json!({"href": format!("{url}/complete/{key}"), "header": header})
            }
        };
        Some(json!({"upload": upload, "verify": {"href": verify}}))
    }

    /// A request with an address of the storage.
    pub fn answer(&mut self, request: &Request) -> Answer {
        if request.headers.contains_key("authorization") {
            return Answer::new(400).body("<Code>InvalidArgument</Code>Only one auth mechanism allowed");
        }
        if let Some(oid) = request.path.strip_prefix("/storage/object/") {
            let Some(bytes) = self.objects.get(oid) else { return Answer::new(404) };
            return Answer::new(200).header("ETag", format!("\"{oid}\"")).body(bytes.clone());
        }
        if !request.headers.contains_key("content-length") {
            return Answer::new(411).body("<Code>MissingContentLength</Code>");
        }
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let (key, part) = name.split_once('.').unwrap_or((name, ""));
        let Some(upload) = self.uploads.get_mut(key).filter(|_| request.query == "X-Amz-Signature=secret") else {
            return Answer::new(403).body("<Code>AccessDenied</Code>");
        };
        match part.parse() {
            Ok(part) => drop(upload.parts.insert(part, request.body.clone())),
            Err(_) if format!("{:x}", Sha256::digest(&request.body)) == upload.oid => {
                self.objects.insert(upload.oid.clone(), request.body.clone());
            }
            Err(_) => return Answer::new(400).body("<Code>BadDigest</Code>"),
        }
        Answer::new(200).header("ETag", tag(&request.body))
    }

    /// Puts the parts of an upload together.
    pub fn complete(&mut self, request: &Request) -> Answer {
        let key = request.path.trim_start_matches("/complete/");
        let Some(upload) = self.uploads.get(key) else { return Answer::new(404) };
        let json = request.json();
        let said = json["parts"].as_array().cloned().unwrap_or_default();
        let tags: Vec<Value> =
            upload.parts.iter().map(|(part, bytes)| json!({"partNumber": part, "etag": tag(bytes)})).collect();
        let whole: Vec<u8> = upload.parts.values().flatten().copied().collect();
        let is_right = json["oid"] == upload.oid.as_str()
            && said == tags
            && whole.len() == upload.size
            && format!("{:x}", Sha256::digest(&whole)) == upload.oid;
        if !is_right {
            return Answer::error(400, "", "One or more of the specified parts could not be found");
        }
        self.objects.insert(upload.oid.clone(), whole);
        Answer::json(&json!({"success": true}))
    }
}
