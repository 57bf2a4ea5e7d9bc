//! The cache file: records, then an index with a line per row, then facts about the whole as JSON, then a fixed tail.
//!
//! ```text
//! MAGIC  record record ..  index (32 bytes per row)  meta (JSON)  tail
//! tail: rows u64, meta bytes u64, blake3 of index+meta+sizes, MAGIC
//! ```

use super::record;
use crate::data::encode::SkipReason;
use crate::data::losses::Losses;
use crate::data::media::MediaOrigin;
use crate::data::pairs::PairLengths;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::text::{IGNORE_INDEX, Tokenized};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Begins and ends the file; its last byte is the format's version.
const MAGIC: [u8; 8] = *b"gtrows\0\x02";
const INDEX_BYTES: u64 = 32;
const TAIL_BYTES: u64 = 8 + 8 + 32 + 8;
/// How much of the index or of the records is read at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// A row's line in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowMeta {
    /// Where its record starts, from the start of the file.
    pub offset: u64,
    /// Hash of its record.
    pub hash: u64,
    /// Tokens.
    pub length: u32,
    /// Tokens with a loss.
    pub supervised: u32,
    /// Its number in its file.
    pub row: u32,
    /// Index of its file; the top bit says that it was truncated.
    pub file: u32,
}

impl RowMeta {
    const TRUNCATED: u32 = 1 << 31;

    /// `file` with the mark for a truncated row.
    pub fn file_and_mark(file: u32, truncated: bool) -> u32 {
        if truncated { file | Self::TRUNCATED } else { file }
    }

    /// The index of its file.
    pub fn file_index(&self) -> usize {
        (self.file & !Self::TRUNCATED) as usize
    }

    /// Whether its end was cut off.
    pub fn truncated(&self) -> bool {
        self.file & Self::TRUNCATED != 0
    }

    fn to_bytes(self) -> [u8; INDEX_BYTES as usize] {
        let mut bytes = [0; INDEX_BYTES as usize];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.hash.to_le_bytes());
        for (i, word) in [self.length, self.supervised, self.row, self.file].into_iter().enumerate() {
            bytes[16 + 4 * i..20 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        RowMeta {
            offset: long(0),
            hash: long(8),
            length: word(16),
            supervised: word(20),
            row: word(24),
            file: word(28),
        }
    }
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedRow {
    pub file: u32,
    pub row: u32,
    pub reason: SkipReason,
    pub why: String,
}

/// What the sequences of rows are: of a pair there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Sequences {
    /// Tokens of the longest.
    pub longest: u32,
    /// Good answers, of those that are judged.
    pub desirable: u64,
    /// Bad answers.
    pub undesirable: u64,
    /// The answers of pairs.
    pub pairs: PairLengths,
}

impl Sequences {
    /// Takes a row.
    pub fn add(&mut self, row: &Tokenized) {
        let learnt = |labels: &[i32]| labels.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count();
        let (first, second) = row.labels.split_at(row.first_tokens().min(row.labels.len()));
        let longest = u32::try_from(first.len().max(second.len())).unwrap_or(u32::MAX);
        self.longest = self.longest.max(longest);
        self.desirable += u64::from(row.desirable == Some(true));
        self.undesirable += u64::from(row.desirable == Some(false));
        if row.second.is_some() {
            self.pairs.add(learnt(first), learnt(second));
        }
    }

    /// Takes those of other rows.
    pub fn extend(&mut self, other: &Sequences) {
        self.longest = self.longest.max(other.longest);
        self.desirable += other.desirable;
        self.undesirable += other.undesirable;
        self.pairs.extend(&other.pairs);
    }
}

/// Facts about all rows of a cache file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The name it was made under.
    pub key: String,
    /// Number of data files it was made from.
    pub files: u32,
    /// Rows with a supervised stop token.
    pub rows_with_stop: u64,
    /// What became of rows that are not there as they stand, of each source.
    pub losses: Vec<Losses>,
    /// The first rows left out.
    pub skipped_rows: Vec<SkippedRow>,
    /// What is to be said of a file's rows, with the file.
    pub remarks: Vec<(u32, String)>,
    /// Their pictures and sounds.
    #[serde(default)]
    pub media: Vec<MediaOrigin>,
    /// What its sequences are.
    #[serde(default)]
    pub sequences: Sequences,
}

/// Writes a cache file from start to end.
pub(crate) struct Writer<W> {
    writer: W,
    offset: u64,
    index: Vec<RowMeta>,
}

impl<W: Write> Writer<W> {
    /// Starts the file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(mut writer: W) -> io::Result<Self> {
        writer.write_all(&MAGIC)?;
        Ok(Writer { writer, offset: MAGIC.len() as u64, index: Vec::new() })
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Appends records; offsets in `rows` count from the start of `records`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn push(&mut self, records: &[u8], rows: &[RowMeta]) -> io::Result<()> {
        self.writer.write_all(records)?;
        self.index.extend(rows.iter().map(|row| RowMeta { offset: row.offset + self.offset, ..*row }));
        self.offset += records.len() as u64;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self, meta: &Meta) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        for row in &self.index {
            let bytes = row.to_bytes();
            hasher.update(&bytes);
            self.writer.write_all(&bytes)?;
        }
        let meta = serde_json::to_vec(meta)?;
        let mut tail = meta.clone();
        tail.extend((self.index.len() as u64).to_le_bytes());
        tail.extend((meta.len() as u64).to_le_bytes());
        let hash = hasher.update(&tail).finalize();
        self.writer.write_all(&tail)?;
        self.writer.write_all(hash.as_bytes())?;
        self.writer.write_all(&MAGIC)
    }
}

