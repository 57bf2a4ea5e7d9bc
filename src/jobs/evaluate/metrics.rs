//! Metrics of all contestants.

use crate::eval::intervals::{Difference, Interval, difference, interval};
use crate::eval::metric::Counts;
use serde::Serialize;

/// A metric of all contestants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricReport {
    /// Its name.
    pub metric: String,
    /// What it says, for people.
    pub about: String,
    /// Whether more is better, where it is better or worse at all.
    pub more_is_better: Option<bool>,
    /// Rows that it applies to.
    pub rows: usize,
    /// Its value of each contestant.
    pub values: Vec<Interval>,
    /// What each contestant has more than the first; nothing of the first, and of those whose numbers are not of the same.
    pub differences: Vec<Option<Difference>>,
}

/// A metric of all contestants, on the rows that it applies to with each of them.
pub(super) fn column(
    metric: &str,
    about: &str,
    more_is_better: bool,
    columns: &[Vec<Option<Counts>>],
    score: fn(&[f64]) -> f64,
) -> MetricReport {
    let rows = columns.iter().map(Vec::len).min().unwrap_or(0);
    let applies: Vec<usize> = (0..rows).filter(|&row| columns.iter().all(|column| column[row].is_some())).collect();
    let of = |column: &'_ [Option<Counts>]| -> Vec<Counts> {
        applies.iter().filter_map(|&row| column[row].clone()).collect()
    };
    let columns: Vec<Vec<Counts>> = columns.iter().map(|column| of(column)).collect();
    let columns: Vec<Vec<&Counts>> = columns.iter().map(|column| column.iter().collect()).collect();
    let beside = |at: usize| (at > 0).then(|| difference(&columns[0], &columns[at], score));
    MetricReport {
        metric: metric.to_owned(),
        about: about.to_owned(),
        more_is_better: Some(more_is_better),
        rows: applies.len(),
        values: columns.iter().map(|column| interval(column, score)).collect(),
        differences: (0..columns.len()).map(beside).collect(),
    }
}
