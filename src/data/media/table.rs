//! Where the pictures and sounds of prepared rows are found again, by what they show.

use super::rules::{MediaRules, Outcome, Prepared};
use crate::atomic;
use crate::data::cache::{Stamp, kept_media};
use crate::error::{Error, Kind, Place, Result};
use crate::text::MediaKind;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
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
    /// The first row that shows it.
    pub shown: ShownBy,
}

/// A row that shows a picture or sound: its data file among those that are read together, and its number in it.
pub(in crate::data) type ShownBy = (u32, u32);

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
    /// Where the first row that shows each of them is.
    places: Vec<Option<Place>>,
    /// By the contents of their pieces: which, and which piece.
    pieces: HashMap<[u8; 32], (usize, usize)>,
    cache: PathBuf,
}

impl MediaTable {
    /// A table of these, some of whose bytes are kept in the folder `cache`; `place` knows where rows are.
    pub(in crate::data) fn new(
        origins: &[MediaOrigin],
        cache: &Path,
        place: impl Fn(ShownBy) -> Option<Place>,
    ) -> Self {
        let mut pieces = HashMap::new();
        for (at, origin) in origins.iter().enumerate() {
            let Ok(hash) = blake3::Hash::from_hex(&origin.content) else { continue };
            pieces.extend(
                contents(&hash, origin.outcome.pieces).into_iter().enumerate().map(|(i, piece)| (piece, (at, i))),
            );
        }
        let places = origins.iter().map(|origin| place(origin.shown)).collect();
        MediaTable { origins: origins.to_vec(), places, pieces, cache: cache.to_path_buf() }
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
        Ok(self.origins[self.find(content)?.0].kind())
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
        match self.find(content).ok().and_then(|(at, _)| self.origins[at].file.as_ref()) {
            Some((path, _)) => path.display().to_string(),
            None => "bytes of a row".into(),
        }
    }

    /// Reads and prepares all pieces of the medium that a piece belongs to, whole first.
    ///
    /// # Errors
    /// When its bytes cannot be read, or are others than when the rows were prepared: with the first row that shows it.
    pub fn prepare(&self, content: &[u8; 32], rules: &MediaRules) -> Result<Vec<Prepared>> {
        let (at, _) = self.find(content)?;
        let origin = &self.origins[at];
        let (path, what) = match &origin.file {
            Some((path, _)) => (path.clone(), format!("`{}`", path.display())),
            None => {
                let path = kept_media(&self.cache, &origin.content);
                let what = format!("what was kept of the row's {} as `{}`", origin.kind().name(), path.display());
                (path, what)
            }
        };
        let place = || self.places[at].clone().unwrap_or_else(|| Place::Path(path.clone()));
        atomic::may_read(&path)?;
        let bytes = std::fs::read(&path).map_err(|e| {
            let kind = Error::io("reading", &path, io::Error::from(e.kind())).kind();
            Error::new(kind, format!("{what} cannot be read any more: {e}")).at(place()).caused_by(e).hint(match origin
                .file
            {
                Some(_) => "it could when the rows were prepared: put it back as it was",
                None => "run again, and the rows are prepared anew",
            })
        })?;
        if blake3::hash(&bytes).to_hex().as_str() != origin.content {
            return Err(Error::new(Kind::Data, format!("{what} changed since the rows were prepared"))
                .at(place())
                .hint("run again, and they are prepared anew"));
        }
        rules.prepare(origin.kind(), &bytes).map_err(|e| e.or_at(place()))
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

    /// Which of its media a piece belongs to, and which piece of it that is.
    fn find(&self, content: &[u8; 32]) -> Result<(usize, usize)> {
        self.pieces.get(content).copied().ok_or_else(unknown)
    }
}

fn unknown() -> Error {
    Error::new(Kind::Run, "a row shows a picture or sound that the prepared data does not know")
}
