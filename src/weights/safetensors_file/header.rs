//! The header of a safetensors file, checked before anything in it is trusted.

use crate::error::Result;
use crate::weights::{DAMAGED, wrong};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// The largest header that the format allows, as in the `safetensors` crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub bytes: Range<usize>,
}

/// What a safetensors file holds, in the order of its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The tensors; together they cover the file after the header, without gaps or overlaps.
    pub tensors: Vec<Entry>,
    /// The free-form metadata.
    pub metadata: BTreeMap<String, String>,
    /// Where the header ends.
    pub data_start: usize,
}

/// Reads and checks the header of a whole safetensors file.
///
/// # Errors
/// If the file is shorter than it says, the header is not valid, a tensor is named twice, its shape and bytes disagree,
/// or the tensors do not cover the file exactly.
pub fn parse(file: &[u8]) -> Result<Header> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        let bytes = if file.len() == 1 { "1 byte is".into() } else { format!("{} bytes are", file.len()) };
        return Err(wrong(format!("{bytes} too few for a safetensors file")).hint(DAMAGED));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(wrong(format!("the header claims {length} bytes, more than the format allows"))
            .hint("this is not a safetensors file, or it is damaged"));
    }
    let Some(text) = rest.get(..length as usize) else {
        let what = format!("the header should have {length} bytes, but the file ends after {}", rest.len());
        return Err(wrong(what).hint(DAMAGED));
    };
    let raw: RawHeader = serde_json::from_slice(text)
        .map_err(|e| wrong(format!("the header is not valid: {e}")).hint(DAMAGED).caused_by(e))?;
    let data_start = 8 + text.len();
    Ok(Header { tensors: place(raw.tensors, data_start, file.len())?, metadata: raw.metadata, data_start })
}

/// Sorts the tensors by their bytes and checks that they tile the file from `start` to `end`.
fn place(mut raw: Vec<(String, TensorInfo)>, start: usize, end: usize) -> Result<Vec<Entry>> {
    let mut names = HashSet::with_capacity(raw.len());
    if let Some((name, _)) = raw.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(wrong(format!("tensor `{name}` is in the header twice")).hint(DAMAGED));
    }
    raw.sort_by_key(|(_, info)| info.data_offsets);
    let mut covered = 0;
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, TensorInfo { dtype, shape, data_offsets: (from, to) }) in raw {
        if from != covered || to < from {
            let what =
                format!("tensor `{name}` claims the bytes {from}..{to}, but the one before it ends at {covered}");
            return Err(wrong(what).hint(DAMAGED));
        }
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let bits = elements.and_then(|n| n.checked_mul(dtype.bitsize()));
        if bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != to - from) {
            let what = format!("tensor `{name}`: {} bytes cannot be {shape:?} of {dtype}", to - from);
            return Err(wrong(what).hint(DAMAGED));
        }
        let bytes = start.checked_add(from).zip(start.checked_add(to)).filter(|&(_, to)| to <= end);
        let Some((from, to_in_file)) = bytes else {
            let what =
                format!("tensor `{name}` should end {to} bytes after the header, but the file ends {}", end - start);
            return Err(wrong(what).hint(DAMAGED));
        };
        tensors.push(Entry { name, dtype, shape, bytes: from..to_in_file });
        covered = to;
    }
    if start + covered != end {
        let what = format!("the last {} bytes of the file belong to no tensor", end - start - covered);
        return Err(wrong(what).hint(DAMAGED));
    }
    Ok(tensors)
}

/// The header as written: serde's own maps would silently keep the last of two entries with one name.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut raw = RawHeader { metadata: BTreeMap::new(), tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        raw.metadata = map.next_value()?;
                    } else {
                        let info = map.next_value().map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                        raw.tensors.push((name, info));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
