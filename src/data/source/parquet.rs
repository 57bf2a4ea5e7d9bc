//! Parquet, as Hugging Face stores data sets: nested structs and lists, in row groups.

use super::chunk::next_number;
use super::guard::guarded;
use super::{Sink, SourceFile};
use crate::error::{Error, Kind, Place, Result};
use crate::input;
use crate::progress::Progress;
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// About how much a batch of rows should hold.
const BATCH_BYTES: i64 = 1 << 20;

/// Reads every row of the columns that some format knows. A row's number is its position in the file, from 1.
///
/// # Errors
/// When the file cannot be read or is no sound Parquet file.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let opened = input::open_named(&file.path, Kind::Data)?;
    let file_bytes = opened.metadata().map_err(|e| Error::io("reading", &file.path, e))?.len();
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(opened)).map_err(|e| damaged(file, 1, &e))?;

    let schema = builder.schema();
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let wanted = columns.iter().enumerate().filter(|(_, name)| file.wants(name)).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let groups = builder.metadata().row_groups();
    let largest_row =
        groups.iter().map(|g| g.total_byte_size() / g.num_rows().max(1)).max().unwrap_or(0).clamp(1, BATCH_BYTES);
    let rows_in_all = groups.iter().map(|g| g.num_rows().max(0) as u64).fold(0, u64::saturating_add).max(1);
    let batch_rows = (BATCH_BYTES / largest_row).clamp(16, 1024) as usize;
    sink.columns(columns);

    let builder = builder.with_projection(mask).with_batch_size(batch_rows);
    let mut reader = guarded(|| builder.build()).map_err(|e| damaged(file, 1, &e))?;
    let (mut first, mut reported) = (1_u32, 0);
    while let Some(batch) = guarded(|| reader.next().transpose()).map_err(|e| damaged(file, first, &e))? {
        let rows = u32::try_from(batch.num_rows()).or_else(|_| next_number(u32::MAX))?;
        let next = first.checked_add(rows).map_or_else(|| next_number(u32::MAX), Ok)?;
        if sink.batch(first, batch).is_break() {
            return Ok(());
        }
        first = next;
        let done = (file_bytes as f64 * (f64::from(first - 1) / rows_in_all as f64).min(1.0)) as u64;
        progress.advance(done - reported);
        reported = done;
    }
    Ok(())
}

fn damaged(file: &SourceFile, row: u32, error: &str) -> Error {
    Error::new(Kind::Data, format!("the file is damaged or no Parquet file: {error}"))
        .at(Place::Row { path: file.path.to_path_buf(), row: row as usize })
        .hint("copy or download the file again")
}
