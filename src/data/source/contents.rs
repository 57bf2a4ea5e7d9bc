//! A file of a source, and what it is read as.

use super::encoding::Encoding;
use crate::data::formats::may_mean;
use std::path::Path;
use std::sync::Arc;

/// What is inside a data file, from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// One JSON object per line.
    Lines,
    /// A JSON list of objects, an object with such a list as `data`, or objects one after the other.
    Json,
    /// A header and records.
    Csv {
        /// What separates fields.
        delimiter: u8,
    },
    /// Parquet.
    Parquet,
    /// Plain text: the whole file is one row.
    Text,
    /// Arrow, as a stream or as a file.
    Arrow,
}

/// How a data file is compressed as a whole, from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// One file of a source.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub path: Arc<Path>,
    /// What it is read as.
    pub contents: Contents,
    /// The columns to read, where a file can leave others out; `None`: all that can mean something.
    pub columns: Option<Arc<[String]>>,
    /// Columns that mean something because the user says so.
    pub renamed: Arc<[String]>,
    /// Index of its source in the spec.
    pub source: usize,
    /// Where it is not what its name says, or was guessed: what it is read as.
    pub notes: Vec<String>,
}

impl SourceFile {
    /// Whether the column `name` is to be read.
    pub fn wants(&self, name: &str) -> bool {
        let among = |columns: &[String]| columns.iter().any(|column| column == name);
        self.columns.as_ref().map_or_else(|| may_mean(name) || among(&self.renamed), |columns| among(columns))
    }
}

/// What a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub kind: FileKind,
    pub compression: Compression,
    pub encoding: Encoding,
}
