//! What a data file really holds: asked before its rows are read, and before anyone wonders about its columns.

use super::contents::{Compression, Contents, FileKind};
use super::encoding::{Encoding, Survey};
use super::file;
use super::foreign::{self, Foreign, HEAD_BYTES, UNPACK};
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::progress::Silent;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Records in which a separator is tried.
const SAMPLE_RECORDS: usize = 50;

/// A file that has been looked into.
#[derive(Debug)]
pub(super) struct Look {
    pub contents: Contents,
    /// Where it is not what its name says, or was guessed: what it is read as.
    pub notes: Vec<String>,
    /// Whether there is nothing in it but white space.
    pub is_blank: bool,
    /// What is wrong with its compressed data, as far as its beginning tells.
    pub damaged: Option<Error>,
}

/// Looks into the file at `path`, which by its name is of `kind` and `compression`.
///
/// # Errors
/// When it cannot be opened, and when it is something that cannot be read as data, with what it is.
pub(super) fn look(path: &Path, kind: FileKind, compression: Compression) -> Result<Look> {
    let mut opened = input::open_named(path, Kind::Data)?;
    let size = opened.metadata().map_err(|e| Error::io("reading", path, e))?.len();
    let raw = read_head(&mut opened, path)?;
    let contents = Contents { kind, compression, encoding: Encoding::Utf8 };
    let mut look = Look { contents, notes: Vec::new(), is_blank: false, damaged: None };
    if let Some(foreign) = foreign::recognise(&raw, size) {
        return Err(foreign.error(path));
    }
    if compression == Compression::None {
        look.find_compression(&raw);
    }
    let head = match look.contents.compression {
        Compression::None => raw,
        compressed => {
            let (head, damaged) = head_inside(path, compressed);
            look.damaged = damaged; // told when it is read
            head
        }
    };
    look.check_not_twice(&head).map_err(|foreign| foreign.error(path))?;
    if look.contents.compression != Compression::None
        && let Some(foreign) = foreign::recognise(&head, size)
    {
        let Foreign { what, hint } = foreign;
        return Err(Foreign { what: format!("{what}, compressed"), hint }.error(path));
    }
    look.is_blank = head.trim_ascii().is_empty() && head.len() < HEAD_BYTES && look.damaged.is_none();
    look.find_container(&head);
    look.check_container(&head).map_err(|foreign| foreign.error(path))?;
    match look.contents.kind {
        FileKind::Csv { .. } => look.find_table(path, &head)?,
        FileKind::Lines | FileKind::Json => look.find_json(path, &head)?,
        FileKind::Text => look.find_encoding(path, &head, "text")?,
        FileKind::Parquet | FileKind::Arrow => {}
    }
    Ok(look)
}

/// What is wrong with the file at `path` if it is of a kind that is known and no data.
pub(super) fn foreign_at(path: &Path) -> Option<Error> {
    let mut opened = input::open_named(path, Kind::Data).ok()?;
    let size = opened.metadata().ok()?.len();
    Some(foreign::recognise(&read_head(&mut opened, path).ok()?, size)?.error(path))
}

fn read_head(file: &mut File, path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(|e| Error::io("reading", path, e))?;
    Ok(head)
}

/// The beginning of what is compressed; less where it is damaged, and why.
fn head_inside(path: &Path, compression: Compression) -> (Vec<u8>, Option<Error>) {
    let mut head = Vec::new();
    let read = |head: &mut Vec<u8>| -> Result<()> {
        let bytes = file::bytes(path, compression, &Silent)?;
        let read = bytes.take(HEAD_BYTES as u64).read_to_end(head).map(|_| ());
        read.map_err(|e| file::failed_at(path, compression, e).at_path(path))
    };
    // What could be read before a failure is kept.
    let damaged = read(&mut head).err();
    (head, damaged)
}

