//! Plain text: a file is one row, of format `text`.

use super::chunk::next_number;
use super::{Sink, SourceFile, file};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use std::io::Read;

/// A file larger than this is read as several rows, each of which ends at the end of a paragraph: a large book is one
/// row, and of a whole library there is never more in memory.
const ROW_BYTES: usize = 4 << 20;

/// Reads the file's text. Its row's number is 1.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut reader = file::open(file, progress)?;
    let row_bytes = ROW_BYTES.min(sink.max_row_bytes()).max(4);
    let (mut text, mut number) = (Vec::new(), 0);
    loop {
        let room = (row_bytes - text.len()) as u64;
        (&mut reader).take(room).read_to_end(&mut text).map_err(|e| file::failed(file, number + 1, e))?;
        let ended = text.len() < row_bytes;
        let rest = text.split_off(if ended { text.len() } else { end_of_row(&text) });
        if !text.trim_ascii().is_empty() {
            number = next_number(number).map_err(|e| e.at(Place::Path(file.path.to_path_buf())))?;
            let flow = match std::str::from_utf8(&text) {
                Ok(text) => {
                    let row = serde_json::json!({ "text": text }).to_string();
                    sink.json().extend_from_slice(row.as_bytes());
                    sink.json_row(number)
                }
                Err(e) => {
                    let what = format!("the text is not valid UTF-8 at its byte {}", e.valid_up_to() + 1);
                    sink.broken(number, Error::new(Kind::Data, what).hint("save the file as UTF-8"))
                }
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        text = rest;
        if ended {
            let _ = sink.flush();
            return Ok(());
        }
    }
}

/// Where a row that is full is cut: after its last paragraph, else its last line, else its last character.
fn end_of_row(text: &[u8]) -> usize {
    let paragraph = text.windows(2).rposition(|pair| pair == b"\n\n").map(|at| at + 2);
    let line = || text.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    // The first byte of a character is no 0b10xxxxxx.
    let character = || text.iter().rposition(|byte| byte & 0xC0 != 0x80).filter(|&at| at > 0);
    paragraph.or_else(line).or_else(character).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::super::MAX_ROW_BYTES;
    use super::super::contents::{Compression, Contents, FileKind};
    use super::super::encoding::Encoding;
    use super::*;
    use crate::data::testing::write;
    use crate::progress::Silent;
    use std::ops::ControlFlow;

    fn rows(text: &[u8]) -> Vec<Result<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "a.txt", text).into();
        let contents = Contents { kind: FileKind::Text, compression: Compression::None, encoding: Encoding::Utf8 };
        let file = SourceFile { path, contents, columns: None, renamed: [].into(), source: 0, notes: Vec::new() };
        let mut rows = Vec::new();
        let mut emit = |chunk: super::super::Chunk| {
            chunk.decode(|_, row| rows.push(row.map(|row| row["text"].as_str().unwrap().to_owned()))).unwrap();
            ControlFlow::Continue(())
        };
        read(&file, &Silent, &mut Sink::new(0, MAX_ROW_BYTES, &mut emit)).unwrap();
        rows
    }

    #[test]
    fn a_file_is_a_row_and_a_large_one_several_that_lose_nothing() {
        let whole = |text: &str| rows(text.as_bytes()).into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(whole("\u{feff}A \"line\".\r\n\tAnother.\n"), ["A \"line\".\r\n\tAnother.\n"]);
        assert_eq!(whole(" \n\n"), [""; 0]);
        for paragraph in ["A paragraph.\n\n".repeat(700_000), "A line.\n".repeat(1_200_000), "ä".repeat(5_000_000)] {
            let rows = whole(&paragraph);
            assert!(rows.len() > 1 && rows.iter().all(|row| row.len() <= ROW_BYTES));
            assert!(rows.concat() == paragraph, "nothing is lost");
        }
        assert!(whole(&"One.\n\n".repeat(1_000_000))[0].ends_with("One.\n\n"));
    }

    #[test]
    fn what_is_no_text_is_a_bad_row() {
        assert_eq!(rows(b"ab\xff")[0].as_ref().unwrap_err().what(), "the text is not valid UTF-8 at its byte 3");
    }
}
