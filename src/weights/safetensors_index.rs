//! `model.safetensors.index.json`: which shard holds which tensor.

use super::{DAMAGED, wrong};
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The index's file name.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// The largest index that is read; that of the largest published model is a thousand times smaller.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// A checked index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The shard (a plain file name) of each tensor.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads and checks the index at `path`.
    ///
    /// # Errors
    /// As [`parse`], or if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::input(Kind::Weights, "reading the index", path, e);
        let bytes = std::fs::metadata(path).map_err(io)?.len();
        if bytes > MAX_INDEX_BYTES {
            return Err(wrong(format!("{bytes} bytes are too many for an index of shards")).at_path(path));
        }
        parse(&crate::input::read(path).map_err(io)?).map_err(|e| e.at_path(path))
    }

    /// The shards' file names, sorted.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Reads and checks an index.
///
/// # Errors
/// If it is not valid JSON with a `weight_map` of texts, names a tensor twice, or names a shard that is anything but a
/// `.safetensors` file beside the index.
pub fn parse(json: &[u8]) -> Result<Index> {
    let raw: RawIndex = serde_json::from_slice(json)
        .map_err(|e| wrong(format!("the index is not valid: {e}")).hint(DAMAGED).caused_by(e))?;
    let mut weight_map = BTreeMap::new();
    for (tensor, shard) in raw.weight_map.0 {
        if !is_plain_name(&shard) {
            return Err(wrong(format!(
                "tensor `{tensor}` is said to be in `{shard}`, which is not a file of this folder"
            ))
            .hint("shards are `.safetensors` files beside the index; do not use this model if you do not trust it"));
        }
        if let Some(other) = weight_map.insert(tensor.clone(), shard) {
            return Err(wrong(format!("tensor `{tensor}` is in the index twice, first in `{other}`")).hint(DAMAGED));
        }
    }
    if weight_map.is_empty() {
        return Err(wrong("the index names no tensors").hint(DAMAGED));
    }
    Ok(Index { weight_map })
}

/// Whether `name` can only be a file directly in the folder, on every system.
fn is_plain_name(name: &str) -> bool {
    let stem = name.strip_suffix(".safetensors").unwrap_or_default();
    !stem.is_empty() && !stem.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: Pairs,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

/// The map as written: serde's own maps would silently keep the last of two entries with one name.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object from tensor names to shard names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_the_hub_is_read() {
        let index = parse(
            br#"{"metadata": {"total_size": 8}, "weight_map": {"b": "model-00002-of-00002.safetensors",
                "a": "model-00001-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(index.weight_map["b"], "model-00002-of-00002.safetensors");
        let shards: Vec<_> = index.shards().into_iter().collect();
        assert_eq!(shards, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    }

    #[test]
    fn shards_outside_the_folder_are_refused() {
        for shard in [
            "../other.safetensors",
            "/etc/x.safetensors",
            "a/b.safetensors",
            "a\\\\b.safetensors",
            "C:x.safetensors",
            "..safetensors",
            ".safetensors",
            "",
            "model.bin",
        ] {
            let json = format!(r#"{{"weight_map": {{"t": "{shard}"}}}}"#);
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(error.what().contains("is not a file of this folder"), "{shard}: {error}");
        }
    }

    #[test]
    fn a_tensor_may_be_named_once() {
        let error = parse(br#"{"weight_map": {"t": "a.safetensors", "t": "b.safetensors"}}"#).unwrap_err();
        assert_eq!(error.what(), "tensor `t` is in the index twice, first in `a.safetensors`");
    }

    #[test]
    fn other_json_is_refused() {
        for json in ["", "{}", "[]", r#"{"weight_map": []}"#, r#"{"weight_map": {"t": 3}}"#, r#"{"weight_map": {}}"#] {
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_passes_stays_in_the_folder(at in proptest::prelude::any::<proptest::sample::Index>(), byte: u8) {
            let mut json = br#"{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#.to_vec();
            let at = at.index(json.len());
            json[at] = byte;
            if let Ok(index) = parse(&json) {
                for shard in index.shards() {
                    assert_eq!(Path::new(shard).file_name().and_then(|name| name.to_str()), Some(shard));
                }
            }
        }
    }
}
