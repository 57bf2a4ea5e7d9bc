//! A whole file at once, for inputs that are few: prompts, rows to score.

use super::encoding::Encoding;
use super::look::Contents;
use super::resolve::{FileKind, SourceFile, compression_of, look_at};
use super::{Chunk, MAX_ROW_BYTES, Sink, foreign, read};
use crate::data::object::Object;
use crate::data::options::RowFormat;
use crate::error::{Error, Kind, Place, Result};
use crate::input;
use crate::progress::Silent;
use std::ops::ControlFlow;
use std::path::Path;

/// The rows of a file of JSON lines, whatever it is called, each with its line's number. `-` and `/dev/stdin` are the
/// program's own input.
///
/// # Errors
/// When the file cannot be read or has no rows, and the first line that is no object.
pub fn read_jsonl(path: &Path) -> Result<Vec<(usize, Object)>> {
    let contents = Contents { kind: FileKind::Lines, compression: compression_of(path), encoding: Encoding::Utf8 };
    let file = SourceFile { path: path.into(), contents, format: RowFormat::default(), source: 0, notes: Vec::new() };
    if !input::is_stdin(path) {
        foreign::check(path)?;
    }
    let mut rows = Vec::new();
    for (number, row) in all(&file, MAX_ROW_BYTES)? {
        rows.push((number, row.map_err(|e| e.at(Place::Row { path: path.into(), row: number }))?));
    }
    if rows.is_empty() {
        return Err(Error::new(Kind::Data, "the file has no rows").at_path(path));
    }
    Ok(rows)
}

/// The rows of a data file of any kind, each with its number, or what is wrong with it.
///
/// # Errors
/// When the file is none that can be read, or is broken as a whole.
pub fn read_rows(path: &Path, max_row_bytes: usize) -> Result<Vec<(usize, Result<Object>)>> {
    let contents = look_at(path)?.contents;
    let file = SourceFile { path: path.into(), contents, format: RowFormat::default(), source: 0, notes: Vec::new() };
    all(&file, max_row_bytes)
}

fn all(file: &SourceFile, max_row_bytes: usize) -> Result<Vec<(usize, Result<Object>)>> {
    let mut rows = Vec::new();
    let mut undecoded = Ok(());
    let mut emit = |chunk: Chunk| {
        undecoded = chunk.decode(|number, row| rows.push((number as usize, row)));
        if undecoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    read(file, &Silent, &mut Sink::new(0, max_row_bytes, &mut emit))?;
    undecoded?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::write;

    #[test]
    fn rows_have_their_lines_and_mistakes_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &[u8]| {
            let rows = read_jsonl(&write(dir.path(), "prompts.txt", text));
            rows.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
        };
        let rows = read(b"\xEF\xBB\xBF{\"a\": 1}\n\n  \r\n{\"a\": 2}").unwrap();
        assert_eq!(
            rows.iter().map(|(line, row)| (*line, row["a"].as_u64())).collect::<Vec<_>>(),
            [(1, Some(1)), (4, Some(2))]
        );
        assert_eq!(read(b"\n\n").unwrap_err(), "error: the file has no rows\n  --> prompts.txt");
        assert_eq!(
            read(b"{\"a\": 1}\n[1]\n{").unwrap_err(),
            "error: the row must be an object, found a list\n  --> prompts.txt, row 2"
        );
        assert_eq!(
            read(b"{\"a\": \"\xff\"}").unwrap_err(),
            "error: the row is not valid UTF-8 at its byte 8\n  --> prompts.txt, row 1\n  hint: save the file as UTF-8"
        );
        assert!(read_jsonl(&dir.path().join("gone.jsonl")).unwrap_err().to_string().contains("gone.jsonl"));
    }
}
