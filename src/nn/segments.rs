//! Which rows of a token stream form a sequence.

use std::ops::Range;

/// Sequences laid one after the other in a stream of `n` tokens, without padding. Each sees only itself, and its
/// positions start at 0.
///
/// Any number of sequences may begin with the first tokens of one before them: these are computed once, and all see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// The rows of each: its own.
    ranges: Vec<Range<usize>>,
    /// How many tokens each begins with that are those of the last one before it that has all of its own.
    shared: Vec<usize>,
}

impl Segments {
    /// Segments with these lengths, in order. Empty ones are left out.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        Segments::sharing(lengths.into_iter().map(|len| (len, 0)))
    }

    /// Segments of so many rows of their own, each after so many first tokens of the last one before it that itself shares none: two
    /// answers to a prompt, or a group of them. Those without rows are left out.
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

    /// What [`Segments::sharing`] takes: of each how many rows are its own, and how many tokens it shares.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, usize)> {
        self.ranges.iter().map(Range::len).zip(self.shared.iter().copied())
    }

    /// The segments' own rows, in order.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The rows before those of a segment that are its first tokens, too.
    pub fn prefix(&self, segment: usize) -> Range<usize> {
        let shared = self.shared.get(segment).copied().unwrap_or(0);
        let before = self.shared.get(..segment).and_then(|before| before.iter().rposition(|&shared| shared == 0));
        let first = before.filter(|_| shared > 0).and_then(|first| self.ranges.get(first));
        first.map_or(0..0, |first| first.start..first.end.min(first.start + shared))
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

    #[test]
    fn any_number_of_sequences_may_begin_alike() {
        // Three answers after a prompt of two tokens, a sequence by itself, and two that begin with its first token.
        let lengths = [(4, 0), (1, 2), (3, 2), (2, 0), (1, 1), (2, 1)];
        let segments = Segments::sharing(lengths);
        assert_eq!(segments.ranges(), [0..4, 4..5, 5..8, 8..10, 10..11, 11..13]);
        assert_eq!(segments.positions(), [0, 1, 2, 3, 2, 2, 3, 4, 0, 1, 1, 1, 2]);
        let prefixes: Vec<_> = (0..6).map(|segment| segments.prefix(segment)).collect();
        assert_eq!(prefixes, [0..0, 0..2, 0..2, 0..0, 8..9, 8..9]);
        assert_eq!(segments.rows(2).collect::<Vec<_>>(), [0, 1, 5, 6, 7]);
        assert_eq!(segments.rows(5).collect::<Vec<_>>(), [8, 11, 12]);
        assert_eq!(segments.lengths().collect::<Vec<_>>(), lengths);
        assert_eq!(segments.truncated(6), Segments::sharing([(4, 0), (1, 2), (1, 2)]));
        assert_eq!((segments.prefix(6), Segments::sharing([(2, 3)]).prefix(0)), (0..0, 0..0));
    }
}
