//! The Hub's own interface, as far as pushing, listing and downloading a model need it.

use super::repository::{Commit, Entry, Repository, base_model};
use super::storage::host;
use super::{Answer, READ_TOKEN, Request, TOKEN, World};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Files from this size on go to the storage, whatever they are.
const LARGE_BYTES: u64 = 10 << 20;
const NDJSON: &str = "application/x-ndjson";

/// Who asks.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Nobody,
    Reader,
    Writer,
}

/// Obeys a request.
pub fn answer(request: &Request, world: &mut World, url: &str) -> Answer {
    if request.path.starts_with("/storage/") {
        return world.storage.answer(request);
    }
    if request.path.starts_with("/complete/") {
        return world.storage.complete(request);
    }
    let who = match request.header("authorization") {
        "" => Who::Nobody,
        header if header == format!("Bearer {TOKEN}") => Who::Writer,
        header if header == format!("Bearer {READ_TOKEN}") => Who::Reader,
        _ => return Answer::error(401, "", "Invalid credentials in Authorization header"),
    };
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["api", "whoami-v2"]) if who != Who::Nobody => {
            let role = if who == Who::Writer { "write" } else { "read" };
            Answer::json(&json!({"type": "user", "name": "ann", "orgs": [{"name": "acme"}],
                "auth": {"type": "access_token", "accessToken": {"displayName": "here", "role": role}}}))
        }
        ("GET", ["api", "whoami-v2"]) => Answer::error(401, "", "Invalid username or password."),
        ("POST", ["api", "validate-yaml"]) => Answer::json(&json!({"errors": [], "warnings": []})),
        ("POST", ["api", "repos", "create"]) => create(request, world, who, url),
        ("GET", ["api", "models", owner, name, rest @ ..]) => {
            seen(world, who, owner, name, |repository, id| describe(repository, id, rest, &request.query))
        }
        ("POST", ["api", "models", owner, name, what, revision @ ..]) => {
            let revision = revision.join("/");
            let is_reading = *what == "paths-info";
            if !is_reading && let Some(refusal) = may_write(who, owner) {
                return refusal;
            }
            change(request, world, &format!("{owner}/{name}"), what, &revision, url)
        }
        ("POST", [owner, name, "info", "lfs", "objects", what]) => {
            if let Some(refusal) = may_write(who, owner) {
                return refusal;
            }
            let id = format!("{owner}/{}", name.trim_end_matches(".git"));
            lfs(request, world, &id, what, url)
        }
        ("GET" | "HEAD", [owner, name, "resolve", revision, file @ ..]) => {
            seen(world, who, owner, name, |repository, _| resolve(repository, revision, &file.join("/"), url))
        }
        _ => Answer::error(404, "", "Sorry, we can't find the page you are looking for."),
    }
}

fn may_write(who: Who, owner: &str) -> Option<Answer> {
    match who {
        Who::Writer if ["ann", "acme"].contains(&owner) => None,
        Who::Nobody => Some(Answer::error(401, "", "Invalid username or password.")),
        _ => Some(Answer::error(403, "", "Forbidden: you don't have the rights to write here")),
    }
}

fn no_repository() -> Answer {
    Answer::error(404, "RepoNotFound", "Repository not found")
}

