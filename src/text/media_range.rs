//! Where media stand among the tokens of a row.

use std::ops::Range;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
}

impl MediaRange {
    /// The same, so many positions further on.
    pub fn moved(self, by: usize) -> Self {
        MediaRange { tokens: self.tokens.start + by..self.tokens.end + by, ..self }
    }
}
