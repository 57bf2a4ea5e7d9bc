//! Opening a text file: counting, decompressing, decoding, byte-order marks.

use super::contents::{Compression, Contents, SourceFile};
use super::encoding::{Damaged, Decoder, Encoding};
use crate::error::{Error, Kind, Place, Result};
use crate::input;
use crate::progress::Progress;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

const BUFFER_BYTES: usize = 256 << 10;

/// Opens `file` as plain UTF-8 bytes: decompressed, decoded, without a byte-order mark.
///
/// # Errors
/// When it cannot be opened, its compressed start is broken, or it is UTF-16 where that is not read.
pub(super) fn open<'a>(file: &SourceFile, progress: &'a dyn Progress) -> Result<Box<dyn BufRead + 'a>> {
    let Contents { compression, encoding, .. } = file.contents;
    let mut reader = bytes(&file.path, compression, progress)?;
    let start = reader.fill_buf().map_err(|e| failed(file, 1, e))?;
    let is_utf16 = start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]);
    match encoding {
        Encoding::Utf8 if is_utf16 => Err(Error::new(Kind::Data, "the file is UTF-16, not UTF-8")
            .at(Place::Path(file.path.to_path_buf()))
            .hint("save it as UTF-8")),
        Encoding::Utf8 => {
            if start.starts_with(&[0xEF, 0xBB, 0xBF]) {
                reader.consume(3);
            }
            Ok(reader)
        }
        Encoding::Utf16Le | Encoding::Utf16Be | Encoding::Windows1252 => {
            if is_utf16 && encoding != Encoding::Windows1252 {
                reader.consume(2);
            }
            Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, Decoder::new(reader, encoding))))
        }
    }
}

/// Opens the file at `path` as the bytes that were compressed.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn bytes<'a>(
    path: &Path,
    compression: Compression,
    progress: &'a dyn Progress,
) -> Result<Box<dyn BufRead + 'a>> {
    let inner: Box<dyn Read> = match input::is_stdin(path) {
        true => input::open_stdin(path).map_err(|e| Error::io("opening", path, e))?,
        false => Box::new(input::open_named(path, Kind::Data)?),
    };
    let counted = Counted { inner, progress };
    Ok(match compression {
        Compression::None => Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)),
        Compression::Gzip => {
            let compressed = BufReader::with_capacity(BUFFER_BYTES, counted);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(compressed)))
        }
        Compression::Zstd => {
            let decoder = zstd::Decoder::new(counted).map_err(|e| Error::io("reading", path, e))?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    })
}

/// A failure to read `file` at `row`: damaged compressed data is told apart from a failing disk.
pub(super) fn failed(file: &SourceFile, row: u32, source: io::Error) -> Error {
    let place = Place::Row { path: file.path.to_path_buf(), row: row as usize };
    if let Some(damaged) = source.get_ref().and_then(|inner| inner.downcast_ref::<Damaged>()) {
        let what = format!("the file's text is damaged: {damaged}");
        return Error::new(Kind::Data, what).at(place).hint("save the file as UTF-8");
    }
    failed_at(&file.path, file.contents.compression, source).at(place)
}

/// As [`failed`], at a place that the caller knows.
pub(super) fn failed_at(path: &Path, compression: Compression, source: io::Error) -> Error {
    let name = match compression {
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
            Error::new(Kind::Data, what).hint("copy or download the file again").caused_by(source)
        }
        _ => Error::io("reading", path, source),
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
