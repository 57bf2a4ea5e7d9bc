//! How the dimension that is summed is cut.

use std::ops::Range;

/// A sum of more terms is cut: so many rows of one tile and columns of another stay in a core's cache.
const LONGEST: usize = 1024;

/// Runs of a dimension that are summed from 0 on: even ones, but for the last, and about equally long.
///
/// # Numerics
/// They depend on its length alone, since they decide in which order terms are added.
pub fn runs(len: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let step = run_of(len);
    (0..len).step_by(step).map(move |start| start..(start + step).min(len))
}

/// The length of each run but the last.
pub fn run_of(len: usize) -> usize {
    len.div_ceil(len.div_ceil(LONGEST).max(1)).next_multiple_of(2).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_even_and_about_as_long() {
        let lengths = |len: usize| runs(len).map(|run| run.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), [0usize; 0]);
        assert_eq!((lengths(1), lengths(7), lengths(1024)), (vec![1], vec![7], vec![1024]));
        assert_eq!(
            (lengths(1025), lengths(2048), lengths(6912)),
            (vec![514, 511], vec![1024; 2], vec![988; 6].into_iter().chain([984]).collect())
        );
    }
}
