//! The mask as ranges: every query sees one run of neighbouring keys.

use std::ops::Range;

use crate::ops::attention::shape::AttentionShape;
use crate::ops::attention::visibility::{Group, Visibility};

/// Keys per tile where every query sees every key.
const KEYS: usize = 240;
/// Keys per tile along the edges of the mask, where part of a tile is computed in vain.
const EDGE_KEYS: usize = 24;

/// A group with the keys that each of its queries sees.
///
/// Both ends of the ranges grow from query to query, so the queries which see one of some neighbouring keys are
/// neighbours too.
pub(super) struct VisibleGroup {
    pub queries: Range<usize>,
    pub keys: Range<usize>,
    /// One range of key rows for each query.
    ranges: Vec<Range<usize>>,
}

/// A tile of scores: neighbouring keys, and those queries which see one of them.
pub(super) struct Tile {
    /// Rows of the keys.
    pub keys: Range<usize>,
    /// Counted from the first query of the group.
    pub queries: Range<usize>,
    /// Whether some query does not see some key.
    pub masked: bool,
}

impl VisibleGroup {
    /// Every group of `visibility`, in order.
    pub fn all(visibility: &Visibility) -> Vec<Self> {
        visibility.groups.iter().map(|group| Self::new(group, visibility)).collect()
    }

    fn new(group: &Group, visibility: &Visibility) -> Self {
        let Group { queries, keys } = group.clone();
        Self { queries, keys, ranges: visibility.runs_of(group) }
    }

    /// The keys that one or more of `queries` see, and perhaps some between them.
    pub fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        match &self.ranges[queries.clone()] {
            [] => self.keys.start..self.keys.start,
            [first, .., last] => first.start..last.end,
            [only] => only.clone(),
        }
    }

    /// The pairs of a query of `queries` and a key it sees.
    pub fn pairs(&self, queries: &Range<usize>) -> usize {
        self.ranges[queries.clone()].iter().map(Range::len).sum()
    }

    /// All queries in at most `parts` runs with about as many pairs each.
    pub fn split(&self, parts: usize) -> Vec<Range<usize>> {
        let all = 0..self.ranges.len();
        let total = self.pairs(&all);
        let mut runs = Vec::with_capacity(parts);
        let (mut start, mut seen) = (0, 0);
        for (query, range) in self.ranges.iter().enumerate() {
            seen += range.len();
            if query + 1 == all.end || seen * parts >= total * (runs.len() + 1) {
                runs.push(start..query + 1);
                start = query + 1;
            }
        }
        runs
    }

    /// The tiles of scores of `queries`, by ascending keys.
    pub fn tiles(&self, queries: Range<usize>) -> impl Iterator<Item = Tile> {
        let ranges = &self.ranges[queries.clone()];
        let keys = self.keys_of(&queries);
        // The keys that every query sees; none when the start is past the end.
        let (full_start, full_end) = match ranges {
            [] => (keys.end, keys.end),
            [first, ..] => (ranges[ranges.len() - 1].start, first.end),
        };
        let has_full = full_end >= full_start + EDGE_KEYS;
        let mut next = keys.start;
        std::iter::from_fn(move || {
            if next >= keys.end {
                return None;
            }
            let end = if has_full && next < full_start {
                full_start.min(next + EDGE_KEYS)
            } else if has_full && next < full_end {
                full_end.min(next + KEYS)
            } else {
                keys.end.min(next + EDGE_KEYS)
            };
            let tile = next..end;
            next = end;
            let first = ranges.partition_point(|range| range.end <= tile.start);
            let last = ranges.partition_point(|range| range.start < tile.end).max(first);
            let masked = ranges[first..last].iter().any(|range| range.start > tile.start || range.end < tile.end);
            Some(Tile { keys: tile, queries: queries.start + first..queries.start + last, masked })
        })
    }

    /// Writes `value` over the scores of `tile` (`[keys, queries · fold]`) that the mask hides.
    pub fn fill_hidden(&self, tile: &Tile, shape: &AttentionShape, scores: &mut [f32], value: f32) {
        if !tile.masked {
            return;
        }
        let fold = shape.fold();
        let ranges = &self.ranges[tile.queries.clone()];
        for (key, column) in tile.keys.clone().zip(scores.chunks_exact_mut(ranges.len() * fold)) {
            let first = ranges.partition_point(|range| range.end <= key);
            let last = ranges.partition_point(|range| range.start <= key);
            column[..first * fold].fill(value);
            column[last * fold..].fill(value);
        }
    }
}

/// Cuts `range` into runs of nearly equal length, none longer than `longest`.
pub(super) fn even_runs(range: Range<usize>, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, len) = (range.start, range.len());
    let runs = len.div_ceil(longest.max(1));
    (0..runs).map(move |i| start + i * len / runs..start + (i + 1) * len / runs)
}
