//! How sure a number is that was measured on some rows: bootstrap intervals, and a paired test of two.

use super::metric::{Counts, summed};
use crate::random::{Label, Rng, Stream};
use rayon::prelude::*;
use serde::Serialize;

/// Times that rows are drawn anew.
const RESAMPLES: u64 = 2000;
/// What is drawn is the same each time.
const SEED: u64 = 20_240_229;

/// A number with the interval that it lies in 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// On the rows as they are.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A second number minus the first, on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// With its interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// How often chance alone makes a difference as large, in either direction.
    pub p: f64,
}

/// A score with its interval: rows are drawn with replacement, as many as there are.
pub fn interval(rows: &[&Counts], score: fn(&[f64]) -> f64) -> Interval {
    interval_of(rows.len(), |drawn| score(&summed(drawn.iter().map(|&row| rows[row]))))
}

/// The same of what is not made of sums: `of` makes it of rows by their numbers. Draws that make nothing (NaN) are left out.
pub fn interval_of(rows: usize, of: impl Fn(&[usize]) -> f64 + Sync) -> Interval {
    let all: Vec<usize> = (0..rows).collect();
    ends(of(&all), resampled(rows, of))
}

/// How much better or worse the second of two is, on the same rows.
///
/// The interval is that of differences on the same drawn rows. `p` comes from approximate randomisation: which of the two a
/// row's counts are of is decided by lot.
pub fn difference(first: &[&Counts], second: &[&Counts], score: fn(&[f64]) -> f64) -> Difference {
    difference_of(first.len(), |drawn, swap| {
        let side = |mine: &[&Counts], theirs: &[&Counts]| {
            let rows = drawn.iter().map(|&row| if swap[row] { theirs[row] } else { mine[row] });
            score(&summed(rows.collect::<Vec<_>>().into_iter()))
        };
        side(second, first) - side(first, second)
    })
}

/// The same of what is not made of sums: `between` makes it of rows by their numbers, each of which may be swapped between the two.
pub fn difference_of(rows: usize, between: impl Fn(&[usize], &[bool]) -> f64 + Sync) -> Difference {
    let (all, none): (Vec<usize>, Vec<bool>) = ((0..rows).collect(), vec![false; rows]);
    let drawn = resampled(rows, |drawn| between(drawn, &none));
    let observed = between(&all, &none);
    let as_large = (0..RESAMPLES).into_par_iter().filter(|&number| {
        let mut lots = stream("swap", number);
        let swap: Vec<bool> = all.iter().map(|_| lots.below(2) == 1).collect();
        between(&all, &swap).abs() >= observed.abs() * (1.0 - 1e-12)
    });
    let p = (as_large.count() + 1) as f64 / (RESAMPLES + 1) as f64;
    Difference { interval: ends(observed, drawn), p }
}

/// Numbers of drawn rows, in order.
fn resampled(rows: usize, of: impl Fn(&[usize]) -> f64 + Sync) -> Vec<f64> {
    let one = |number: u64| {
        let mut lots = stream("bootstrap", number);
        of(&(0..rows).map(|_| lots.below(rows as u64) as usize).collect::<Vec<_>>())
    };
    let mut all: Vec<f64> = (0..RESAMPLES).into_par_iter().map(one).filter(|number| !number.is_nan()).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn stream(purpose: &'static str, number: u64) -> Stream {
    Rng::new(SEED).stream(&[Label::Purpose(purpose), Label::Step(number)])
}

fn ends(value: f64, sorted: Vec<f64>) -> Interval {
    let at = |share: f64| sorted.get((share * (sorted.len() as f64 - 1.0)).round() as usize).copied().unwrap_or(value);
    Interval { value, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::metric::ratio;

    fn counts(values: impl Iterator<Item = f64>) -> Vec<Counts> {
        values.map(|value| vec![value, 1.0]).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_distribution() {
        // 400 hits of 1,000: 0.4 +- 1.96 sqrt(0.24 / 1000) = 0.0304.
        let rows = counts((0..1000).map(|row| f64::from(u8::from(row % 5 < 2))));
        let found = interval(&rows.iter().collect::<Vec<_>>(), ratio);
        assert!((found.value - 0.4).abs() < 1e-12);
        assert!((found.high - 0.4304).abs() < 0.004 && (found.low - 0.3696).abs() < 0.004, "{found:?}");
        assert_eq!(interval(&rows.iter().collect::<Vec<_>>(), ratio), found, "the same each time");
        let one = counts([0.5].into_iter());
        let one = interval(&one.iter().collect::<Vec<_>>(), ratio);
        assert_eq!((one.low, one.high), (0.5, 0.5));
    }

    #[test]
    fn a_paired_test_sees_what_intervals_do_not() {
        // Rows differ much, the two of a pair little, always in one direction.
        let first = counts((0..200).map(|row| f64::from(row * 37 % 100)));
        let second = counts((0..200).map(|row| f64::from(row * 37 % 100) + 0.5 + 0.2 * f64::from(row % 3)));
        let [first, second] = [&first, &second].map(|rows| rows.iter().collect::<Vec<_>>());
        let found = difference(&first, &second, ratio);
        assert!(found.p < 0.001 && found.interval.low > 0.5 && found.interval.high < 1.0, "{found:?}");
        assert!(interval(&first, ratio).high > interval(&second, ratio).low, "apart they overlap");
        let same = difference(&first, &first, ratio);
        assert_eq!((same.p, same.interval.value, same.interval.low), (1.0, 0.0, 0.0));
    }

    #[test]
    fn p_is_uniform_where_there_is_nothing_to_see() {
        let mut low = 0;
        for case in 0..40u64 {
            let mut lots = Rng::new(case).stream(&[Label::Purpose("test")]);
            let mut draw = || counts((0..60).map(|_| lots.unit()).collect::<Vec<_>>().into_iter());
            let (first, second) = (draw(), draw());
            let [first, second] = [&first, &second].map(|rows| rows.iter().collect::<Vec<_>>());
            low += usize::from(difference(&first, &second, ratio).p < 0.25);
        }
        assert!((3..=18).contains(&low), "{low} of 40 below 0.25");
    }
}
