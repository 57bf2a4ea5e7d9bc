//! From sources to a [`Dataset`]: one thread reads, all cores encode, one file is written, in the order of the rows.

use super::cache::{self, Folder, HashedFile, Meta, RowMeta, Sequences, Store, Writer};
use super::dataset::{DataFile, Dataset};
use super::encode::{Refused, RowEncoder};
use super::formats;
use super::layout::Layout;
use super::losses::Losses;
use super::media::{MediaReader, MediaTable};
use super::object::Object;
use super::options::RowFormat;
use super::row::Encode;
use super::source::{self, Chunk, FindHub, Sink, SourceFile};
use super::spec::DataSpec;
use super::survey::survey;
use super::tally::Tally;
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use crate::text::{MediaKind, Tokenized};
use rayon::prelude::*;
use serde_json::Value;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts up whenever this room makes other rows of the same files: part of the cache's key.
const PREPARATION_VERSION: u32 = 11;

/// Chunks that are encoded at a time, per core: enough that no core waits long for the slowest.
const CHUNKS_PER_CORE: usize = 4;

/// Text that is encoded at a time, unless one chunk alone is larger: keeps the memory of many cores bounded.
const WAVE_BYTES: usize = 64 << 20;

/// Reads, encodes and checks all rows of `spec`, or finds them in `cache_dir` if that was done before for the same
/// content. Memory stays bounded whatever the size of the data: only the index (under 50 bytes per row) is held.
///
/// # Errors
/// [`Kind::Recipe`] for impossible values, [`Kind::Data`] for broken files, for rows that may not be skipped (the first
/// ones, each with file and row, and their number), when no rows are left, and when no stop token would be learnt.
pub fn prepare(
    spec: &DataSpec,
    encoder: &dyn Encode,
    cache_dir: &Path,
    find_hub: &FindHub,
    progress: &dyn Progress,
) -> Result<Dataset> {
    spec.check()?;
    let (files, layouts) = laid_out(spec, find_hub, progress)?;
    let folder = Folder::open(cache_dir)?;
    let paths: Vec<Arc<Path>> = files.iter().map(|file| file.path.clone()).collect();
    let hashed = cache::hash_files(&paths, &folder.hashes(), progress)?;
    let key = key(spec, encoder, &files, &layouts, &hashed);
    let path = folder.rows(&key);

    let lock = folder.lock(&key);
    let found = if path.exists() { Store::open(&path, &key, progress).ok() } else { None };
    let found = found.filter(|store| store.meta.media.iter().all(|origin| origin.is_there(cache_dir)));
    let from_cache = found.is_some();
    let store = match found {
        Some(store) => store,
        None => {
            let (stop_tokens, layouts) = (encoder.stop_tokens(), &layouts[..]);
            let media = MediaReader::new(&spec.media, cache_dir);
            let (hashed, remarks) = (&hashed[..], Mutex::default());
            let job = Job { spec, encoder, stop_tokens, files: &files, layouts, hashed, media, remarks, progress };
            job.write(&path, &key)?;
            Store::open(&path, &key, progress)?
        }
    };
    drop(lock);
    for (file, remark) in &store.meta.remarks {
        let path = files.get(*file as usize).map(|file| file.path.display().to_string()).unwrap_or_default();
        progress.note(&format!("{path}: {remark}"));
    }

    let place = |(file, row): (u32, u32)| {
        let path = files.get(file as usize)?.path.to_path_buf();
        Some(Place::Row { path, row: row as usize })
    };
    let media = MediaTable::new(&store.meta.media, cache_dir, place);
    let files = files
        .iter()
        .zip(layouts)
        .zip(hashed)
        .map(|((file, layout), hashed)| DataFile {
            path: hashed.path,
            blake3: hashed.blake3,
            source: file.source,
            layout,
        })
        .collect();
    Dataset::new(store, files, &spec.sources, spec.max_length, from_cache, media)
}

/// Looks at the files of `spec` and the columns of their first rows, without a model.
///
/// # Errors
/// When a file cannot be read, or its columns fit no format.
pub fn check_files(spec: &DataSpec, find_hub: &FindHub, progress: &dyn Progress) -> Result<()> {
    laid_out(spec, find_hub, progress).map(|_| ())
}

