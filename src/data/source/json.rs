//! JSON documents, read one element at a time: a list of rows, an object with such a list as `data`, or row after row.

use super::chunk::{next_number, too_large};
use super::{MAX_ROW_BYTES, Sink, SourceFile, file};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::{Progress, Silent};
use std::io::BufRead;

/// The key whose list holds the rows when the document is one object.
const ROWS_KEY: &str = "data";

/// Reads every element. A row's number is its position, from 1.
///
/// # Errors
/// When the file cannot be read, or is no JSON document of one of the three kinds. Inside an element only quotes and
/// brackets are looked at here: what else is wrong with it is found when its chunk is decoded.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut scanner = Scanner { reader: file::open(file, progress)?, file, row: 1 };
    match scanner.peek()? {
        None => return Ok(()),
        Some(b'[') => elements(scanner, sink, true)?,
        Some(b'{') if scanner.enter_rows()? => elements(scanner, sink, false)?,
        Some(b'{') => {
            // One object after the other, as some tools write into `.json`; the first was used up in looking for
            // `data`, so start again. Its bytes have been reported already.
            sequence(Scanner { reader: file::open(file, &Silent)?, file, row: 1 }, sink)?;
        }
        Some(other) => {
            let what =
                format!("the document must start with `[` or `{{`, found `{}`", char::from(other).escape_default());
            return Err(Error::new(Kind::Data, what).at(Place::Path(file.path.to_path_buf())));
        }
    }
    let _ = sink.flush();
    Ok(())
}

/// Reads the elements of the list that begins next. `whole`: nothing may follow it.
fn elements(mut scanner: Scanner, sink: &mut Sink, whole: bool) -> Result<()> {
    scanner.expect(b'[')?;
    let mut more = scanner.peek()? != Some(b']');
    while more {
        scanner.peek()?;
        scanner.value(Target::Row(sink))?;
        if sink.json_row(scanner.row).is_break() {
            return Ok(());
        }
        match scanner.peek()? {
            Some(b',') => {
                scanner.expect(b',')?;
                scanner.next_row()?;
            }
            Some(b']') => more = false,
            Some(_) => return Err(scanner.wrong("`,` or `]` must follow the row")),
            None => return Err(scanner.wrong("it ends in the middle of the list")),
        }
    }
    scanner.expect(b']')?;
    if whole && scanner.peek()?.is_some() {
        return Err(scanner.wrong("text follows the end of the list"));
    }
    Ok(())
}

/// Reads objects that stand one after the other.
fn sequence(mut scanner: Scanner, sink: &mut Sink) -> Result<()> {
    while scanner.peek()?.is_some() {
        scanner.value(Target::Row(sink))?;
        if sink.json_row(scanner.row).is_break() {
            return Ok(());
        }
        scanner.next_row()?;
    }
    Ok(())
}

/// Finds where JSON values end, without understanding them.
struct Scanner<'a> {
    reader: Box<dyn BufRead + 'a>,
    file: &'a SourceFile,
    row: u32,
}

/// What becomes of a scanned value's bytes.
enum Target<'a, 'b> {
    Row(&'a mut Sink<'b>),
    Keep(&'a mut Vec<u8>),
    Skip,
}

impl Scanner<'_> {
    fn wrong(&self, what: &str) -> Error {
        let place = Place::Row { path: self.file.path.to_path_buf(), row: self.row as usize };
        Error::new(Kind::Data, format!("the document is not valid JSON: {what}")).at(place)
    }

    fn next_row(&mut self) -> Result<()> {
        self.row = next_number(self.row).map_err(|e| e.at(Place::Path(self.file.path.to_path_buf())))?;
        Ok(())
    }

    /// Skips white space and returns the byte that follows, without taking it.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let buffer = self.reader.fill_buf().map_err(|e| file::failed(self.file, self.row, e))?;
            let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let next = buffer.get(blank).copied();
            let ended = buffer.is_empty();
            self.reader.consume(blank);
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }

    /// Takes the byte that [`Scanner::peek`] shows, which must be `byte`.
    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek()? != Some(byte) {
            return Err(self.wrong(&format!("`{}` is missing", char::from(byte))));
        }
        self.reader.consume(1);
        Ok(())
    }

    /// Whether the object that begins next has a list under [`ROWS_KEY`]; if so, that list begins next.
    fn enter_rows(&mut self) -> Result<bool> {
        self.expect(b'{')?;
        let mut key = Vec::new();
        while self.peek()? == Some(b'"') {
            key.clear();
            self.value(Target::Keep(&mut key))?;
            self.expect(b':')?;
            let next = self.peek()?;
            if next == Some(b'[') && key == format!("\"{ROWS_KEY}\"").as_bytes() {
                return Ok(true);
            }
            self.value(Target::Skip)?;
            if self.peek()? == Some(b',') {
                self.expect(b',')?;
            }
        }
        Ok(false)
    }

    /// Scans one value, from its first byte (after [`Scanner::peek`]).
    fn value(&mut self, mut target: Target) -> Result<()> {
        let mut depth = 0_usize;
        let (mut in_text, mut escaped, mut started) = (false, false, false);
        loop {
            let buffer = self.reader.fill_buf().map_err(|e| file::failed(self.file, self.row, e))?;
            if buffer.is_empty() {
                return if started && depth == 0 && !in_text {
                    Ok(())
                } else {
                    Err(self.wrong("it ends in the middle of the row"))
                };
            }
            let mut done = false;
            let mut taken = buffer.len();
            for (i, &byte) in buffer.iter().enumerate() {
                if in_text {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => {
                            in_text = false;
                            done = depth == 0;
                        }
                        _ => {}
                    }
                } else {
                    match byte {
                        b'"' => in_text = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth > 0 => {
                            depth -= 1;
                            done = depth == 0;
                        }
                        // A number, `true` and the like end where the next thing begins.
                        b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => {
                            taken = i;
                            done = true;
                            break;
                        }
                        _ => {}
                    }
                }
                started = true;
                if done {
                    taken = i + 1;
                    break;
                }
            }
            let bytes = &buffer[..taken];
            let held = match &mut target {
                Target::Row(sink) => {
                    sink.json().extend_from_slice(bytes);
                    sink.json_pending().len()
                }
                Target::Keep(kept) => {
                    kept.extend_from_slice(bytes);
                    kept.len()
                }
                Target::Skip => 0,
            };
            self.reader.consume(taken);
            if held > MAX_ROW_BYTES {
                let place = Place::Row { path: self.file.path.to_path_buf(), row: self.row as usize };
                return Err(too_large().at(place));
            }
            if done {
                return if started { Ok(()) } else { Err(self.wrong("a value is missing")) };
            }
        }
    }
}