fn no_revision(revision: &str) -> Answer {
    Answer::error(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"))
}

/// What `look` makes of a repository that may be seen.
fn seen(world: &World, who: Who, owner: &str, name: &str, look: impl Fn(&Repository, &str) -> Answer) -> Answer {
    let id = format!("{owner}/{name}");
    match world.repositories.get(&id) {
        Some(repository) if !repository.private || who != Who::Nobody => look(repository, &id),
        None if who == Who::Nobody => Answer::error(401, "RepoNotFound", "Invalid username or password."),
        _ => no_repository(),
    }
}

fn create(request: &Request, world: &mut World, who: Who, url: &str) -> Answer {
    let wish = request.json();
    let owner = wish["organization"].as_str().unwrap_or("ann");
    if let Some(refusal) = may_write(who, owner) {
        return refusal;
    }
    let id = format!("{owner}/{}", wish["name"].as_str().unwrap_or_default());
    if world.repositories.contains_key(&id) {
        let said = json!({"error": "You already created this model repo", "url": format!("{url}/{id}")});
        return Answer {
            body: said.to_string().into(),
            ..Answer::error(409, "", "You already created this model repo")
        };
    }
    let private = wish["private"] == true || wish["visibility"] == "private";
    world.repositories.insert(id.clone(), Repository::new(private));
    Answer::json(&json!({"url": format!("{url}/{id}"), "name": id, "id": id}))
}

fn describe(repository: &Repository, id: &str, rest: &[&str], query: &str) -> Answer {
    let revision = match rest {
        [] => "main".to_owned(),
        ["revision", revision @ ..] => revision.join("/"),
        ["tree", revision, ..] => (*revision).to_owned(),
        _ => return Answer::error(404, "", "Not found"),
    };
    let Some(Commit { id: sha, files }) = repository.at(&revision) else { return no_revision(&revision) };
    let lfs = |entry: &Entry| match entry {
        Entry::Regular(_) => Value::Null,
        Entry::Large { oid, size } => json!({"sha256": oid, "oid": oid, "size": size, "pointerSize": 130}),
    };
    if rest.first() == Some(&"tree") {
        let file = |(name, entry): (&String, &Entry)| {
            let mut file = json!({"type": "file", "oid": entry.blob_id(), "size": entry.size(), "path": name});
            if let Entry::Large { .. } = entry {
                file["lfs"] = lfs(entry);
            }
            file
        };
        return Answer::json(&files.iter().map(file).collect());
    }
    let with_blobs = query.contains("blobs=");
    let sibling = |(name, entry): (&String, &Entry)| {
        let mut sibling = json!({"rfilename": name});
        if with_blobs {
            sibling["size"] = entry.size().into();
            sibling["blobId"] = entry.blob_id().into();
            if let Entry::Large { .. } = entry {
                sibling["lfs"] = lfs(entry);
            }
        }
        sibling
    };
    let siblings: Vec<Value> = files.iter().map(sibling).collect();
    let card = base_model(files).map_or(Value::Null, |base| json!({"base_model": base}));
    Answer::json(&json!({"_id": "1", "id": id, "modelId": id, "sha": sha, "private": repository.private, "tags": [],
        "downloads": 0, "likes": 0, "cardData": card, "siblings": siblings}))
}

fn change(request: &Request, world: &mut World, id: &str, what: &str, revision: &str, url: &str) -> Answer {
    let objects = &world.storage.objects;
    let Some(repository) = world.repositories.get_mut(id) else { return no_repository() };
    let json = request.json();
    if what == "branch" {
        if repository.branches.contains_key(revision) {
            return Answer::error(409, "", "Reference already exists");
        }
        let main = repository.branches["main"].clone();
        repository.branches.insert(revision.into(), main);
        return Answer::json(&json!({}));
    }
    let Some(at) = repository.at(revision) else { return no_revision(revision) };
    match what {
        "preupload" => {
            let file = |file: &Value| {
                let path = file["path"].as_str().unwrap_or_default();
                let is_large = file["size"].as_u64() > Some(LARGE_BYTES)
                    || [".safetensors", ".gguf", ".bin", ".png"].iter().any(|ending| path.ends_with(ending));
                json!({"path": path, "uploadMode": if is_large { "lfs" } else { "regular" }, "shouldIgnore": false,
                    "oid": at.files.get(path).map(Entry::blob_id)})
            };
            let files: Vec<Value> = json["files"].as_array().into_iter().flatten().map(file).collect();
            Answer::json(&json!({"files": files, "commitOid": at.id}))
        }
        "commit" if request.header("content-type") != NDJSON => Answer::error(400, "", "Expected NDJSON"),
        "commit" => {
            let mut files = at.files.clone();
            for line in request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: Value = serde_json::from_slice(line).unwrap_or_default();
                let value = &line["value"];
                let path = value["path"].as_str().unwrap_or_default().to_owned();
                match line["key"].as_str() {
                    Some("header") if value["summary"].as_str().is_none_or(str::is_empty) => {
                        return Answer::error(400, "", "A commit needs a summary");
                    }
                    Some("header") if value.get("parentCommit").is_some_and(|parent| *parent != at.id.as_str()) => {
                        return Answer::error(412, "", "A commit has happened since. Please refresh and try again.");
                    }
                    Some("header") => {}
                    Some("file") => {
                        let bytes = BASE64_STANDARD.decode(value["content"].as_str().unwrap_or_default());
                        files.insert(path, Entry::Regular(bytes.unwrap_or_default()));
                    }
                    Some("lfsFile") => {
                        let (oid, size) = (value["oid"].as_str().unwrap_or_default(), value["size"].as_u64());
                        let Some(object) = objects.get(oid).filter(|object| Some(object.len() as u64) == size) else {
                            return Answer::error(400, "", "A LFS pointer points to a file that does not exist");
                        };
                        files.insert(path, Entry::Large { oid: oid.into(), size: object.len() });
                    }
                    Some("deletedFile") if files.remove(&path).is_some() => {}
                    Some("deletedFile") => {
                        return Answer::error(404, "EntryNotFound", "A file with this name doesn't exist");
                    }
                    _ => return Answer::error(400, "", "Unexpected line"),
                }
            }
            let mut pull = Value::Null;
            let mut branch = revision.to_owned();
            if request.query.contains("create_pr=1") {
                repository.pulls += 1;
                branch = format!("refs/pr/{}", repository.pulls);
                pull = format!("{url}/{id}/discussions/{}", repository.pulls).into();
            }
            let commit = repository.commit(&branch, files);
            Answer::json(
                &json!({"success": true, "commitOid": commit, "commitUrl": format!("{url}/{id}/commit/{commit}"),
                "pullRequestUrl": pull}),
            )
        }
        "paths-info" => {
            let paths = json["paths"].as_array().cloned().unwrap_or_default();
            let found = at.files.iter().filter(|(name, _)| paths.iter().any(|path| path == name.as_str()));
            let file = |(name, entry): (&String, &Entry)| json!({"type": "file", "path": name, "oid": entry.blob_id(), "size": entry.size()});
            Answer::json(&found.map(file).collect())
        }
        _ => Answer::error(404, "", "Not found"),
    }
}

