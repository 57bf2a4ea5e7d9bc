//! Comma- and tab-separated values, and what spreadsheets write under that name.
//!
//! A row's number counts records as a spreadsheet does: the header is row 1.

mod records;

use super::chunk::{next_number, too_large};
use super::{Sink, SourceFile, file, look};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::{Progress, counted, plural};
use records::{Fault, Records, Start};
use std::collections::HashSet;
use std::io::{self, BufRead};

/// Reads every record under the header.
///
/// # Errors
/// When the file cannot be read, has no usable header, or ends inside of a quoted cell.
pub(super) fn read(file: &SourceFile, delimiter: u8, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut text = file::open(file, progress)?;
    let first_line = skip_declaration(&mut text).map_err(|e| file::failed(file, 1, e))?;
    let records = Records::new(text, delimiter, first_line, sink.max_row_bytes());
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(records);
    let at = |row: u32| Place::Row { path: file.path.to_path_buf(), row: row as usize };

    let mut header = csv::ByteRecord::new();
    reader.read_byte_record(&mut header).map_err(|e| failed(file, 1, e))?;
    if let (_, Some(fault)) = taken(&mut reader) {
        return Err(explain(&fault).at(at(1)));
    }
    let columns = column_names(&header).map_err(|e| e.at(at(1)))?;
    let (named, all) = (columns.len(), header.len());
    sink.columns(columns);

    let (mut number, mut blank, mut unnamed, mut full) = (1, 0_u64, 0_u64, 0_u64);
    loop {
        let mut record = csv::ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(|e| failed(file, number, e))? {
            break;
        }
        number = next_number(number).map_err(|e| e.at(Place::Path(file.path.to_path_buf())))?;
        let (start, fault) = taken(&mut reader);
        let flow = match fault {
            // What follows an open quote cannot be told apart from its cell.
            Some(fault @ Fault::Unclosed { .. }) => return Err(explain(&fault).at(at(number))),
            Some(fault) => sink.broken(number, explain(&fault)),
            None if record.iter().all(<[u8]>::is_empty) && record.len() > 1 => {
                blank += 1;
                continue;
            }
            None if record.len() < named || record.iter().skip(all).any(|cell| !cell.is_empty()) => {
                sink.broken(number, uneven(record.len(), all, start.line))
            }
            None => {
                unnamed += u64::from(record.iter().skip(named).any(|cell| !cell.is_empty()));
                record.truncate(named);
                full += u64::from(record.iter().any(is_full));
                sink.record(number, record)
            }
        };
        if flow.is_break() {
            return Ok(());
        }
    }
    for (count, what) in [
        (blank, "of empty cells only, left out"),
        (unnamed, "with text in a column without a name, which is left out"),
        (full, "with a cell of 32,767 characters, which is all that Excel keeps of one: its end may be lost"),
    ] {
        if count > 0 {
            sink.remark(format!("{count} {} {what}", plural(count, "row")));
        }
    }
    let _ = sink.flush();
    Ok(())
}

/// Whether a cell is as long as those that Excel cuts off, which counts in UTF-16.
fn is_full(cell: &[u8]) -> bool {
    const MOST: usize = 32_767;
    (MOST..=3 * MOST).contains(&cell.len())
        && std::str::from_utf8(cell).is_ok_and(|text| text.encode_utf16().count() == MOST)
}

/// Passes over Excel's first line `sep=;`. Gives the number of the line that comes next.
fn skip_declaration(text: &mut impl BufRead) -> io::Result<usize> {
    if look::declared(text.fill_buf()?).is_none() {
        return Ok(1);
    }
    text.skip_until(b'\n')?;
    Ok(2)
}

/// Where the record that was just read begins, and what is wrong with it.
fn taken<R: BufRead>(reader: &mut csv::Reader<Records<R>>) -> (Start, Option<Fault>) {
    let end = reader.position().byte();
    reader.get_mut().take_before(end)
}

fn column_names(header: &csv::ByteRecord) -> Result<Vec<String>> {
    // Spreadsheets write separators up to the last column that was ever used.
    let named = header.iter().rposition(|name| !name.trim_ascii().is_empty()).map_or(0, |last| last + 1);
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(named);
    for (i, name) in header.iter().take(named).enumerate() {
        let name =
            std::str::from_utf8(name).map_err(|_| Error::new(Kind::Data, "the header is not valid UTF-8"))?.trim();
        // As pandas calls a column without a name, such as the index that it writes.
        let name = if name.is_empty() { format!("Unnamed: {i}") } else { name.to_owned() };
        if !seen.insert(name.clone()) {
            return Err(Error::new(Kind::Data, format!("column `{name}` stands twice in the header"))
                .hint("each column needs a name of its own; if this row is no header, put one above it"));
        }
        names.push(name);
    }
    Ok(names)
}

fn uneven(cells: usize, header: usize, line: usize) -> Error {
    Error::new(Kind::Data, format!("the record has {}, the header has {header} (line {line})", counted(cells, "field")))
        .hint("a field with a comma, a quote or a line break stands in quotes; quotes within it are doubled")
}

fn explain(fault: &Fault) -> Error {
    match *fault {
        Fault::Unclosed { line } => Error::new(
            Kind::Data,
            format!("the quote that opens a cell in line {line} is never closed: all that follows would be one cell"),
        )
        .hint("close the quote; a quote that is part of a text is doubled, and its cell stands in quotes"),
        Fault::TextAfterQuote { line, until } => {
            let goes_on = if until == line { String::new() } else { format!(" and goes on to line {until}") };
            let what =
                format!("the quoted cell that begins in line {line}{goes_on} is followed by text after its quote");
            Error::new(Kind::Data, what)
                .hint("a quote within a quoted cell is doubled; or a quote is missing or too much")
        }
        Fault::TooLarge { bytes, max, quoted_since } => match quoted_since {
            None => too_large(Some(bytes), max),
            Some(line) => too_large(Some(bytes), max)
                .hint(format!("is the quote that opens a cell in line {line} closed too late?")),
        },
    }
}

fn failed(file: &SourceFile, row: u32, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(e) => file::failed(file, row, e),
        other => Error::new(Kind::Data, format!("the record cannot be read: {other:?}"))
            .at(Place::Row { path: file.path.to_path_buf(), row: row as usize }),
    }
}
