//! The pictures and sounds that a model takes.

use crate::model::inputs::Modality;

/// What a tower takes while a step runs, where it is trained: it looks or listens in the step's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerWork {
    /// Numbers that it keeps for the way back of one picture, or of the longest sound.
    pub kept: u64,
    /// Numbers that are alive for a moment on the way back through one of its layers.
    pub transient: u64,
    /// Tokens that such a piece takes in a row.
    pub tokens: u64,
}

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
    /// Frames of a sound that become one soft token; 1 of a picture.
    pub frames_per_token: usize,
    /// Pixels on a side of a picture, where the tower takes one size alone, or mel bins of a sound.
    pub size: Option<usize>,
    /// Whether the colours of a picture are from -1 to 1, and not from 0 to 1.
    pub is_centred: bool,
    /// Whether a long picture may also be shown in pieces.
    pub has_crops: bool,
}