fn lfs(request: &Request, world: &mut World, id: &str, what: &str, url: &str) -> Answer {
    if !world.repositories.contains_key(id) {
        return no_repository();
    }
    let json = request.json();
    if what == "verify" {
        let oid = json["oid"].as_str().unwrap_or_default();
        let is_there = world.storage.objects.get(oid).is_some_and(|object| json["size"] == object.len());
        return if is_there { Answer::json(&json!({})) } else { Answer::error(404, "", "Not there") };
    }
    if json["operation"] != "upload" || json["hash_algo"] != "sha256" {
        return Answer::error(422, "", "Unexpected operation");
    }
    let verify = format!("{url}/{id}.git/info/lfs/objects/verify");
    let mut objects = Vec::new();
    for object in json["objects"].as_array().into_iter().flatten() {
        let (oid, size) = (object["oid"].as_str().unwrap_or_default(), object["size"].as_u64().unwrap_or_default());
        let mut entry = json!({"oid": oid, "size": size});
        let part_bytes = world.part_bytes;
        if let Some(actions) = world.storage.actions(oid, size as usize, part_bytes, url, &verify) {
            entry["actions"] = actions;
        }
        objects.push(entry);
    }
    Answer::json(&json!({"transfer": "basic", "objects": objects}))
}

fn resolve(repository: &Repository, revision: &str, file: &str, url: &str) -> Answer {
    let Some(Commit { id, files }) = repository.at(revision) else { return no_revision(revision) };
    match files.get(file) {
        None => Answer::error(404, "EntryNotFound", "Entry not found"),
        Some(Entry::Regular(bytes)) => {
            let entry = Entry::Regular(bytes.clone());
            Answer::new(200)
                .header("ETag", format!("\"{}\"", entry.blob_id()))
                .header("X-Repo-Commit", id)
                .body(bytes.clone())
        }
        Some(Entry::Large { oid, size }) => Answer::new(302)
            .header("Location", format!("{}/storage/object/{oid}", host(url)))
            .header("X-Linked-Etag", format!("\"{oid}\""))
            .header("X-Linked-Size", size.to_string())
            .header("X-Repo-Commit", id),
    }
}
