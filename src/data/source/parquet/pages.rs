//! How large the pages of a Parquet file say that they are, read from their headers before anything is unpacked: 60 kB can
//! stand for gigabytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// A header with statistics is some hundred bytes.
const HEADER_BYTES: u64 = 64 << 10;

/// What a page's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Bytes when unpacked.
    pub bytes: u64,
    /// Bytes in the file, after the header.
    pub packed_bytes: u64,
    /// Values, of which a row of a list may have several.
    pub values: u64,
    /// Whether it holds the values that others only point at.
    pub is_dictionary: bool,
    header_bytes: u64,
}

/// The pages from `start` on, in `length` bytes of `file`. Ends early where a header cannot be read, which decoding tells.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn pages(file: &mut File, start: u64, length: u64) -> io::Result<Vec<Page>> {
    let (mut at, end) = (start, start.saturating_add(length));
    let mut pages = Vec::new();
    let mut head = Vec::new();
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        head.clear();
        file.take(HEADER_BYTES.min(end - at)).read_to_end(&mut head)?;
        let Some(page) = header(&head) else { break };
        at = at.saturating_add(page.header_bytes).saturating_add(page.packed_bytes);
        pages.push(page);
    }
    Ok(pages)
}

/// Reads a `PageHeader` in Thrift's compact protocol.
fn header(bytes: &[u8]) -> Option<Page> {
    let mut reader = Compact { bytes, at: 0 };
    let (mut kind, mut unpacked, mut packed, mut values) = (None, None, None, 0);
    let mut last = 0;
    while let Some((field, wire)) = reader.field(&mut last)? {
        match (field, wire) {
            (1, I32) => kind = Some(reader.zigzag()?),
            (2, I32) => unpacked = Some(reader.zigzag()?),
            (3, I32) => packed = Some(reader.zigzag()?),
            // The headers of data pages, dictionary pages and data pages of version 2: values come first in all.
            (5 | 7 | 8, STRUCT) => {
                let mut last = 0;
                while let Some((field, wire)) = reader.field(&mut last)? {
                    match (field, wire) {
                        (1, I32) => values = reader.zigzag()?,
                        _ => reader.skip(wire, 0)?,
                    }
                }
            }
            _ => reader.skip(wire, 0)?,
        }
    }
    Some(Page {
        bytes: u64::try_from(unpacked?).ok()?,
        packed_bytes: u64::try_from(packed?).ok()?,
        values: u64::try_from(values).ok()?,
        is_dictionary: kind? == 2,
        header_bytes: reader.at as u64,
    })
}

const I32: u8 = 5;
const BINARY: u8 = 8;
const STRUCT: u8 = 12;

/// Thrift's compact protocol, as far as headers use it.
struct Compact<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field's number and type; `Some(None)` at the end of a struct.
    #[allow(clippy::option_option, reason = "bytes may end in the middle of a struct, and a struct may end")]
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *last = match byte >> 4 {
            0 => self.zigzag()?,
            more => last.checked_add(i64::from(more))?,
        };
        Some(Some((*last, byte & 0x0f)))
    }

    fn skip(&mut self, wire: u8, depth: usize) -> Option<()> {
        match wire {
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.pass(8)?,
            BINARY => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.pass(length)?;
            }
            STRUCT if depth < 8 => {
                let mut last = 0;
                while let Some((_, wire)) = self.field(&mut last)? {
                    self.skip(wire, depth + 1)?;
                }
            }
            _ => return None, // lists and maps are in no page's header
        }
        Some(())
    }

    fn pass(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|&at| at <= self.bytes.len())?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::arrow::ArrowWriter;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use std::sync::Arc;

    #[test]
    fn headers_say_what_the_writer_wrote() {
        let texts: Vec<String> = (0..500).map(|i| format!("{i:0100}")).collect();
        let column = Arc::new(StringArray::from(texts)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
        let metadata = SerializedFileReader::new(File::open(&path).unwrap()).unwrap().metadata().clone();
        let column = metadata.row_group(0).column(0);
        let (start, length) = column.byte_range();
        let pages = pages(&mut File::open(&path).unwrap(), start, length).unwrap();
        assert!(pages[0].is_dictionary);
        assert_eq!((pages[0].values, pages[0].bytes), (500, 500 * 104));
        let data: u64 = pages.iter().filter(|page| !page.is_dictionary).map(|page| page.values).sum();
        assert_eq!(data, 500);
        let all: u64 = pages.iter().map(|page| page.header_bytes + page.packed_bytes).sum();
        assert_eq!(all, length);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_header_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = header(&bytes);
        }
    }
}
