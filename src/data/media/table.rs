//! Where the pictures and sounds of prepared rows are found again, by what they show.

use super::rules::{MediaRules, Outcome, Prepared};
use crate::data::cache::{Stamp, kept_media};
use crate::error::{Error, Kind, Result};
use crate::text::MediaKind;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A picture or sound of some rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::data) struct MediaOrigin {
    /// BLAKE3 of its bytes, in hexadecimal.
    pub content: String,
    /// Whether it is a sound.
    pub is_audio: bool,
    /// What it becomes.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Its file; none where its bytes stood in the row, and are kept beside the prepared rows.
    pub file: Option<(PathBuf, Stamp)>,
}

impl MediaOrigin {
    /// What it shows.
    pub fn kind(&self) -> MediaKind {
        if self.is_audio { MediaKind::Audio } else { MediaKind::Image }
    }

    /// Whether its bytes are where they were, and unchanged as far as can be seen without reading them.
    pub fn is_there(&self, cache: &Path) -> bool {
        match &self.file {
            Some((path, stamp)) => Stamp::of(path).is_ok_and(|(now, _)| now == *stamp),
            None => kept_media(cache, &self.content).exists(),
        }
    }
}

/// The contents of the pieces of a medium whose bytes have this hash.
pub(super) fn contents(hash: &blake3::Hash, pieces: usize) -> Vec<[u8; 32]> {
    let piece = |i: usize| match i {
        0 => *hash.as_bytes(),
        _ => *blake3::Hasher::new().update(hash.as_bytes()).update(&(i as u64).to_le_bytes()).finalize().as_bytes(),
    };
    (0..pieces).map(piece).collect()
}

/// The pictures and sounds of prepared rows.
#[derive(Debug, Default)]
pub struct MediaTable {
    origins: Vec<MediaOrigin>,
    /// By the contents of their pieces: which, and which piece.
    pieces: HashMap<[u8; 32], (usize, usize)>,
    cache: PathBuf,
}

impl MediaTable {
    /// A table of these, some of whose bytes are kept in the folder `cache`.
    pub(in crate::data) fn new(origins: &[MediaOrigin], cache: &Path) -> Self {
        let mut pieces = HashMap::new();
        for (at, origin) in origins.iter().enumerate() {
            let Ok(hash) = blake3::Hash::from_hex(&origin.content) else { continue };
            pieces.extend(
                contents(&hash, origin.outcome.pieces).into_iter().enumerate().map(|(i, piece)| (piece, (at, i))),
            );
        }
        MediaTable { origins: origins.to_vec(), pieces, cache: cache.to_path_buf() }
    }

    /// Different pictures and sounds of this kind.
    pub fn count(&self, kind: MediaKind) -> usize {
        self.origins.iter().filter(|origin| origin.kind() == kind).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// The contents of all pieces of each picture and sound, in the order of the rows.
    pub fn contents(&self) -> Vec<Vec<[u8; 32]>> {
        let of = |origin: &MediaOrigin| {
            let hash = blake3::Hash::from_hex(&origin.content);
            hash.map(|hash| contents(&hash, origin.outcome.pieces)).unwrap_or_default()
        };
        self.origins.iter().map(of).collect()
    }

    /// The kind of the medium that a piece belongs to.
    ///
    /// # Errors
    /// When no row has it.
    pub fn kind(&self, content: &[u8; 32]) -> Result<MediaKind> {
        Ok(self.find(content)?.0.kind())
    }

    /// Which piece of its medium a piece is, 0 for the first.
    ///
    /// # Errors
    /// When no row has it.
    pub fn number(&self, content: &[u8; 32]) -> Result<usize> {
        Ok(self.find(content)?.1)
    }

    /// How people find the medium that a piece belongs to.
    pub fn name(&self, content: &[u8; 32]) -> String {
        match self.find(content) {
            Ok((MediaOrigin { file: Some((path, _)), .. }, _)) => path.display().to_string(),
            _ => "bytes of a row".into(),
        }
    }

    /// Reads and prepares all pieces of the medium that a piece belongs to, whole first.
    ///
    /// # Errors
    /// When its bytes cannot be read, or are others than when the rows were prepared.
    pub fn prepare(&self, content: &[u8; 32], rules: &MediaRules) -> Result<Vec<Prepared>> {
        let (origin, _) = self.find(content)?;
        let path = match &origin.file {
            Some((path, _)) => path.clone(),
            None => kept_media(&self.cache, &origin.content),
        };
        let bytes = std::fs::read(&path).map_err(|e| Error::io("reading", &path, e))?;
        if blake3::hash(&bytes).to_hex().as_str() != origin.content {
            return Err(Error::new(Kind::Data, "the file changed since the rows were prepared")
                .at_path(&path)
                .hint("run again, and they are prepared anew"));
        }
        rules.prepare(origin.kind(), &bytes).map_err(|e| e.or_at(crate::error::Place::Path(path)))
    }

    /// Reads and prepares one piece.
    ///
    /// # Errors
    /// As [`MediaTable::prepare`].
    pub fn prepare_piece(&self, content: &[u8; 32], rules: &MediaRules) -> Result<Prepared> {
        let (_, piece) = self.find(content)?;
        let mut all = self.prepare(content, rules)?;
        match piece < all.len() {
            true => Ok(all.swap_remove(piece)),
            false => Err(unknown()),
        }
    }

    fn find(&self, content: &[u8; 32]) -> Result<(&MediaOrigin, usize)> {
        let &(at, piece) = self.pieces.get(content).ok_or_else(unknown)?;
        Ok((&self.origins[at], piece))
    }
}

fn unknown() -> Error {
    Error::new(Kind::Run, "a row shows a picture or sound that the prepared data does not know")
}
