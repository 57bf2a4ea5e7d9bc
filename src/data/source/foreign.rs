//! Files that are something else than their name says, known by their first bytes.

use crate::error::{Error, Kind};
use crate::progress::plural;
use std::path::Path;

/// How many bytes of a file are looked at.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// What a file really is, where that is no data file, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub what: String,
    pub hint: &'static str,
}

pub(super) const UNPACK: &str = "unpack it, and name the data files that were inside";
const CONVERT: &str = "write its rows as JSON lines, CSV or Parquet";
const SPREADSHEET: &str = "save the sheet as `CSV UTF-8`, and name that file";
const DOWNLOAD: &str =
    "download the file again: for one of the Hub, use its `resolve` address or `hf://datasets/owner/name`";

/// Formats that begin with these bytes. Compressed text, Parquet and Arrow are not among them: they are read.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (b"\xfd7zXZ\0", "xz data", UNPACK),
    (b"BZh", "bzip2 data", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x04\x22\x4d\x18", "LZ4 data", UNPACK),
    (b"SQLite format 3\0", "an SQLite database", CONVERT),
    (b"%PDF-", "a PDF document", "take its text out, and write it as JSON lines with a `text` each"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel or Word file of the old kind", SPREADSHEET),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", CONVERT),
    (b"Obj\x01", "an Avro file", CONVERT),
    (b"ORC", "an ORC file", CONVERT),
    (b"\x89PNG\r\n\x1a\n", "an image", CONVERT),
    (b"\xff\xd8\xff", "an image", CONVERT),
    (b"GIF8", "an image", CONVERT),
    (b"\x7fELF", "a program", CONVERT),
    (b"GGUF", "a GGUF model", "name it as `model.base`; data are rows of text"),
];

/// Pickle's protocols 2 to 5, each with the ways in which its second instruction can begin.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, b'}' | b']' | b'(' | b'c' | b'X' | b'q' | 0x95 | 0x8c | b'J' | b'K', ..])
}

impl Foreign {
    /// The file at `path` is this, which cannot be read.
    pub fn error(self, path: &Path) -> Error {
        Error::new(Kind::Data, format!("the file is {}", self.what)).at_path(path).hint(self.hint)
    }
}

/// Knows a file that cannot be read as data by its first bytes, and by how many it has.
pub(super) fn recognise(head: &[u8], size_bytes: u64) -> Option<Foreign> {
    let foreign = |what: &str, hint| Some(Foreign { what: what.to_owned(), hint });
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        let text = String::from_utf8_lossy(head);
        let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
        let bytes = size.map_or_else(String::new, |size| format!(" of {size} {}", plural(size, "byte")));
        return Some(Foreign {
            what: format!("a Git LFS pointer: the file{bytes} that it stands for was not downloaded"),
            hint: "run `git lfs pull` in its repository, or download the file itself",
        });
    }
    if size_bytes < 1024 && (head.starts_with(b"/annex/objects/") || head.starts_with(b"../.git/annex/objects/")) {
        return foreign("a git-annex pointer: the file that it stands for was not downloaded", "run `git annex get`");
    }
    if head.starts_with(b"PK\x03\x04") {
        let holds = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
        return if holds(b"xl/") || holds(b"opendocument.spreadsheet") {
            foreign("a spreadsheet (Excel or LibreOffice)", SPREADSHEET)
        } else if holds(b"word/") || holds(b"opendocument.text") {
            foreign("a text document (Word or LibreOffice)", "save it as plain text")
        } else if holds(b"data.pkl") {
            foreign("a file of PyTorch", CONVERT)
        } else {
            foreign("a zip archive", UNPACK)
        };
    }
    if let Some((_, what, hint)) = MAGIC.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return foreign(what, hint);
    }
    if is_pickle(head) {
        return foreign("a Python pickle", "load it in Python, and write its rows as JSON lines");
    }
    if head.get(257..262) == Some(b"ustar") {
        return foreign("a tar archive", UNPACK);
    }
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let lower = start[..start.len().min(16)].to_ascii_lowercase();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
        return foreign("a web page", DOWNLOAD);
    }
    if lower.starts_with(b"<?xml") {
        return foreign("an XML document", CONVERT);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let what = |head: &[u8]| recognise(head, head.len() as u64).map(|foreign| foreign.what);
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 51234\n";
        assert_eq!(
            what(pointer).unwrap(),
            "a Git LFS pointer: the file of 51234 bytes that it stands for was not downloaded"
        );
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, expected) in [
            (&b"PK\x03\x04....[Content_Types].xml..xl/workbook.xml"[..], "a spreadsheet (Excel or LibreOffice)"),
            (b"PK\x03\x04....rows.jsonl", "a zip archive"),
            (b"SQLite format 3\0....", "an SQLite database"),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", "a Python pickle"),
            (b"\xef\xbb\xbf\n<!DOCTYPE html>", "a web page"),
            (b"\xfd7zXZ\0", "xz data"),
            (&tar, "a tar archive"),
        ] {
            assert_eq!(what(head).as_deref(), Some(expected));
        }
        for head in [&b""[..], b"{\"a\": 1}", b"prompt,completion", b"PK,name", b"\x80", b"<a>,b"] {
            assert_eq!(what(head), None, "{head:?}");
        }
    }
}
