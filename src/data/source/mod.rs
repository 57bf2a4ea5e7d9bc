//! Sources: which files a recipe means, and their rows as raw chunks, read by one thread and decoded by many.

mod chunk;
mod csv;
mod file;
mod guard;
mod json;
mod jsonl;
mod lines;
mod parquet;
mod plain;
mod resolve;

pub(super) use chunk::{Chunk, Sink};
pub use jsonl::read_jsonl;
pub(super) use resolve::resolve;
pub(super) use resolve::{Compression, FileKind, SourceFile};
pub use resolve::{FindHub, check_source, local_only};

use crate::error::Result;
use crate::progress::Progress;

/// The largest row in bytes: anything larger is a broken file rather than a row.
const MAX_ROW_BYTES: usize = 64 << 20;

/// Reads all rows of `file` into `sink`, advancing `progress` by the file's bytes as they are read.
///
/// # Errors
/// When the file itself is broken: it cannot be opened, ends early, is not what its name says. A single broken row is
/// handed to the sink instead.
pub(super) fn read(file: &SourceFile, progress: &dyn Progress, sink: &mut Sink) -> Result<()> {
    match file.kind {
        FileKind::Lines => lines::read(file, progress, sink),
        FileKind::Json => json::read(file, progress, sink),
        FileKind::Csv { delimiter } => csv::read(file, delimiter, progress, sink),
        FileKind::Parquet => parquet::read(file, progress, sink),
        FileKind::Text => plain::read(file, progress, sink),
    }
}

#[cfg(test)]
mod tests;
