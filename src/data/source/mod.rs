//! Sources: which files a recipe means, and their rows as raw chunks, read by one thread and decoded by many.

mod any;
mod arrow;
mod chunk;
mod column_json;
mod contents;
mod csv;
mod encoding;
mod file;
mod foreign;
mod json;
mod jsonl;
mod lines;
mod look;
mod not_json;
mod parquet;
mod plain;
mod resolve;
mod saved;

pub use any::read_any;
pub(super) use chunk::{Chunk, Sink};
pub(super) use contents::{FileKind, SourceFile};
pub(super) use jsonl::is_table;
pub use jsonl::{JsonRow, read_rows};
pub(super) use resolve::resolve;
pub use resolve::{FindHub, check_source, local_only};

use crate::error::Result;
use crate::progress::Progress;

/// The most bytes of a row where a recipe does not say so: several books, or all that a person writes in years.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// Reads all rows of `file` into `sink`, advancing `progress` by the file's bytes as they are read.
///
/// # Errors
/// When the file itself is broken: it cannot be opened, ends early, is not what its name says. A single broken row is
/// handed to the sink instead.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    match file.contents.kind {
        FileKind::Lines => lines::read(file, progress, sink),
        FileKind::Json => json::read(file, progress, sink),
        FileKind::Csv { delimiter } => csv::read(file, delimiter, progress, sink),
        FileKind::Parquet => parquet::read(file, progress, sink),
        FileKind::Text => plain::read(file, progress, sink),
        FileKind::Arrow => arrow::read(file, progress, sink),
    }
}

#[cfg(test)]
mod tests;
