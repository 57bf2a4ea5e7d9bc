//! A whole file of JSON lines at once, for inputs that are few: prompts, rows to score.

use super::resolve::{FileKind, SourceFile, compression_of};
use super::{Chunk, Sink, read};
use crate::data::object::Object;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Silent;
use std::ops::ControlFlow;
use std::path::Path;

/// The rows of a file of JSON lines, whatever it is called, each with its line's number.
///
/// # Errors
/// When the file cannot be read or has no rows, and the first line that is no object.
pub fn read_jsonl(path: &Path) -> Result<Vec<(usize, Object)>> {
    let (kind, compression) = (FileKind::Lines, compression_of(path));
    let file = SourceFile { path: path.into(), kind, compression, columns: None, source: 0 };
    let mut rows = Vec::new();
    let mut wrong: Option<Error> = None;
    let mut take = |number: u32, row: Result<Object>| match row {
        Ok(row) => rows.push((number as usize, row)),
        Err(error) if wrong.is_none() => wrong = Some(error.at(Place::Row { path: path.into(), row: number as usize })),
        Err(_) => {}
    };
    let mut undecoded = Ok(());
    let mut emit = |chunk: Chunk| {
        undecoded = chunk.decode(&mut take);
        if undecoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    read(&file, &Silent, &mut Sink::new(0, &mut emit))?;
    undecoded?;
    match wrong {
        Some(error) => Err(error),
        None if rows.is_empty() => Err(Error::new(Kind::Data, "the file has no rows").at_path(path)),
        None => Ok(rows),
    }
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
