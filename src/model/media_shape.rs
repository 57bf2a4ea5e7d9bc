//! The pictures and sounds that a model takes.

use crate::model::inputs::Modality;

/// The tokens of a medium, and what a tower takes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaShape {
    /// What it is.
    pub modality: Modality,
    /// The token before each piece.
    pub begin: u32,
    /// The token that stands for each soft token; it may lie beyond the vocabulary.
    pub soft: u32,
    /// The token after each piece.
    pub end: u32,
    /// Soft tokens of a piece.
    pub tokens: usize,
    /// Pixels on a side of a picture, where the tower takes one size alone, or mel bins of a sound.
    pub size: Option<usize>,
    /// Whether the colours of a picture are from -1 to 1, and not from 0 to 1.
    pub is_centred: bool,
    /// Whether a long picture may also be shown in pieces.
    pub has_crops: bool,
}
