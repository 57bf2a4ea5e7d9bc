//! Parquet, as Hugging Face stores data sets: nested structs and lists, in row groups.

mod pages;

use super::chunk::next_number;
use super::{Sink, SourceFile};
use crate::error::{Error, Kind, Place, Result};
use crate::guard::guarded;
use crate::input;
use crate::progress::Progress;
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::metadata::ParquetMetaData;
use std::fs::File;

/// About how much a batch of rows should hold.
const BATCH_BYTES: u64 = 1 << 20;

/// No writer makes larger pages, unless of one large value.
const MAX_PAGE_BYTES: u64 = 256 << 20;

/// A page has a little more than its values.
const PAGE_OVERHEAD_BYTES: u64 = 1 << 20;

/// Reads every row of the columns that some format knows. A row's number is its position in the file, from 1.
///
/// # Errors
/// When the file cannot be read or is no sound Parquet file, and when it would unpack to more than rows may have.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    let mut opened = input::open_named(&file.path, Kind::Data)?;
    let io = |e| Error::io("reading", &file.path, e);
    let file_bytes = opened.metadata().map_err(io)?.len();
    let shared = opened.try_clone().map_err(io)?;
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(shared)).map_err(|e| damaged(file, 1, &e))?;

    let schema = builder.schema();
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let wanted = columns.iter().enumerate().filter(|(_, name)| file.wants(name)).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let metadata = builder.metadata().clone();
    let largest_value = largest_value(file, &mut opened, &metadata, &mask, sink.max_row_bytes())?;
    let groups = metadata.row_groups();
    let mean_row = |bytes: i64, rows: i64| u64::try_from(bytes / rows.max(1)).unwrap_or(0);
    let largest_row = groups.iter().map(|g| mean_row(g.total_byte_size(), g.num_rows())).max().unwrap_or(0);
    let rows_in_all = groups.iter().map(|g| g.num_rows().max(0) as u64).fold(0, u64::saturating_add).max(1);
    let batch_rows = (BATCH_BYTES / largest_row.max(largest_value).max(1)).clamp(1, 1024) as usize;
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

/// About the bytes of the largest value, by what the headers of pages say.
///
/// # Errors
/// When a page is larger than its rows may be.
fn largest_value(
    file: &SourceFile,
    opened: &mut File,
    metadata: &ParquetMetaData,
    mask: &ProjectionMask,
    max_row_bytes: usize,
) -> Result<u64> {
    let (max_row_bytes, mut largest, mut row) = (max_row_bytes as u64, 0, 1_u64);
    for group in metadata.row_groups() {
        for (leaf, column) in group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf)) {
            let name = || column.column_path().string();
            // Offsets that make no sense are told when the column is decoded.
            let Ok((start, length)) = guarded(|| Ok::<_, String>(column.byte_range())) else { continue };
            let pages = pages::pages(opened, start, length).map_err(|e| Error::io("reading", &file.path, e))?;
            // Of a list, values are more than rows.
            let mut at = row;
            for page in pages {
                let allowed = max_row_bytes.saturating_mul(page.values.max(1)).saturating_add(PAGE_OVERHEAD_BYTES);
                if page.bytes > allowed.min(MAX_PAGE_BYTES.max(max_row_bytes + PAGE_OVERHEAD_BYTES)) {
                    let what = format!(
                        "column `{}` unpacks to {} bytes for {} values, and at most {max_row_bytes} for each are read",
                        name(),
                        page.bytes,
                        page.values
                    );
                    let row = usize::try_from(at).unwrap_or(usize::MAX);
                    return Err(Error::new(Kind::Data, what)
                        .at(Place::Row { path: file.path.to_path_buf(), row })
                        .hint("write the file with smaller pages, or raise `data.max_row_bytes`"));
                }
                largest = largest.max(page.bytes / page.values.max(1));
                at += if page.is_dictionary || leaf_is_nested(metadata, leaf) { 0 } else { page.values };
            }
        }
        row += group.num_rows().max(0) as u64;
    }
    Ok(largest)
}

/// Whether a row may have several values of a column.
fn leaf_is_nested(metadata: &ParquetMetaData, leaf: usize) -> bool {
    metadata.file_metadata().schema_descr().column(leaf).max_rep_level() > 0
}

fn damaged(file: &SourceFile, row: u32, error: &str) -> Error {
    Error::new(Kind::Data, format!("the file is damaged or no Parquet file: {error}"))
        .at(Place::Row { path: file.path.to_path_buf(), row: row as usize })
        .hint("copy or download the file again")
}