/// An open cache file. Rows are read where they are needed.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    file: File,
    index: Vec<RowMeta>,
    /// Where the records end.
    end: u64,
    pub meta: Meta,
}

impl Store {
    /// Opens the cache file at `path` and checks every byte of it.
    ///
    /// # Errors
    /// When it is missing, damaged, or was made under another key.
    pub fn open(path: &Path, key: &str, progress: &dyn Progress) -> Result<Self> {
        let store = Self::open_index(path, key).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => damaged(path, &e.to_string()),
            _ => Error::io("reading", path, e),
        })?;
        progress.start("checking prepared data", Some(store.end), "bytes");
        let checked = store.check_records(progress);
        progress.finish();
        checked.map(|()| store)
    }

    fn open_index(path: &Path, key: &str) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = [0; MAGIC.len()];
        read_at(&file, &mut head, 0)?;
        let mut tail = [0; TAIL_BYTES as usize];
        let tail_at = size.checked_sub(TAIL_BYTES).ok_or_else(|| wrong("it is too short"))?;
        read_at(&file, &mut tail, tail_at)?;
        let long = |at: usize| tail[at..at + 8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let (rows, meta_bytes) = (long(0), long(8));
        let sizes = rows.checked_mul(INDEX_BYTES).and_then(|index| {
            let meta_at = tail_at.checked_sub(meta_bytes)?;
            let end = meta_at.checked_sub(index)?;
            (end >= MAGIC.len() as u64).then_some((end, meta_at))
        });
        let (end, meta_at) = sizes
            .filter(|_| head == MAGIC && tail[48..] == MAGIC)
            .ok_or_else(|| wrong("its start or end is damaged"))?;

        let mut hasher = blake3::Hasher::new();
        let mut index = Vec::new();
        let mut block = Vec::new();
        let mut at = end;
        while at < meta_at {
            block.resize((meta_at - at).min(BLOCK_BYTES) as usize, 0);
            read_at(&file, &mut block, at)?;
            hasher.update(&block);
            index.extend(block.chunks_exact(INDEX_BYTES as usize).map(RowMeta::from_bytes));
            at += block.len() as u64;
        }
        let mut meta = vec![0; meta_bytes as usize];
        read_at(&file, &mut meta, meta_at)?;
        hasher.update(&meta).update(&tail[..16]);
        if hasher.finalize().as_bytes()[..] != tail[16..48] {
            return Err(wrong("its index is damaged"));
        }
        let meta: Meta = serde_json::from_slice(&meta).map_err(|_| wrong("its facts are damaged"))?;
        let ordered = index.windows(2).all(|pair| pair[0].offset <= pair[1].offset);
        let bounded = index.first().is_none_or(|row| row.offset == MAGIC.len() as u64)
            && index.last().is_none_or(|row| row.offset <= end)
            && index.iter().all(|row| row.file_index() < meta.files as usize);
        if !ordered || !bounded || meta.key != key {
            return Err(wrong("its index does not fit"));
        }
        Ok(Store { path: path.to_path_buf(), file, index, end, meta })
    }

    /// The index.
    pub fn rows(&self) -> &[RowMeta] {
        &self.index
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When there is no such row, or its record cannot be read or is damaged.
    pub fn get(&self, row: usize) -> Result<Tokenized> {
        let meta = self.index.get(row).ok_or_else(|| Error::new(Kind::Run, format!("there is no row {row}")))?;
        let mut bytes = vec![0; (self.end_of(row) - meta.offset) as usize];
        read_at(&self.file, &mut bytes, meta.offset).map_err(|e| Error::io("reading", &self.path, e))?;
        record::decode(&bytes, meta.length, meta.hash)
            .ok_or_else(|| damaged(&self.path, &format!("row {row} has changed since it was written")))
    }

    fn end_of(&self, row: usize) -> u64 {
        self.index.get(row + 1).map_or(self.end, |next| next.offset)
    }

    fn check_records(&self, progress: &dyn Progress) -> Result<()> {
        // Neighbouring rows in blocks, each read at once.
        let mut blocks = Vec::new();
        let mut start = 0;
        for row in 0..self.index.len() {
            if self.end_of(row) - self.index[start].offset >= BLOCK_BYTES || row + 1 == self.index.len() {
                blocks.push(start..row + 1);
                start = row + 1;
            }
        }
        blocks.into_par_iter().try_for_each(|rows| {
            let (first, last) = (self.index[rows.start].offset, self.end_of(rows.end - 1));
            let mut bytes = vec![0; (last - first) as usize];
            read_at(&self.file, &mut bytes, first).map_err(|e| Error::io("reading", &self.path, e))?;
            for row in rows {
                let record = (self.index[row].offset - first) as usize..(self.end_of(row) - first) as usize;
                if record::hash(&bytes[record]) != self.index[row].hash {
                    return Err(damaged(&self.path, &format!("row {row} is damaged")));
                }
            }
            progress.advance(last - first);
            Ok(())
        })
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Kind::Data, format!("the prepared data is damaged: {why}"))
        .at(Place::Path(path.to_path_buf()))
        .hint("run again: it is then prepared anew")
}

/// Fills `buffer` from `offset`, without a cursor that threads would have to share.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from `offset`, without a cursor that threads would have to share.
#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
