//! Some rows of one file, still raw, so that one thread can read them and many can decode them.

use super::{column_json, not_json};
use crate::data::exact;
use crate::data::object::{Object, kind_name};
use crate::data::raw_object::with_long_lists;
use crate::error::{Error, Kind, Result};
use crate::progress::counted;
use arrow_array::RecordBatch;
use serde_json::Value;
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Enough text for a worker to be busy for a millisecond, little enough for hundreds of chunks to be under way.
const CHUNK_BYTES: usize = 128 << 10;

/// Some rows of one file, in order.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Index of the file.
    pub file: usize,
    /// All columns of the file, where the file says so (rows may hold only those that matter).
    pub columns: Option<Arc<[String]>>,
    max_row_bytes: usize,
    rows: RawRows,
}

#[derive(Debug)]
enum RawRows {
    /// JSON objects one after the other; each row's number and end.
    Json { bytes: Vec<u8>, rows: Vec<(u32, usize)> },
    /// Records in the order of the columns; each with its row's number.
    Csv(Vec<(u32, csv::ByteRecord)>),
    /// Columns of rows with consecutive numbers, of Parquet or Arrow.
    Columns { first: u32, batch: RecordBatch },
    /// A row that could not be read.
    Broken(u32, Error),
}

impl Chunk {
    /// About how much memory it holds.
    pub fn bytes(&self) -> usize {
        match &self.rows {
            RawRows::Json { bytes, .. } => bytes.len(),
            RawRows::Csv(records) => records.iter().map(|(_, record)| record.as_slice().len()).sum(),
            RawRows::Columns { batch, .. } => batch.get_array_memory_size(),
            RawRows::Broken(..) => 0,
        }
    }

    /// The text of every row that [`Chunk::decode`] gives, where the file is one of JSON; empty where it is no UTF-8.
    pub(super) fn json_texts(&self) -> Vec<String> {
        let RawRows::Json { bytes, rows } = &self.rows else { return Vec::new() };
        let starts = std::iter::once(0).chain(rows.iter().map(|&(_, end)| end));
        let text = |(start, &(_, end)): (usize, &(u32, usize))| str::from_utf8(&bytes[start..end]).unwrap_or_default();
        starts.zip(rows).map(|row| text(row).to_owned()).collect()
    }

    /// Calls `each` with the number and columns of every row, or with what is wrong with it.
    ///
    /// # Errors
    /// When a whole chunk cannot be decoded (a Parquet type that has no JSON form).
    pub fn decode(self, mut each: impl FnMut(u32, Result<Object>)) -> Result<()> {
        match self.rows {
            // A large row is alone in its chunk: its text is not kept beside its values.
            RawRows::Json { bytes, rows } if rows.len() == 1 => {
                let row = parse(&bytes);
                drop(bytes);
                each(rows[0].0, row);
            }
            RawRows::Json { bytes, rows } => {
                let mut start = 0;
                for (number, end) in rows {
                    each(number, parse(&bytes[start..end]));
                    start = end;
                }
            }
            RawRows::Csv(records) => {
                let columns = self.columns.unwrap_or_default();
                for (number, record) in records {
                    let row = from_record(&columns, &record);
                    drop(record);
                    each(number, row);
                }
            }
            RawRows::Columns { first, batch } => {
                let text = column_json::lines(batch)?;
                if text.len() <= self.max_row_bytes
                    && let Some(end) = text.iter().position(|&b| b == b'\n')
                    && end + 1 >= text.len()
                {
                    let row = parse(&text[..end]);
                    drop(text);
                    each(first, row);
                    return Ok(());
                }
                for (number, line) in (first..).zip(text.split(|&b| b == b'\n').filter(|line| !line.is_empty())) {
                    match line.len() > self.max_row_bytes {
                        true => each(number, Err(too_large(Some(line.len()), self.max_row_bytes))),
                        false => each(number, parse(line)),
                    }
                }
            }
            RawRows::Broken(number, error) => each(number, Err(error)),
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Object> {
    let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(e.valid_up_to()))?;
    if let Some(object) = with_long_lists(text) {
        return Ok(object);
    }
    let parsed = exact::from_str(text.trim_end()).or_else(|e| match not_json::without_not_numbers(bytes) {
        Cow::Borrowed(_) => Err(e),
        // Python's words, as `datasets` reads them; where they stand, there is nothing that a format takes.
        Cow::Owned(json) => exact::from_str(String::from_utf8_lossy(json.trim_ascii_end()).as_ref()).map_err(|_| e),
    });
    match parsed {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Error::new(Kind::Data, format!("the row must be an object, found {}", kind_name(&other)))),
        Err(e) => {
            // serde_json ends its message with "at line 1 column 7"; the line is always 1 here.
            let message = e.to_string();
            let reason = message.rsplit_once(" at line").map_or(message.as_str(), |(reason, _)| reason);
            let error = Error::new(Kind::Data, format!("the row is not valid JSON: {reason} (column {})", e.column()));
            Err(match text.trim() {
                "{" | "[" => error.hint("the rows span several lines: name the file `.json` instead of `.jsonl`"),
                line if line.ends_with("},") => error.hint("a comma follows the object: end each line without one"),
                line if line.starts_with("//") || line.starts_with('#') => {
                    error.hint("JSON has no comments: leave the line out")
                }
                _ => error,
            })
        }
    }
}

fn from_record(columns: &[String], record: &csv::ByteRecord) -> Result<Object> {
    if record.len() != columns.len() {
        let what = format!("the record has {}, the header has {}", counted(record.len(), "field"), columns.len());
        return Err(Error::new(Kind::Data, what)
            .hint("a field with a comma, a quote or a line break stands in quotes; quotes within it are doubled"));
    }
    let mut object = Object::new();
    for (name, field) in columns.iter().zip(record) {
        let text = std::str::from_utf8(field).map_err(|e| not_utf8(e.valid_up_to()))?;
        object.insert(name.clone(), Value::String(text.to_owned()));
    }
    Ok(object)
}

fn not_utf8(valid: usize) -> Error {
    Error::new(Kind::Data, format!("the row is not valid UTF-8 at its byte {}", valid + 1))
        .hint("save the file as UTF-8")
}

/// Collects the rows of one file into chunks and hands them on.
pub(crate) struct Sink<'a> {
    file: usize,
    columns: Option<Arc<[String]>>,
    json: Vec<u8>,
    json_rows: Vec<(u32, usize)>,
    records: Vec<(u32, csv::ByteRecord)>,
    record_bytes: usize,
    max_row_bytes: usize,
    remarks: Vec<String>,
    emit: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>,
}

