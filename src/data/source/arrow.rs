//! Arrow files, as `datasets` keeps them: a stream of batches, or the same with an index at its end.

use super::chunk::next_number;
use super::{Sink, SourceFile};
use crate::error::{Error, Kind, Place, Result};
use crate::guard::guarded;
use crate::input;
use crate::progress::Progress;
use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use std::fs::File;
use std::io::{BufReader, Read, Seek};

/// How an Arrow file begins that is no stream.
const FILE_MAGIC: &[u8] = b"ARROW1";

/// About how much of a batch is handed on at a time.
const SLICE_BYTES: usize = 1 << 20;

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

/// Reads every row of the columns that some format knows. A row's number is its position in the file, from 1.
///
/// # Errors
/// When the file cannot be read or is no sound Arrow file.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut opened = input::open_named(&file.path, Kind::Data)?;
    let io = |e| Error::io("reading", &file.path, e);
    let mut magic = Vec::new();
    (&mut opened).take(FILE_MAGIC.len() as u64).read_to_end(&mut magic).map_err(io)?;
    opened.rewind().map_err(io)?;
    let (schema, mut batches) = open(opened, magic == FILE_MAGIC).map_err(|e| damaged(file, 1, &e))?;
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let wanted: Vec<usize> = (0..columns.len()).filter(|&i| file.wants(&columns[i])).collect();
    sink.columns(columns);
    let mut first = 1_u32;
    while let Some(batch) = guarded(|| batches.next().transpose()).map_err(|e| damaged(file, first, &e))? {
        let batch = batch.project(&wanted).map_err(|e| damaged(file, first, &e.to_string()))?;
        progress.advance(batch.get_array_memory_size() as u64);
        let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
        let rows_at_once = (SLICE_BYTES / row_bytes.max(1)).clamp(1, 1024);
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = rows_at_once.min(batch.num_rows() - start);
            let count = u32::try_from(rows).or_else(|_| next_number(u32::MAX))?;
            let next = first.checked_add(count).map_or_else(|| next_number(u32::MAX), Ok)?;
            if sink.batch(first, batch.slice(start, rows)).is_break() {
                return Ok(());
            }
            (first, start) = (next, start + rows);
        }
    }
    Ok(())
}

fn open(opened: File, is_file: bool) -> std::result::Result<(SchemaRef, Batches), String> {
    let reader = BufReader::new(opened);
    guarded(move || -> std::result::Result<(SchemaRef, Batches), ArrowError> {
        Ok(if is_file {
            let reader = FileReader::try_new(reader, None)?;
            (reader.schema(), Box::new(reader))
        } else {
            let reader = StreamReader::try_new(reader, None)?;
            (reader.schema(), Box::new(reader))
        })
    })
}

fn damaged(file: &SourceFile, row: u32, error: &str) -> Error {
    Error::new(Kind::Data, format!("the file is damaged or no Arrow file: {error}"))
        .at(Place::Row { path: file.path.to_path_buf(), row: row as usize })
        .hint("save or download it again")
}
