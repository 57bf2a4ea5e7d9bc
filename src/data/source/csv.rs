//! Comma- and tab-separated values.
//!
//! A row's number counts records as a spreadsheet does: the header is row 1.

use super::chunk::{next_number, too_large};
use super::{MAX_ROW_BYTES, Sink, SourceFile, file};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use std::cell::Cell;
use std::io::{self, Read};

/// Reads every record under the header.
///
/// # Errors
/// When the file cannot be read, or has no usable header.
pub(super) fn read(file: &SourceFile, delimiter: u8, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    // An unclosed quote makes the rest of the file one field: count what is read for one record.
    let since_record = Cell::new(0);
    let metered = Metered { inner: file::open(file, progress)?, since_record: &since_record };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(metered);
    let header = reader.byte_headers().map_err(|e| failed(file, 1, e))?.clone();
    sink.columns(column_names(&header).map_err(|e| e.at(Place::Row { path: file.path.to_path_buf(), row: 1 }))?);

    let mut number = 1;
    loop {
        number = next_number(number).map_err(|e| e.at(Place::Path(file.path.to_path_buf())))?;
        since_record.set(0);
        let mut record = csv::ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(|e| failed(file, number, e))? {
            break;
        }
        if sink.record(number, record).is_break() {
            return Ok(());
        }
    }
    let _ = sink.flush();
    Ok(())
}

fn column_names(header: &csv::ByteRecord) -> Result<Vec<String>> {
    let mut names = Vec::<String>::new();
    for name in header {
        let name =
            std::str::from_utf8(name).map_err(|_| Error::new(Kind::Data, "the header is not valid UTF-8"))?.trim();
        if names.iter().any(|n| n == name) {
            return Err(Error::new(Kind::Data, format!("column `{name}` stands twice in the header")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn failed(file: &SourceFile, row: u32, error: csv::Error) -> Error {
    let place = Place::Row { path: file.path.to_path_buf(), row: row as usize };
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.get_ref().is_some_and(|e| e.is::<TooLarge>()) => {
            too_large().at(place).hint("a quote that opens a field is never closed")
        }
        csv::ErrorKind::Io(e) => file::failed(file, row, e),
        other => Error::new(Kind::Data, format!("the record cannot be read: {other:?}")).at(place),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the record is too large")]
struct TooLarge;

/// Fails when one record takes more bytes than a row may have.
struct Metered<'a, R> {
    inner: R,
    since_record: &'a Cell<usize>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_record.get() > MAX_ROW_BYTES {
            return Err(io::Error::other(TooLarge));
        }
        let read = self.inner.read(buffer)?;
        self.since_record.set(self.since_record.get() + read);
        Ok(read)
    }
}