/// The files of `spec`, and how the rows of each are read.
pub(super) fn laid_out(
    spec: &DataSpec,
    find_hub: &FindHub,
    progress: &dyn Progress,
) -> Result<(Vec<SourceFile>, Vec<Layout>)> {
    let mut files = source::resolve(spec.key, &spec.sources, find_hub)?;
    for file in &files {
        file.notes.iter().for_each(|note| progress.note(&format!("{} {note}", file.path.display())));
    }
    let layouts = survey(spec, &files, progress)?;
    spec.check_on_long(&layouts)?;
    for (file, layout) in files.iter_mut().zip(&layouts) {
        file.columns = layout.read_columns().map(Into::into);
    }
    Ok((files, layouts))
}

/// The name of the prepared rows: everything that decides their bytes. Paths and weights do not.
fn key(
    spec: &DataSpec,
    encoder: &dyn Encode,
    files: &[SourceFile],
    layouts: &[Layout],
    hashed: &[HashedFile],
) -> String {
    let files: Vec<_> = files
        .iter()
        .zip(layouts)
        .zip(hashed)
        .map(|((file, layout), hashed)| (&hashed.blake3, layout, format!("{:?}", file.contents)))
        .collect();
    let mut facts = serde_json::json!({
        "version": (env!("CARGO_PKG_VERSION"), PREPARATION_VERSION),
        "encoder": (encoder.fingerprint(), encoder.stop_tokens()),
        "files": files,
        "options": (spec.max_length, spec.on_long, spec.on_bad_row, spec.max_row_bytes),
    });
    if spec.with_eos {
        facts["eos"] = encoder.eos().into();
    }
    if spec.unpair {
        facts["unpair"] = true.into();
    }
    if spec.media.is_of_media() {
        // Paths in rows are relative to their file.
        let folder = |file: &HashedFile| format!("{:?}", file.path.parent().map(std::path::absolute));
        let folders: Vec<_> = hashed.iter().map(folder).collect();
        facts["media"] = serde_json::json!((spec.media.fingerprint(), folders));
    }
    blake3::hash(facts.to_string().as_bytes()).to_hex()[..32].to_owned()
}

/// Preparing anew.
struct Job<'a> {
    spec: &'a DataSpec,
    encoder: &'a dyn Encode,
    stop_tokens: Vec<u32>,
    files: &'a [SourceFile],
    layouts: &'a [Layout],
    hashed: &'a [HashedFile],
    /// What is to be said of the rows of a file, also when they come from the cache.
    remarks: Mutex<Vec<(u32, String)>>,
    media: MediaReader<'a>,
    progress: &'a dyn Progress,
}

/// The rows of a chunk, encoded.
#[derive(Default)]
struct Encoded {
    file: usize,
    records: Vec<u8>,
    rows: Vec<RowMeta>,
    rows_with_stop: u64,
    sequences: Sequences,
    losses: Losses,
    refused: Vec<(u32, Refused)>,
}