/// The compression of what begins so, and its name.
fn compression_inside(head: &[u8]) -> Option<(Compression, &'static str)> {
    match head {
        [0x1f, 0x8b, 8, ..] => Some((Compression::Gzip, "gzip data")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some((Compression::Zstd, "zstd data")),
        _ => None,
    }
}

impl Look {
    fn read_as(&mut self, what: &str) {
        self.notes.push(format!("is {what} under another name, and is read as such"));
    }

    fn find_compression(&mut self, raw: &[u8]) {
        let Some((compression, name)) = compression_inside(raw) else { return };
        self.contents.compression = compression;
        self.read_as(name);
    }

    /// Parquet, Arrow and JSON lines are read whatever they are called.
    fn find_container(&mut self, head: &[u8]) {
        let plain = self.contents.compression == Compression::None;
        let (kind, name) = if head.starts_with(b"PAR1") && plain {
            (FileKind::Parquet, "Parquet")
        } else if plain && (head.starts_with(b"ARROW1\0\0") || head.starts_with(&[0xff; 4]) && head.get(7) == Some(&0))
        {
            (FileKind::Arrow, "Arrow")
        } else if matches!(self.contents.kind, FileKind::Csv { .. } | FileKind::Parquet | FileKind::Arrow)
            && first_line(head).is_some_and(is_object)
        {
            (FileKind::Lines, "JSON lines")
        } else {
            return;
        };
        if kind != self.contents.kind {
            self.contents.kind = kind;
            self.read_as(name);
        }
    }

    /// What is compressed is unpacked once.
    fn check_not_twice(&self, head: &[u8]) -> Result<(), Foreign> {
        let outer = match self.contents.compression {
            Compression::None => return Ok(()),
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        match compression_inside(head) {
            Some((_, inner)) => Err(Foreign { what: format!("{outer} data, with {inner} in it"), hint: UNPACK }),
            None => Ok(()),
        }
    }

    /// Parquet and Arrow are read from any place in them, and so not where they are compressed as a whole.
    fn check_container(&self, head: &[u8]) -> Result<(), Foreign> {
        let name = match self.contents.compression {
            Compression::None => return Ok(()),
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let inside = if head.starts_with(b"PAR1") {
            "with a Parquet file in it"
        } else if head.starts_with(b"ARROW1\0\0") {
            "with an Arrow file in it"
        } else if matches!(self.contents.kind, FileKind::Parquet | FileKind::Arrow) {
            "and what is in it is neither Parquet nor Arrow"
        } else {
            return Ok(());
        };
        Err(Foreign { what: format!("{name} data, {inside}"), hint: UNPACK })
    }

    /// Which of the two forms of JSON the file has.
    fn find_json(&mut self, path: &Path, head: &[u8]) -> Result<()> {
        if head.starts_with(&[0, 0, 0xfe, 0xff]) || head.starts_with(&[0xff, 0xfe, 0, 0]) {
            return Err(not_utf8("the file is UTF-32, not UTF-8", path));
        }
        let is_utf16 = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
        if head.contains(&0) && !is_utf16 {
            return Err(not_utf8("the file holds zero bytes: it is no JSON, or UTF-16", path));
        }
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let mut lines = whole_lines(head);
        let (Some(first), second) = (lines.next(), lines.next()) else { return Ok(()) };
        match self.contents.kind {
            FileKind::Json if is_object(first) && second.is_some_and(is_object) => {
                self.contents.kind = FileKind::Lines;
                self.read_as("JSON lines");
            }
            // A list over several lines, or a list of rows in the only line; an object over several lines, where it is no
            // broken line among others.
            FileKind::Lines
                if first.starts_with(b"[") && (!is_json(first) || second.is_none())
                    || first.starts_with(b"{") && !is_json(first) && second.is_some_and(|line| !is_object(line)) =>
            {
                self.contents.kind = FileKind::Json;
                self.read_as("a JSON document");
            }
            _ if !whole_lines(head).any(|line| line.starts_with(b"{") || line.starts_with(b"[")) => {
                let text = String::from_utf8_lossy(first);
                if separator(head, b',').1.is_some() || text.contains(',') && is_word(&text) {
                    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
                    return Err(Error::new(Kind::Data, format!("the file is no JSON: it begins with `{shown}`"))
                        .at_path(path)
                        .hint("it looks like a table: name it `.csv`, or `.tsv` for tabs"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The encoding of a text, which is to be a `what`.
    fn find_encoding(&mut self, path: &Path, head: &[u8], what: &str) -> Result<()> {
        if head.starts_with(&[0, 0, 0xfe, 0xff]) || head.starts_with(&[0xff, 0xfe, 0, 0]) {
            return Err(not_utf8("the file is UTF-32, not UTF-8", path));
        }
        self.contents.encoding = if head.starts_with(&[0xff, 0xfe]) {
            Encoding::Utf16Le
        } else if head.starts_with(&[0xfe, 0xff]) {
            Encoding::Utf16Be
        } else if head.contains(&0) {
            return Err(not_utf8(&format!("the file holds zero bytes: it is no {what}, or UTF-16"), path));
        } else {
            self.survey(path)?
        };
        if matches!(self.contents.encoding, Encoding::Utf16Le | Encoding::Utf16Be) {
            self.notes.push("is UTF-16, and is read as such".into());
        }
        Ok(())
    }

    /// The encoding and the separator of a table.
    fn find_table(&mut self, path: &Path, head: &[u8]) -> Result<()> {
        let FileKind::Csv { delimiter: usual } = self.contents.kind else { return Ok(()) };
        self.find_encoding(path, head, "table")?;
        let mut decoded = Vec::new();
        let text = match self.contents.encoding {
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let _ = super::encoding::Decoder::new(&head[2..], self.contents.encoding).read_to_end(&mut decoded);
                &decoded
            }
            // Separators are the same in both.
            Encoding::Utf8 | Encoding::Windows1252 => head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head),
        };
        let (delimiter, found) = separator(text, usual);
        self.contents.kind = FileKind::Csv { delimiter };
        if let Some(cells) = found {
            let (name, usual) = (separator_name(delimiter), separator_name(usual));
            self.notes.push(format!("has {name} between its {cells} columns, not {usual}, and is read so"));
        }
        Ok(())
    }

    /// Reads the whole file for what its bytes say of its encoding.
    fn survey(&mut self, path: &Path) -> Result<Encoding> {
        let survey = match Survey::of(file::bytes(path, self.contents.compression, &Silent)?) {
            Ok(survey) => survey,
            Err(_) => return Ok(Encoding::Utf8), // told with its row when it is read
        };
        let sample = survey.sample();
        match (survey.encoding(), sample) {
            (Some(Encoding::Windows1252), Some((line, text))) => {
                self.notes.push(format!(
                    "is no UTF-8, and is read as Windows-1252: `{}` in line {line}. If that is wrong, save it as UTF-8",
                    text.trim()
                ));
                Ok(Encoding::Windows1252)
            }
            (Some(encoding), _) => Ok(encoding),
            (None, sample) => {
                let line = sample.map_or(1, |(line, _)| line);
                Err(not_utf8(&format!("line {line} is neither UTF-8 nor Windows-1252"), path))
            }
        }
    }
}

fn not_utf8(what: &str, path: &Path) -> Error {
    Error::new(Kind::Data, what).at_path(path).hint("save the file as UTF-8")
}

/// The first line that is not blank.
fn first_line(head: &[u8]) -> Option<&[u8]> {
    whole_lines(head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)).next()
}

/// The lines that are not blank, trimmed; without the last one where the head may cut it.
fn whole_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = match head.iter().rposition(|&b| b == b'\n') {
        Some(last) if head.len() >= HEAD_BYTES => last,
        _ => head.len(),
    };
    head[..end].split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(&super::not_json::without_not_numbers(line)).is_ok()
}

fn is_object(line: &[u8]) -> bool {
    line.starts_with(b"{") && is_json(line)
}

/// Whether a text begins like a header rather than like a broken value.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The separator of a table, and how many columns it makes where it is another than `usual`: one that stands in the
/// header, where the usual one does not, and makes as many cells in every record.
pub(super) fn separator(text: &[u8], usual: u8) -> (u8, Option<usize>) {
    if let Some(delimiter) = declared(text) {
        let below = text.iter().position(|&b| b == b'\n').map_or(&[][..], |end| &text[end + 1..]);
        return (delimiter, (delimiter != usual).then(|| cells(below, delimiter).0));
    }
    let (header, even) = cells(text, usual);
    if header > 1 && even {
        return (usual, None);
    }
    let fitting: Vec<(u8, usize)> = [b',', b';', b'\t', b'|']
        .into_iter()
        .filter(|&candidate| candidate != usual)
        .map(|candidate| (candidate, cells(text, candidate)))
        .filter(|(_, (header, even))| *header > 1 && *even)
        .map(|(candidate, (header, _))| (candidate, header))
        .collect();
    match fitting[..] {
        [(only, header)] => (only, Some(header)),
        _ => (usual, None),
    }
}

/// The separator that Excel's first line `sep=;` names.
pub(super) fn declared(text: &[u8]) -> Option<u8> {
    let line = text.split(|&b| b == b'\n').next()?.trim_ascii_end();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line.strip_prefix(b"sep=")? {
        [delimiter] if delimiter.is_ascii_punctuation() => Some(*delimiter),
        b"" if text.starts_with(b"sep=\t") => Some(b'\t'),
        _ => None,
    }
}

/// The cells of the header under a separator, and whether every whole record of the head has as many, but for empty ones
/// at its end.
fn cells(text: &[u8], delimiter: u8) -> (usize, bool) {
    let cut = text.len() >= HEAD_BYTES / 2;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text);
    let mut records = reader.byte_records().map_while(std::result::Result::ok);
    let Some(header) = records.next() else { return (0, false) };
    let named = header.iter().rposition(|name| !name.trim_ascii().is_empty()).map_or(0, |last| last + 1);
    let mut records: Vec<csv::ByteRecord> = records.take(SAMPLE_RECORDS).collect();
    if cut && records.len() < SAMPLE_RECORDS {
        records.pop();
    }
    let even = records.iter().filter(|record| !record.iter().all(<[u8]>::is_empty)).all(|record| {
        (named..=header.len().max(named)).contains(&record.len())
            || record.iter().skip(header.len()).all(<[u8]>::is_empty) && record.len() > header.len()
    });
    (named, even)
}

fn separator_name(delimiter: u8) -> String {
    match delimiter {
        b',' => "commas".into(),
        b';' => "semicolons".into(),
        b'\t' => "tabs".into(),
        b'|' => "bars".into(),
        other => format!("`{}`", char::from(other)),
    }
}
