//! Which rows of a token stream form a sequence.

use std::ops::Range;

/// Sequences laid one after the other in a stream of `n` tokens, without padding. Each sees only itself, and its
/// positions start at 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments(Vec<Range<usize>>);

impl Segments {
    /// Segments with these lengths, in order. Empty ones are left out.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut start = 0;
        let ranges = lengths
            .into_iter()
            .filter(|&len| len > 0)
            .map(|len| {
                start += len;
                start - len..start
            })
            .collect();
        Segments(ranges)
    }

    /// Tokens in all segments.
    pub fn tokens(&self) -> usize {
        self.0.last().map_or(0, |last| last.end)
    }

    /// The segments' rows, in order.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }

    /// Each token's position in its segment.
    pub fn positions(&self) -> Vec<usize> {
        self.0.iter().flat_map(|range| 0..range.len()).collect()
    }
}
