//! A whole data file of any kind at once.

use super::contents::SourceFile;
use super::resolve::look_at;
use super::{Chunk, Sink, read};
use crate::data::object::Object;
use crate::error::Result;
use crate::progress::Silent;
use std::ops::ControlFlow;
use std::path::Path;

/// The rows of a data file of any kind, each with its number, or what is wrong with it. Of columns that no format of rows
/// knows, those named in `columns` are read.
///
/// # Errors
/// When the file is none that can be read, or is broken as a whole.
pub fn read_any(path: &Path, columns: &[&str], max_row_bytes: usize) -> Result<Vec<(usize, Result<Object>)>> {
    let contents = look_at(path)?.contents;
    let renamed = columns.iter().map(|column| (*column).to_owned()).collect();
    let file = SourceFile { path: path.into(), contents, columns: None, renamed, source: 0, notes: Vec::new() };
    let mut rows = Vec::new();
    let mut undecoded = Ok(());
    let mut emit = |chunk: Chunk| {
        undecoded = chunk.decode(|number, row| rows.push((number as usize, row)));
        if undecoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    read(&file, &Silent, &mut Sink::new(0, max_row_bytes, &mut emit))?;
    undecoded?;
    Ok(rows)
}
