//! Opening a text file: counting, decompressing, byte-order marks.

use super::{Compression, SourceFile};
use crate::error::{Error, Kind, Place, Result};
use crate::progress::Progress;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

const BUFFER_BYTES: usize = 256 << 10;

/// Opens `file` as plain UTF-8 bytes: decompressed, without a byte-order mark.
///
/// # Errors
/// When it cannot be opened, its compressed start is broken, or it is UTF-16.
pub(super) fn open<'a>(file: &SourceFile, progress: &'a dyn Progress) -> Result<Box<dyn BufRead + 'a>> {
    let opened = File::open(&file.path).map_err(|e| Error::io("opening", &file.path, e))?;
    let counted = Counted { inner: opened, progress };
    let mut reader: Box<dyn BufRead + 'a> = match file.compression {
        Compression::None => Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)),
        Compression::Gzip => {
            let compressed = BufReader::with_capacity(BUFFER_BYTES, counted);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(compressed)))
        }
        Compression::Zstd => {
            let decoder = zstd::Decoder::new(counted).map_err(|e| failed(file, 1, e))?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    };
    let start = reader.fill_buf().map_err(|e| failed(file, 1, e))?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        return Err(Error::new(Kind::Data, "the file is UTF-16, not UTF-8")
            .at(Place::Path(file.path.to_path_buf()))
            .hint("save it as UTF-8"));
    }
    if start.starts_with(&[0xEF, 0xBB, 0xBF]) {
        reader.consume(3);
    }
    Ok(reader)
}

/// A failure to read `file` at `row`: damaged compressed data is told apart from a failing disk.
pub(super) fn failed(file: &SourceFile, row: u32, source: io::Error) -> Error {
    let place = Place::Row { path: file.path.to_path_buf(), row: row as usize };
    let name = match file.compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    };
    // A system call's failure has an OS error code, a decoder's complaint has none.
    match name {
        Some(name) if source.raw_os_error().is_none() => {
            let what = if source.kind() == io::ErrorKind::UnexpectedEof {
                format!("the file ends in the middle of its {name} data")
            } else {
                format!("the file's {name} data is damaged: {source}")
            };
            Error::new(Kind::Data, what).at(place).hint("copy or download the file again").caused_by(source)
        }
        _ => Error::io("reading", &file.path, source).at(place),
    }
}

/// Reports the bytes read from a file, before decompression.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}
