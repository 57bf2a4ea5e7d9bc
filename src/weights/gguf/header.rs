//! The header of a GGUF file: metadata and tensor entries, checked before anything in it is trusted.

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::type_name;
use super::value::Value;
use crate::error::{Error, Result};
use crate::quant::QuantType;
use crate::weights::wrong;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// Tensors have at most this many axes.
pub(super) const MAX_AXES: u32 = 4;
/// Tensors start at multiples of this, unless `general.alignment` says otherwise.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
/// The least bytes of a metadata entry: key length, type, a byte of value.
const LEAST_METADATA_BYTES: usize = 8 + 4 + 1;
/// The least bytes of a tensor entry: name length, axes, type, offset.
const LEAST_ENTRY_BYTES: usize = 8 + 4 + 4 + 8;

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The number of its type; see [`QuantType::from_ggml`].
    pub ggml_type: u32,
    /// The size of each axis, outermost first (the file has the innermost first).
    pub shape: Vec<usize>,
    /// Where its bytes are in the file; empty if the type is not one that can be read.
    pub bytes: Range<usize>,
}

impl Entry {
    /// The name of its type.
    pub fn type_name(&self) -> String {
        type_name(self.ggml_type)
    }
}

/// What a GGUF file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The format's version: 2 or 3.
    pub version: u32,
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the file's entries.
    pub tensors: Vec<Entry>,
    /// Where the tensors' bytes start.
    pub data_start: usize,
}

/// Reads and checks the header of a whole GGUF file.
///
/// # Errors
/// If the file is not GGUF 2 or 3 in little endian, ends too early, names a key or tensor twice, or has a tensor whose
/// bytes are not in the file, misaligned, overlapping another's, or not whole blocks. Types that cannot be read are no
/// error until such a tensor is read.
pub fn parse(file: &[u8]) -> Result<Header> {
    parse_file(Path::new("<gguf>"), file)
}

/// As [`parse`]; errors say `path`.
pub(super) fn parse_file(path: &Path, file: &[u8]) -> Result<Header> {
    let mut cursor = Cursor::new(path, file);
    let version = version(&mut cursor, path)?;
    // Both counts are checked against the rest of the file here, and bound the loops below.
    let tensor_count = cursor.count(LEAST_ENTRY_BYTES, "the number of tensors")?;
    let metadata_count = cursor.count(LEAST_METADATA_BYTES, "the number of metadata entries")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..metadata_count {
        let key = cursor.string("a metadata key")?;
        let of = cursor.u32(key)?;
        let value = Value::read(&mut cursor, of, key)?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(cursor.wrong(format!("metadata `{key}` is in the file twice")));
        }
    }
    let metadata = Metadata(metadata);
    let alignment = alignment(&metadata).map_err(|e| e.at_path(path))?;
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..tensor_count {
        let entry = RawEntry::read(&mut cursor)?;
        if !names.insert(entry.name) {
            return Err(cursor.wrong(format!("tensor `{}` is in the file twice", entry.name)));
        }
        entries.push(entry);
    }
    let data_start = usize::try_from((cursor.at() as u64).next_multiple_of(alignment)).unwrap_or(usize::MAX);
    let tensors = entries
        .into_iter()
        .map(|entry| entry.place(&cursor, data_start, alignment, file.len()))
        .collect::<Result<Vec<_>>>()?;
    refuse_overlaps(&tensors).map_err(|e| e.at_path(path))?;
    Ok(Header { version, metadata, tensors, data_start: data_start.min(file.len()) })
}

fn version(cursor: &mut Cursor<'_>, path: &Path) -> Result<u32> {
    let not_gguf = |what: String, hint: &str| Err(wrong(what).at_path(path).hint(hint));
    if cursor.take(4, "the magic number")? != b"GGUF" {
        return not_gguf("this is not a GGUF file".into(), "GGUF files start with the letters `GGUF`");
    }
    match cursor.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        version if (1..=3).contains(&version.swap_bytes()) => {
            not_gguf("this GGUF file is big endian".into(), "use the usual, little-endian file")
        }
        version => not_gguf(format!("GGUF version {version} cannot be read"), "versions 2 and 3 can"),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    // Real files use 32 or 64; the bound keeps every sum below in range.
    value
        .as_u64()
        .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20)
        .ok_or_else(|| wrong(format!("`general.alignment` is not a power of two up to 2^20: {value}")))
}

/// A tensor entry as the file has it.
struct RawEntry<'a> {
    name: &'a str,
    ggml_type: u32,
    shape: Vec<usize>,
    offset: u64,
}

impl<'a> RawEntry<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let name = cursor.string("a tensor's name")?;
        let axes = cursor.u32(name)?;
        if axes > MAX_AXES {
            return Err(cursor.wrong(format!("tensor `{name}` has {axes} axes; at most {MAX_AXES} are possible")));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let size = cursor.u64(name)?;
            let size = usize::try_from(size).map_err(|e| too_large(cursor, name).caused_by(e))?;
            shape.insert(0, size);
        }
        Ok(RawEntry { name, ggml_type: cursor.u32(name)?, shape, offset: cursor.u64(name)? })
    }

    /// Finds the tensor's bytes and checks that they are whole blocks inside the file.
    fn place(self, cursor: &Cursor<'_>, data_start: usize, alignment: u64, end: usize) -> Result<Entry> {
        let RawEntry { name, ggml_type, shape, offset } = self;
        if !offset.is_multiple_of(alignment) {
            return Err(
                cursor.wrong(format!("tensor `{name}` starts at {offset}, which is not a multiple of {alignment}"))
            );
        }
        let start = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(data_start));
        let start = start.ok_or_else(|| too_large(cursor, name))?;
        let Some(of) = QuantType::from_ggml(ggml_type) else {
            return Ok(Entry { name: name.to_owned(), ggml_type, shape, bytes: 0..0 });
        };
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let elements = elements.ok_or_else(|| too_large(cursor, name))?;
        let row_len = shape.last().copied().unwrap_or(1);
        if !row_len.is_multiple_of(of.block_size()) {
            let block = of.block_size();
            return Err(
                cursor.wrong(format!("tensor `{name}`: rows of {row_len} are not whole blocks of {block} ({of})"))
            );
        }
        let bytes = of.bytes_of(elements).ok_or_else(|| too_large(cursor, name))?;
        match start.checked_add(bytes) {
            Some(stop) if stop <= end => Ok(Entry { name: name.to_owned(), ggml_type, shape, bytes: start..stop }),
            _ => {
                let what = format!("tensor `{name}` needs {bytes} bytes from byte {start}, but the file has {end}");
                Err(cursor.wrong(what))
            }
        }
    }
}

fn too_large(cursor: &Cursor<'_>, name: &str) -> Error {
    cursor.wrong(format!("tensor `{name}` is larger than any file"))
}

fn refuse_overlaps(tensors: &[Entry]) -> Result<()> {
    let mut by_start: Vec<_> = tensors.iter().filter(|entry| !entry.bytes.is_empty()).collect();
    by_start.sort_by_key(|entry| entry.bytes.start);
    for pair in by_start.windows(2) {
        if let [one, next] = pair
            && one.bytes.end > next.bytes.start
        {
            return Err(wrong(format!("the bytes of tensors `{}` and `{}` overlap", one.name, next.name))
                .hint(crate::weights::DAMAGED));
        }
    }
    Ok(())
}