impl Job<'_> {
    /// Writes the cache file.
    fn write(self, path: &Path, key: &str) -> Result<()> {
        // The writer of atomic files speaks io::Error: ours is kept aside.
        let mut failure = None;
        let written = atomic::write_with(path, |writer| {
            self.write_into(writer, path, key).map_err(|e| {
                failure = Some(e);
                io::Error::other("the data could not be prepared")
            })
        });
        match failure {
            Some(error) => Err(error),
            None => written,
        }
    }

    fn write_into(self, writer: impl Write, path: &Path, key: &str) -> Result<()> {
        let failed = |e| Error::io("writing prepared data", path, e);
        let mut writer = Writer::new(writer).map_err(failed)?;
        let mut tally = Tally::new(self.spec, self.files, self.layouts);
        let mut sequences = Sequences::default();
        let total = self.hashed.iter().map(HashedFile::size_bytes).sum();
        self.progress.start("preparing data", Some(total), "bytes");
        let encoded = self.each_encoded(|mut encoded| {
            for (row, refused) in std::mem::take(&mut encoded.refused) {
                tally.refuse(encoded.file, row, refused);
            }
            tally.accept(encoded.file, encoded.rows.len(), encoded.rows_with_stop, &encoded.losses);
            sequences.extend(&encoded.sequences);
            writer.push(&encoded.records, &encoded.rows).map_err(failed)?;
            Ok(if tally.hopeless() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        self.progress.finish();
        encoded?;
        atomic::nothing_was_refused()?; // or it would be a row that cannot be used
        for file in self.hashed {
            file.check_unchanged()?;
        }
        if u32::try_from(writer.len()).is_err() {
            let what = format!("{} rows are more than a data set can hold", writer.len());
            return Err(Error::new(Kind::Data, what));
        }
        let facts = tally.finish()?;
        let files = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let media = self.media.into_origins();
        let remarks = std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner));
        writer.finish(&Meta { key: key.to_owned(), files, media, remarks, sequences, ..facts }).map_err(failed)
    }

    /// Calls `each` with every encoded chunk, in order, while the next ones are read.
    fn each_encoded(&self, mut each: impl FnMut(Encoded) -> Result<ControlFlow<()>>) -> Result<()> {
        let wave_chunks = rayon::current_num_threads().max(1) * CHUNKS_PER_CORE;
        std::thread::scope(|scope| {
            // Dropped when this closure returns, which ends the reader in mid-file.
            let (sender, receiver) = sync_channel(wave_chunks);
            std::thread::Builder::new()
                .spawn_scoped(scope, move || self.read_all(&sender))
                .map_err(|e| Error::new(Kind::Run, format!("a thread cannot be started: {e}")).caused_by(e))?;
            loop {
                let wave = next_wave(&receiver, wave_chunks)?;
                if wave.is_empty() {
                    return Ok(());
                }
                let encoded: Vec<Result<Encoded>> = wave.into_par_iter().map(|chunk| self.encode(chunk)).collect();
                for encoded in encoded {
                    if each(encoded?)?.is_break() {
                        return Ok(());
                    }
                }
            }
        })
    }

    fn read_all(&self, sender: &SyncSender<Result<Chunk>>) {
        for (index, file) in self.files.iter().enumerate() {
            let mut stopped = false;
            let mut emit = |chunk| {
                stopped = sender.send(Ok(chunk)).is_err();
                if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let mut sink = Sink::new(index, self.spec.max_row_bytes, &mut emit);
            let read = source::read(file, self.progress, &mut sink);
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let said = sink.into_remarks().into_iter().map(|remark| (index, remark));
            self.remarks.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
            if let Err(error) = read {
                let _ = sender.send(Err(error.or_at(Place::Path(file.path.to_path_buf()))));
                return;
            }
            if stopped {
                return;
            }
        }
    }

    fn encode(&self, chunk: Chunk) -> Result<Encoded> {
        let spec = self.spec;
        let rows = RowEncoder {
            encoder: self.encoder,
            stop_tokens: &self.stop_tokens,
            max_length: spec.max_length,
            on_long: spec.on_long,
            eos: self.encoder.eos().filter(|_| spec.with_eos),
            unpair: spec.unpair,
            media: &self.media,
            folder: self.files[chunk.file].path.parent().unwrap_or(Path::new("")),
            file: u32::try_from(chunk.file).unwrap_or(u32::MAX),
        };
        let mut encoded = Encoded { file: chunk.file, ..Encoded::default() };
        let (file, layout) = (&self.files[chunk.file], &self.layouts[chunk.file]);
        let file_index = rows.file;
        let columns = chunk.columns.clone();
        let decoded = chunk.decode(|row, object| {
            if let Ok(object) = &object {
                unused(object, columns.as_deref(), layout, &mut encoded.losses);
            }
            let (records_before, rows_before) = (encoded.records.len(), encoded.rows.len());
            let mut sequences = Sequences::default();
            let mut keep = |tokens: Tokenized| {
                sequences.add(&tokens);
                let offset = encoded.records.len() as u64;
                let record = cache::encode(&tokens, &mut encoded.records);
                encoded.rows.push(RowMeta {
                    offset,
                    hash: record.hash,
                    length: record.length,
                    supervised: u32::try_from(tokens.supervised()).unwrap_or(u32::MAX),
                    row,
                    file: RowMeta::file_and_mark(file_index, tokens.truncated),
                });
            };
            match rows.encode(layout, (row, object), columns.as_deref(), &mut keep) {
                Ok(usable) => {
                    encoded.rows_with_stop += u64::from(usable.stops);
                    encoded.sequences.extend(&sequences);
                    if usable.is_empty {
                        encoded.losses.empty.add(file_index, row, u64::from(usable.supervised));
                    }
                    if usable.is_rejected_empty {
                        encoded.losses.empty_rejected.add(file_index, row, 0);
                    }
                    if usable.is_word_for_nothing {
                        encoded.losses.words_for_nothing.add(file_index, row, 0);
                    }
                    if usable.is_unasked {
                        encoded.losses.unasked.add(file_index, row, 0);
                    }
                    if usable.noticed.control_words {
                        encoded.losses.control_words.add(file_index, row, 0);
                    }
                    if usable.noticed.ends {
                        encoded.losses.ends.add(file_index, row, 0);
                    }
                    if usable.noticed.placeholders {
                        encoded.losses.placeholders.add(file_index, row, 0);
                    }
                    if usable.cut_sound_ms > 0 {
                        encoded.losses.cut_sounds.add(file_index, row, 0);
                        encoded.losses.cut_sound_ms += usable.cut_sound_ms;
                    }
                    if usable.split_sound_ms > 0 {
                        encoded.losses.split_sounds.add(file_index, row, 0);
                        encoded.losses.split_sound_ms += usable.split_sound_ms;
                    }
                    if usable.cut > 0 {
                        encoded.losses.truncated.add(file_index, row, usable.cut);
                    }
                    let pieces = encoded.rows.len() - rows_before;
                    // The answers of a pair that are rows of their own are whole.
                    if pieces > 1 && !spec.unpair {
                        encoded.losses.split.add(file_index, row, usable.length as u64);
                        encoded.losses.pieces += pieces as u64;
                    }
                }
                Err(refused) => {
                    encoded.records.truncate(records_before);
                    encoded.rows.truncate(rows_before);
                    encoded.refused.push((row, refused));
                }
            }
        });
        decoded.map_err(|e| e.or_at(Place::Path(file.path.to_path_buf())))?;
        Ok(encoded)
    }
}

/// Whether something is made of this column of a row.
fn reads(row: &Object, layout: &Layout, column: &str) -> bool {
    let names_medium =
        |value: &Value| value.as_str().is_some_and(|name| MediaKind::of_file_name(name.trim()).is_some());
    layout.reads(column)
        && (column != layout.column("file_name") || row.get(column).is_none_or(|v| v.is_null() || names_medium(v)))
}

/// Counts the columns of a row that its layout does not read.
fn unused(row: &Object, of_file: Option<&[String]>, layout: &Layout, losses: &mut Losses) {
    // Where nothing is known of the columns, each row is looked at by itself.
    if layout.format == RowFormat::Auto {
        return;
    }
    formats::unused_in_turns(row, layout).iter().for_each(|key| losses.not_used(key, 1));
    let names = || row.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
    match of_file {
        Some(columns) => columns.iter().filter(|c| !reads(row, layout, c)).for_each(|c| losses.not_used(c, 1)),
        None => names().filter(|name| !reads(row, layout, name)).for_each(|name| losses.not_used(name, 1)),
    }
}

/// The chunks that are ready, at least one unless all have been read.
fn next_wave(receiver: &Receiver<Result<Chunk>>, most: usize) -> Result<Vec<Chunk>> {
    let mut wave = Vec::new();
    let mut bytes = 0;
    let mut next = receiver.recv().ok();
    while let Some(chunk) = next {
        let chunk = chunk?;
        bytes += chunk.bytes();
        wave.push(chunk);
        next = if wave.len() < most && bytes < WAVE_BYTES { receiver.try_recv().ok() } else { None };
    }
    Ok(wave)
}

#[cfg(test)]
mod tests;
