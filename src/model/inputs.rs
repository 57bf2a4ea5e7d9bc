//! What a forward pass begins with.

use crate::nn::Segments;
use burn::tensor::Tensor;
use std::ops::Range;

/// The tokens of a batch and how they lie in sequences.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `[n]`; of the rows of soft tokens, the ids of their placeholders.
    pub input_ids: Vec<u32>,
    /// Which rows form a sequence.
    pub segments: Segments,
    /// The rows that are no words, in ascending order; none in text.
    pub soft_tokens: Vec<SoftTokens>,
}

/// Rows of a batch whose embeddings do not come from the table.
#[derive(Debug, Clone)]
pub struct SoftTokens {
    /// The rows, all within one segment.
    pub rows: Range<usize>,
    /// What they show.
    pub modality: Modality,
    /// What the tower of this modality gives for them, `[p, w]`: the model makes one row of its own width for each of
    /// `rows` of it.
    pub features: Tensor<2>,
}

/// What soft tokens show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// A picture, whose tokens see each other in both directions where the model says so.
    Image,
    /// A sound.
    Audio,
}

impl Inputs {
    /// Text alone.
    pub fn text(input_ids: Vec<u32>, segments: Segments) -> Self {
        Inputs { input_ids, segments, soft_tokens: Vec::new() }
    }

    /// Keeps the first `most` tokens, or those before the soft tokens that this would cut through. Returns how many are
    /// left.
    pub fn truncate(&mut self, most: usize) -> usize {
        let cut = self.soft_tokens.iter().find(|soft| soft.rows.start < most && most < soft.rows.end);
        let tokens = cut.map_or(most, |soft| soft.rows.start).min(self.input_ids.len());
        self.input_ids.truncate(tokens);
        let ranges = self.segments.ranges();
        let lengths = ranges.iter().map(|range| range.end.min(tokens).saturating_sub(range.start));
        self.segments = Segments::from_lengths(lengths);
        self.soft_tokens.retain(|soft| soft.rows.end <= tokens);
        tokens
    }

    /// The rows of each picture.
    pub fn images(&self) -> Vec<Range<usize>> {
        let images = self.soft_tokens.iter().filter(|soft| soft.modality == Modality::Image);
        images.map(|soft| soft.rows.clone()).collect()
    }
}
