//! Pictures and sounds in a row: what stands for them in a conversation, and where they stand among its tokens.

use std::ops::Range;
use std::sync::Arc;

/// A picture or sound of a row that is not yet among its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Medium {
    /// What it shows.
    pub kind: MediaKind,
    /// Where its bytes are.
    pub source: MediaSource,
    /// What [`MediaRange::content`] of each of its pieces will be: a picture and its crops, a sound and what follows it. None
    /// until somebody has looked at it.
    pub pieces: Vec<[u8; 32]>,
}

/// Where the bytes of a picture or sound are.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaSource {
    /// In a file, as the row names it.
    Path(String),
    /// In the row itself.
    Bytes(Arc<[u8]>),
    /// The next of what the row lists beside its messages.
    Listed,
}

impl MediaSource {
    /// Whether what is to name a file is an address on the web, of which nothing is fetched.
    pub fn is_on_web(name: &str) -> bool {
        ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme))
    }
}

/// The soft tokens of one picture or sound: a run of placeholders in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    /// Their positions.
    pub tokens: Range<usize>,
    /// What they show.
    pub kind: MediaKind,
    /// A hash of what they show, by which it is found.
    pub content: [u8; 32],
}

/// What soft tokens show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
}

/// The tokens that stand for pictures or sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaTokens {
    /// What they show.
    pub kind: MediaKind,
    /// The token before each piece.
    pub begin: u32,
    /// The token that stands for each soft token; it may lie beyond the vocabulary.
    pub soft: u32,
    /// The token after each piece.
    pub end: u32,
    /// Soft tokens of a piece.
    pub per_piece: usize,
}

impl MediaKind {
    /// Both, in the order in which rows list them.
    pub const ALL: [MediaKind; 2] = [MediaKind::Image, MediaKind::Audio];

    /// Its name for people, and of parts of messages.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
        }
    }

    /// What stands for one in texts: `<image>`.
    pub fn word(self) -> &'static str {
        match self {
            MediaKind::Image => "<image>",
            MediaKind::Audio => "<audio>",
        }
    }

    /// What columns of rows that hold some are called.
    pub fn columns(self) -> [&'static str; 2] {
        match self {
            MediaKind::Image => ["images", "image"],
            MediaKind::Audio => ["audio", "audios"],
        }
    }

    /// What a file is whose name ends so; `None` where that says something else or nothing.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" | "png" | "webp" | "gif" | "bmp" | "tif" | "tiff" => Some(MediaKind::Image),
            "wav" | "flac" | "mp3" | "ogg" | "oga" | "opus" | "m4a" => Some(MediaKind::Audio),
            _ => None,
        }
    }

    /// Several of them, for people.
    pub fn plural(self) -> &'static str {
        match self {
            MediaKind::Image => "pictures",
            MediaKind::Audio => "sounds",
        }
    }

    /// So many of them, for people.
    pub fn counted(self, n: usize) -> String {
        match (self, n) {
            (MediaKind::Image, 1) => "1 picture".into(),
            (MediaKind::Audio, 1) => "1 sound".into(),
            (kind, n) => format!("{n} {}", kind.plural()),
        }
    }
}

impl Medium {
    /// One that nobody has looked at.
    pub fn new(kind: MediaKind, source: MediaSource) -> Self {
        Medium { kind, source, pieces: Vec::new() }
    }
}

impl MediaRange {
    /// The same, so many positions further on.
    pub fn moved(self, by: usize) -> Self {
        MediaRange { tokens: self.tokens.start + by..self.tokens.end + by, ..self }
    }
}
