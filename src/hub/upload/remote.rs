//! What a repository holds, as the Hub describes it.

use crate::hub::repository::{is_commit, is_id, is_inside};
use serde_json::Value;
use std::collections::BTreeMap;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Remote {
    /// `owner/name`, which may differ from what was asked for after a renaming.
    pub id: String,
    /// The commit.
    pub commit: String,
    /// Whether others cannot see it.
    pub is_private: bool,
    /// The base models that its card names.
    pub base_models: Vec<String>,
    /// Its files by name.
    pub files: BTreeMap<String, Stored>,
}

/// What tells the content of a file in a repository.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// In git itself.
    Small {
        /// Git's name for it.
        git_sha1: String,
        /// Its length, where it is told.
        size_bytes: Option<u64>,
    },
    /// In the storage of large files.
    Large {
        /// The hash of its bytes.
        sha256: String,
        /// Its length.
        size_bytes: u64,
    },
    /// The Hub does not tell.
    Unknown,
}

impl Stored {
    /// The hash that tells one content from another, where there is one.
    pub fn hash(&self) -> Option<&str> {
        match self {
            Stored::Small { git_sha1, .. } => Some(git_sha1),
            Stored::Large { sha256, .. } => Some(sha256),
            Stored::Unknown => None,
        }
    }

    fn from_json(file: &Value) -> Stored {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let lfs = file.get("lfs").filter(|lfs| lfs.is_object());
        let sha256 = text(lfs.and_then(|lfs| lfs.get("sha256").or_else(|| lfs.get("oid"))));
        let lfs_size = lfs.and_then(|lfs| lfs.get("size")).and_then(Value::as_u64);
        let size_bytes = file.get("size").and_then(Value::as_u64);
        match (sha256, lfs_size.or(size_bytes), text(file.get("blobId"))) {
            (Some(sha256), Some(size_bytes), _) => Stored::Large { sha256, size_bytes },
            (None, _, Some(git_sha1)) => Stored::Small { git_sha1, size_bytes },
            _ => Stored::Unknown,
        }
    }
}

impl Remote {
    /// Reads the Hub's description of a repository; `None` when it is not one.
    pub(super) fn from_json(json: &Value) -> Option<Remote> {
        let id = json.get("id").or_else(|| json.get("modelId"))?.as_str().filter(|id| is_id(id))?.to_owned();
        let commit = json.get("sha")?.as_str().filter(|sha| is_commit(sha))?.to_owned();
        let base_models = match json.pointer("/cardData/base_model") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let file = |sibling: &Value| {
            let name = sibling.get("rfilename")?.as_str().filter(|name| is_inside(name))?;
            Some((name.to_owned(), Stored::from_json(sibling)))
        };
        let files = json.get("siblings")?.as_array()?.iter().filter_map(file).collect();
        let is_private = json.get("private").and_then(Value::as_bool).unwrap_or(false);
        Some(Remote { id, commit, is_private, base_models, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_description_tells_large_files_from_small_ones() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let json = json!({"id": "ann/tiny", "sha": commit, "private": true, "cardData": {"base_model": "google/gemma-3-1b-it"},
        "siblings": [
            {"rfilename": "README.md", "size": 3, "blobId": "aa"},
            {"rfilename": "m.gguf", "size": 134, "blobId": "bb", "lfs": {"sha256": "cc", "size": 9, "pointerSize": 134}},
            {"rfilename": "old.bin"},
            {"rfilename": "../outside"},
        ]});
        let remote = Remote::from_json(&json).unwrap();
        assert_eq!(
            (remote.is_private, remote.base_models.as_slice()),
            (true, &["google/gemma-3-1b-it".to_owned()][..])
        );
        let stored = |name: &str| remote.files[name].clone();
        assert_eq!(stored("README.md"), Stored::Small { git_sha1: "aa".into(), size_bytes: Some(3) });
        assert_eq!(stored("m.gguf"), Stored::Large { sha256: "cc".into(), size_bytes: 9 });
        assert_eq!((stored("old.bin"), remote.files.len()), (Stored::Unknown, 3));
        for wrong in [json!({}), json!({"id": "ann/tiny", "sha": "x", "siblings": []}), json!([])] {
            assert_eq!(Remote::from_json(&wrong), None);
        }
    }
}
