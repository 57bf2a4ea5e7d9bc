//! A whole file of JSON rows at once, for inputs that are few: prompts, rows to score.

use super::contents::{Contents, FileKind, SourceFile};
use super::encoding::Encoding;
use super::look::look;
use super::resolve::{compression_of, kind_of};
use super::{Chunk, MAX_ROW_BYTES, Sink, read};
use crate::data::object::Object;
use crate::data::raw_object::with_unreadable_values;
use crate::error::{Error, Kind, Place, Result};
use crate::input;
use crate::progress::Silent;
use std::ops::ControlFlow;
use std::path::Path;

/// A row of a file that is read at once.
#[derive(Debug, Clone)]
pub struct JsonRow {
    /// Its line, or its position in a JSON document; from 1.
    pub number: usize,
    /// What it says.
    pub object: Object,
    /// Its text.
    pub text: String,
}

/// The rows of a JSON document (`.json`) or of a file of JSON lines (whatever else it is called), each with its number
/// and text; `-` and `/dev/stdin` are the program's own input.
///
/// # Errors
/// When the file cannot be read or has no rows, and the first row that is no object.
pub fn read_rows(path: &Path) -> Result<Vec<JsonRow>> {
    let contents = contents(path)?;
    if !holds_json(contents) {
        return Err(Error::new(Kind::Data, "this is a table, where a JSON object in each line is expected")
            .at_path(path)
            .hint(
                "such as `{\"prompt\": \"..\"}` or `{\"messages\": [..]}`; `evaluate --input .. --generate` answers the prompts of a \
                 table that has answers to compare with",
            ));
    }
    let file =
        SourceFile { path: path.into(), contents, columns: None, renamed: [].into(), source: 0, notes: Vec::new() };
    let mut rows = Vec::new();
    let mut wrong: Option<Error> = None;
    let mut undecoded = Ok(());
    let mut emit = |chunk: Chunk| {
        let mut texts = chunk.json_texts().into_iter();
        undecoded = chunk.decode(|number, row| {
            let (number, text) = (number as usize, texts.next().unwrap_or_default());
            // What is only passed on need not be understood.
            match row.or_else(|error| with_unreadable_values(&text).ok_or(error)) {
                Ok(object) => rows.push(JsonRow { number, object, text }),
                Err(error) if wrong.is_none() => {
                    let error = match other_form(&error, &text, path) {
                        Some(hint) => error.hint(hint),
                        None => error,
                    };
                    wrong = Some(error.at(Place::Row { path: path.into(), row: number }));
                }
                Err(_) => {}
            }
        });
        if undecoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    read(&file, &Silent, &mut Sink::new(0, MAX_ROW_BYTES, &mut emit))?;
    undecoded?;
    match wrong {
        Some(error) => Err(error),
        None if rows.is_empty() => Err(Error::new(Kind::Data, "the file has no rows").at_path(path)),
        None => Ok(rows),
    }
}

/// Whether the file at `path` has columns, and no rows of JSON.
///
/// # Errors
/// When it cannot be read.
pub(in crate::data) fn is_table(path: &Path) -> Result<bool> {
    contents(path).map(|contents| !holds_json(contents))
}

fn holds_json(contents: Contents) -> bool {
    matches!(contents.kind, FileKind::Lines | FileKind::Json)
}

/// What a file is read as where rows of JSON are expected: what its name does not say is a file of lines.
fn contents(path: &Path) -> Result<Contents> {
    let (kind, compression) = match kind_of(path) {
        Ok((FileKind::Text, _)) | Err(_) => (FileKind::Lines, compression_of(path)),
        Ok(known) => known,
    };
    Ok(match input::is_stdin(path) {
        true => Contents { kind: FileKind::Lines, compression, encoding: Encoding::Utf8 },
        false => look(path, kind, compression)?.contents,
    })
}

/// What to do where a row begins as rows in another form do.
fn other_form(error: &Error, text: &str, path: &Path) -> Option<&'static str> {
    let is_stdin = input::is_stdin(path);
    match text.trim_start().chars().next()? {
        '[' if is_stdin => Some(
            "standard input is read as lines, a row each: `jq -c '.[]'` makes lines of a list, or name a `.json` file",
        ),
        '{' if is_stdin && error.what().contains("EOF") => {
            Some("standard input is read as lines: each row is an object on a line of its own")
        }
        '[' | '{' => None,
        _ if error.hint_text().is_some() => None,
        _ => Some("each line is a JSON object, such as `{\"prompt\": \"Hi\"}`"),
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
            let rows = read_rows(&write(dir.path(), "prompts.txt", text));
            rows.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
        };
        let rows = read(b"\xEF\xBB\xBF{\"a\": 1}\n\n  \r\n{\"a\": 2}").unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.number, row.object["a"].as_u64())).collect::<Vec<_>>(),
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
        for name in ["gone.jsonl", "."] {
            assert_eq!(read_rows(&dir.path().join(name)).unwrap_err().exit_code(), 2, "{name}");
        }
    }

    #[test]
    fn a_document_is_read_by_its_name_and_texts_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[\n  {\"a\": 1e400},\n  {\n    \"a\": 2\n  }\n]\n";
        let rows = read_rows(&write(dir.path(), "prompts.json", text.as_bytes())).unwrap();
        let texts: Vec<_> = rows.iter().map(|row| (row.number, row.text.as_str())).collect();
        assert_eq!(texts, [(1, "{\"a\": 1e400}"), (2, "{\n    \"a\": 2\n  }")]);
        // A document is one under the name of lines, too.
        assert_eq!(read_rows(&write(dir.path(), "prompts.jsonl", text.as_bytes())).unwrap().len(), 2);
    }
}
