//! Which rows of a token stream form a sequence.

use std::ops::Range;

/// Sequences laid one after the other in a stream of `n` tokens, without padding. Each sees only itself, and its
/// positions start at 0.
///
/// A sequence may begin with the first tokens of the one before it: these are computed once, and both see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// The rows of each: its own.
    ranges: Vec<Range<usize>>,
    /// How many tokens each begins with that are those of the one before it.
    shared: Vec<usize>,
}

impl Segments {
    /// Segments with these lengths, in order. Empty ones are left out.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        Segments::sharing(lengths.into_iter().map(|len| (len, 0)))
    }

    /// Segments of so many rows of their own, each after so many first tokens of the one before it, which itself shares none.
    /// Those without rows are left out.
    pub fn sharing(lengths: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut start = 0;
        let segments = lengths.into_iter().filter(|&(len, _)| len > 0).map(|(len, shared)| {
            start += len;
            (start - len..start, shared)
        });
        let (ranges, shared) = segments.unzip();
        Segments { ranges, shared }
    }

    /// Rows of all segments.
    pub fn tokens(&self) -> usize {
        self.ranges.last().map_or(0, |last| last.end)
    }

    /// The segments' own rows, in order.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The rows before those of a segment that are its first tokens, too.
    pub fn prefix(&self, segment: usize) -> Range<usize> {
        let shared = self.shared.get(segment).copied().unwrap_or(0);
        let before = segment.checked_sub(1).and_then(|before| self.ranges.get(before));
        before.map_or(0..0, |before| before.start..before.end.min(before.start + shared))
    }

    /// All rows of a segment's tokens, in their order.
    pub fn rows(&self, segment: usize) -> impl Iterator<Item = usize> + use<> {
        self.prefix(segment).chain(self.ranges.get(segment).cloned().unwrap_or(0..0))
    }

    /// Whether some begin with tokens of others.
    pub fn share(&self) -> bool {
        self.shared.iter().any(|&shared| shared > 0)
    }

    /// Each row's position in its segment.
    pub fn positions(&self) -> Vec<usize> {
        let all = self.ranges.iter().zip(&self.shared);
        all.flat_map(|(range, &shared)| shared..shared + range.len()).collect()
    }

    /// The same of the first `rows` rows.
    pub fn truncated(&self, rows: usize) -> Self {
        let kept = self.ranges.iter().map(|range| range.end.min(rows).saturating_sub(range.start));
        Segments::sharing(kept.zip(self.shared.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_may_begin_with_the_one_before_it() {
        let segments = Segments::sharing([(5, 0), (2, 3), (0, 0), (4, 0), (1, 1)]);
        assert_eq!(segments.ranges(), [0..5, 5..7, 7..11, 11..12]);
        assert_eq!(segments.positions(), [0, 1, 2, 3, 4, 3, 4, 0, 1, 2, 3, 1]);
        assert_eq!((segments.prefix(0), segments.prefix(1), segments.prefix(3)), (0..0, 0..3, 7..8));
        assert_eq!(segments.rows(1).collect::<Vec<_>>(), [0, 1, 2, 5, 6]);
        assert!(segments.share() && segments.tokens() == 12);
        assert_eq!(segments.truncated(6), Segments::sharing([(5, 0), (1, 3)]));
        assert!(!Segments::from_lengths([2, 0, 3]).share());
    }
}
