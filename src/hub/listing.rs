//! The files of a repository at one commit.

use super::repository::is_inside;
use serde_json::Value;
use std::path::Path;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its path inside the repository, with `/`.
    pub name: String,
    pub size_bytes: Option<u64>,
}

/// What a repository holds at one commit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listing {
    pub commit: String,
    /// Sorted by name. Names that would leave the folder are left out.
    pub files: Vec<RemoteFile>,
    /// The `configs` of a data set's card: which files belong to which split.
    pub configs: Value,
}

impl Listing {
    /// Reads the Hub's description of a repository; `None` when it is not one.
    #[cfg(feature = "hub")]
    pub fn from_json(json: &Value) -> Option<Listing> {
        let commit = json.get("sha")?.as_str().filter(|c| super::repository::is_commit(c))?.to_string();
        let mut files: Vec<RemoteFile> = json
            .get("siblings")?
            .as_array()?
            .iter()
            .filter_map(|sibling| {
                let name = sibling.get("rfilename")?.as_str().filter(|name| is_inside(name))?.to_string();
                // A large file's own size, should `size` be that of the pointer that git keeps.
                let size = sibling.get("lfs").and_then(|lfs| lfs.get("size")).or_else(|| sibling.get("size"));
                Some(RemoteFile { name, size_bytes: size.and_then(Value::as_u64) })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let configs = json.get("cardData").and_then(|card| card.get("configs")).cloned().unwrap_or(Value::Null);
        Some(Listing { commit, files, configs })
    }

    /// Reads `{"files": [..], "configs": ..}`; `None` when it is something else.
    pub fn from_names(json: &Value, commit: &str) -> Option<Listing> {
        let name = |name: &Value| name.as_str().filter(|name| is_inside(name)).map(str::to_owned);
        let names = json.get("files")?.as_array()?.iter().map(name).collect::<Option<Vec<_>>>()?;
        let mut files: Vec<_> = names.into_iter().map(|name| RemoteFile { name, size_bytes: None }).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Listing { commit: commit.into(), files, configs: json.get("configs")?.clone() })
    }

    /// Lists a snapshot in the cache, which holds what was once asked for.
    pub fn from_snapshot(dir: &Path, commit: &str) -> Listing {
        let mut files = Vec::new();
        walk(dir, "", 8, &mut files);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Listing { commit: commit.into(), files, configs: Value::Null }
    }

    pub fn get(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }
}

fn walk(dir: &Path, prefix: &str, depth: usize, files: &mut Vec<RemoteFile>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        // Follows links, and passes over those whose blob is gone.
        match std::fs::metadata(entry.path()) {
            Ok(data) if data.is_dir() && depth > 0 => walk(&entry.path(), &format!("{name}/"), depth - 1, files),
            Ok(data) if data.is_file() && is_inside(&name) => {
                files.push(RemoteFile { name, size_bytes: Some(data.len()) });
            }
            _ => {}
        }
    }
}