impl<'a> Sink<'a> {
    /// A sink for the rows of file number `file`, of at most `max_row_bytes` each; `emit` breaks when nobody wants more.
    pub fn new(file: usize, max_row_bytes: usize, emit: &'a mut dyn FnMut(Chunk) -> ControlFlow<()>) -> Self {
        Sink {
            file,
            max_row_bytes,
            columns: None,
            json: Vec::new(),
            json_rows: Vec::new(),
            records: Vec::new(),
            record_bytes: 0,
            remarks: Vec::new(),
            emit,
        }
    }

    /// The most bytes that a row may have.
    pub(super) fn max_row_bytes(&self) -> usize {
        self.max_row_bytes
    }

    /// Says something of the file's rows that the user is to know: `3 rows of empty cells only, left out`.
    pub(super) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// What was said of the file's rows.
    pub fn into_remarks(self) -> Vec<String> {
        self.remarks
    }

    /// Says which columns the file has. Called before the first row.
    pub(super) fn columns(&mut self, columns: Vec<String>) {
        self.columns = Some(columns.into());
    }

    /// Where the next JSON row's bytes are to be appended; [`Sink::json_row`] then ends it.
    pub(super) fn json(&mut self) -> &mut Vec<u8> {
        &mut self.json
    }

    /// The bytes appended since the last row.
    pub(super) fn json_pending(&self) -> &[u8] {
        &self.json[self.json_end()..]
    }

    fn json_end(&self) -> usize {
        self.json_rows.last().map_or(0, |&(_, end)| end)
    }

    /// Drops the bytes that were appended since the last row.
    pub(super) fn json_drop(&mut self) {
        let end = self.json_end();
        self.json.truncate(end);
    }

    /// Makes the bytes appended since the last row into row `number`. A large row is alone in its chunk.
    pub(super) fn json_row(&mut self, number: u32) -> ControlFlow<()> {
        let before = self.json_end();
        if before > 0 && self.json.len() - before >= CHUNK_BYTES {
            let bytes = self.json[..before].to_vec();
            self.json.drain(..before);
            let rows = std::mem::take(&mut self.json_rows);
            self.hand_on(RawRows::Json { bytes, rows })?;
        }
        self.json_rows.push((number, self.json.len()));
        if self.json.len() >= CHUNK_BYTES { self.flush() } else { ControlFlow::Continue(()) }
    }

    /// Takes record `number`.
    pub(super) fn record(&mut self, number: u32, record: csv::ByteRecord) -> ControlFlow<()> {
        self.record_bytes += record.as_slice().len();
        self.records.push((number, record));
        if self.record_bytes >= CHUNK_BYTES { self.flush() } else { ControlFlow::Continue(()) }
    }

    /// Takes rows from number `first`.
    pub(super) fn batch(&mut self, first: u32, batch: RecordBatch) -> ControlFlow<()> {
        self.hand_on(RawRows::Columns { first, batch })
    }

    /// Takes a row that could not be read.
    pub(super) fn broken(&mut self, number: u32, error: Error) -> ControlFlow<()> {
        self.flush()?;
        self.hand_on(RawRows::Broken(number, error))
    }

    /// Hands on what has been collected.
    pub fn flush(&mut self) -> ControlFlow<()> {
        if !self.json_rows.is_empty() {
            let bytes = std::mem::take(&mut self.json);
            let rows = std::mem::take(&mut self.json_rows);
            self.hand_on(RawRows::Json { bytes, rows })?;
        }
        if !self.records.is_empty() {
            self.record_bytes = 0;
            let records = std::mem::take(&mut self.records);
            self.hand_on(RawRows::Csv(records))?;
        }
        ControlFlow::Continue(())
    }

    fn hand_on(&mut self, rows: RawRows) -> ControlFlow<()> {
        let max_row_bytes = self.max_row_bytes;
        (self.emit)(Chunk { file: self.file, columns: self.columns.clone(), max_row_bytes, rows })
    }
}

/// The row is larger than a row may be; `bytes` where they were counted to its end.
pub(super) fn too_large(bytes: Option<usize>, max: usize) -> Error {
    let has = bytes.map_or_else(|| format!("more than {max} bytes"), |bytes| format!("{bytes} bytes"));
    Error::new(Kind::Data, format!("the row has {has}, and at most {max} are read"))
        .hint("one row is one conversation or text: split it, or raise `data.max_row_bytes`")
}

/// The number of the row after row `number`.
///
/// # Errors
/// When a file has more rows than are counted in 32 bits.
pub(super) fn next_number(number: u32) -> Result<u32> {
    number.checked_add(1).ok_or_else(|| {
        Error::new(Kind::Data, "the file has more than 4294967295 rows").hint("split it into several files")
    })
}
