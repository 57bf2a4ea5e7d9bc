//! JSON documents, read one element at a time: a list of rows, an object with such a list as `data`, or row after row.

use super::chunk::{next_number, too_large};
use super::{Sink, SourceFile, file};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::{Progress, Silent};
use std::io::BufRead;
use std::ops::ControlFlow;

/// The key whose list holds the rows when the document is one object.
const ROWS_KEY: &str = "data";

/// Reads every element. A row's number is its position, from 1.
///
/// # Errors
/// When the file cannot be read, or is no JSON document of one of the three kinds. Inside an element only quotes and
/// brackets are looked at here: what else is wrong with it is found when its chunk is decoded.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let max_row_bytes = sink.max_row_bytes();
    let scanner = |progress| -> Result<Scanner> {
        let reader = file::open(file, progress)?;
        Ok(Scanner { reader, file, row: 1, max_row_bytes })
    };
    // An object that holds the rows is read twice, and its bytes are reported once.
    let mut first = scanner(progress)?;
    match first.peek()? {
        None => return Ok(()),
        Some(b'[') => elements(first, sink, true)?,
        Some(b'{') => {
            let alone = first.is_alone()?;
            let mut again = scanner(&Silent)?;
            match alone && again.enter_rows()? {
                true => elements(again, sink, false)?,
                // One object after the other, as some tools write into `.json`.
                false => sequence(scanner(&Silent)?, sink)?,
            }
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

/// Reads the elements of the list that begins next. `whole`: it is the document, otherwise part of an object.
fn elements(mut scanner: Scanner, sink: &mut Sink, whole: bool) -> Result<()> {
    scanner.expect(b'[')?;
    let mut more = scanner.peek()? != Some(b']');
    while more {
        scanner.peek()?;
        if scanner.row_into(sink)?.is_break() {
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
    if whole {
        return match scanner.peek()? {
            Some(_) => Err(scanner.wrong("text follows the end of the list")),
            None => Ok(()),
        };
    }
    scanner.leave_rows()
}

/// Reads objects that stand one after the other.
fn sequence(mut scanner: Scanner, sink: &mut Sink) -> Result<()> {
    while scanner.peek()?.is_some() {
        if scanner.row_into(sink)?.is_break() {
            return Ok(());
        }
        if scanner.peek()? == Some(b',') {
            return Err(scanner
                .wrong("a comma follows the row, and there is no list around it")
                .hint("put `[` before the first row and `]` behind the last one, or end each line without a comma"));
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
    max_row_bytes: usize,
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

    /// Whether the value that begins next is all there is; where it is cut off, too.
    fn is_alone(&mut self) -> Result<bool> {
        match self.value(&mut Target::Skip) {
            Ok(_) => Ok(self.peek()?.is_none()),
            Err(error) if error.kind() == Kind::Data => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether the object that begins next has a list under [`ROWS_KEY`]; if so, that list begins next.
    fn enter_rows(&mut self) -> Result<bool> {
        self.expect(b'{')?;
        let mut key = Vec::new();
        while self.peek()? == Some(b'"') {
            key.clear();
            self.value(&mut Target::Keep(&mut key))?;
            self.expect(b':')?;
            let next = self.peek()?;
            if next == Some(b'[') && key == format!("\"{ROWS_KEY}\"").as_bytes() {
                return Ok(true);
            }
            self.value(&mut Target::Skip)?;
            if self.peek()? == Some(b',') {
                self.expect(b',')?;
            }
        }
        Ok(false)
    }

    /// Reads the object around the rows to its end.
    fn leave_rows(&mut self) -> Result<()> {
        while self.peek()? == Some(b',') {
            self.expect(b',')?;
            if self.peek()? != Some(b'"') {
                return Err(self.wrong("a key is missing after the list of rows"));
            }
            let mut key = Vec::new();
            self.value(&mut Target::Keep(&mut key))?;
            if key == format!("\"{ROWS_KEY}\"").as_bytes() {
                return Err(self.wrong(&format!("the key `{ROWS_KEY}` stands twice")));
            }
            self.expect(b':')?;
            self.peek()?;
            self.value(&mut Target::Skip)?;
        }
        self.expect(b'}')
    }

    /// Hands the value that begins next to `sink` as a row.
    fn row_into(&mut self, sink: &mut Sink) -> Result<ControlFlow<()>> {
        let bytes = self.value(&mut Target::Row(sink))?;
        if bytes <= self.max_row_bytes {
            return Ok(sink.json_row(self.row));
        }
        sink.json_drop();
        Ok(sink.broken(self.row, too_large(Some(bytes), self.max_row_bytes)))
    }

    /// Scans one value, from its first byte (after [`Scanner::peek`]). Gives its length; a row that is too large is not
    /// kept whole.
    fn value(&mut self, target: &mut Target) -> Result<usize> {
        let (mut depth, mut length) = (0_usize, 0);
        let (mut in_text, mut escaped, mut started) = (false, false, false);
        loop {
            let buffer = self.reader.fill_buf().map_err(|e| file::failed(self.file, self.row, e))?;
            if buffer.is_empty() {
                return if started && depth == 0 && !in_text {
                    Ok(length)
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
            length += taken;
            match target {
                Target::Row(sink) if length > self.max_row_bytes => sink.json_drop(),
                Target::Row(sink) => sink.json().extend_from_slice(bytes),
                Target::Keep(kept) if length > self.max_row_bytes => kept.clear(),
                Target::Keep(kept) => kept.extend_from_slice(bytes),
                Target::Skip => {}
            }
            self.reader.consume(taken);
            if done {
                return if started { Ok(length) } else { Err(self.wrong("a value is missing")) };
            }
        }
    }
}
