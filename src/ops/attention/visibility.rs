//! Who may look at whom in one batch.

use std::ops::Range;

/// A run of queries and the keys it may look at: a packed segment, or the new tokens of a cached sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Rows of the queries. The last one is the same token as the last key.
    pub queries: Range<usize>,
    /// Rows of the keys and values.
    pub keys: Range<usize>,
}

/// Which keys each query sees.
///
/// A query at key row `p` sees key `j` of its group when `p - j < window`, and `j <= p` or one of the `spans` holds both: the
/// window limits how far back one sees, also within a span. Queries in no group see nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// In ascending order, each row in one group at most.
    pub groups: Vec<Group>,
    /// How many tokens back a query sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Rows of keys whose tokens also see each other forwards: the soft tokens of one image each.
    pub spans: Vec<Range<usize>>,
}

impl Visibility {
    /// The run of keys that each query sees, by rows; empty where it sees none.
    pub fn runs(&self) -> Vec<Range<usize>> {
        let queries = self.groups.last().map_or(0, |group| group.queries.end);
        let mut runs = vec![0..0; queries];
        for group in &self.groups {
            runs[group.queries.clone()].clone_from_slice(&self.runs_of(group));
        }
        runs
    }

    /// The run of keys that each query of a group sees. Both ends of the runs grow from query to query, since a window
    /// and a span move forwards only.
    pub fn runs_of(&self, group: &Group) -> Vec<Range<usize>> {
        let Group { queries, keys } = group;
        // The last query sits at the last key; with fewer keys than queries, the first queries see nothing.
        let first = keys.end.saturating_sub(queries.len()).max(keys.start);
        let blind = queries.len().saturating_sub(keys.len());
        let mut runs = vec![keys.start..keys.start; blind];
        runs.extend((first..keys.end).map(|p| (p + 1).saturating_sub(self.window).max(keys.start)..p + 1));
        for span in &self.spans {
            let span = span.start.max(keys.start)..span.end.min(keys.end);
            for p in span.start.max(first)..span.end {
                let run = &mut runs[p - first + blind];
                run.end = run.end.max(span.end);
            }
        }
        runs
    }
}
