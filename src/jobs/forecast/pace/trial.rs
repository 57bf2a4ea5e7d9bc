//! How long work takes at two sizes, and what follows for others.

use crate::error::Result;
use std::time::{Duration, Instant};

/// Tokens of the smallest run: enough rows that a product is computed as that of many.
const FEW_TOKENS: usize = 16;

/// The longer run of a trial has at least so many times the tokens of the shorter, so that noise does not decide their
/// difference.
const SPREAD: usize = 4;

/// Runs at the same size; the median of them counts.
const MOST_RUNS: usize = 7;

/// How long a run with so many tokens took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Its tokens.
    pub tokens: usize,
    /// Its time.
    pub seconds: f64,
}

/// Seconds that `work` takes.
///
/// # Errors
/// Those of `work`.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work().map(|()| start.elapsed().as_secs_f64())
}

/// Times the work that `prepare` makes ready, with few tokens and with as many of `wanted` as `budget` allows, where
/// that is more. With `compiles` the first run of each size is not timed, since it compiles kernels.
///
/// # Errors
/// Those of the work.
pub fn samples<W: Fn() -> Result<()>>(
    wanted: usize,
    budget: Duration,
    compiles: bool,
    prepare: impl Fn(usize) -> W,
) -> Result<[Sample; 2]> {
    let mut watch = Watch { budget: budget.as_secs_f64(), compiles, spent: 0.0 };
    let mut tokens = wanted.clamp(1, FEW_TOKENS);
    let mut work = prepare(tokens);
    let mut seconds = watch.first(&work)?;
    let short = Sample { tokens, seconds };
    while tokens < wanted && (seconds < watch.budget / 4.0 || tokens < short.tokens * SPREAD) {
        // Attention grows with the square of the tokens, and nothing grows faster.
        let times = (watch.budget / 2.0 / seconds).sqrt();
        let least = tokens.saturating_mul(2).max(short.tokens * SPREAD);
        tokens = ((tokens as f64 * times) as usize).max(least).min(wanted);
        work = prepare(tokens);
        seconds = watch.first(&work)?;
    }
    let mut times = vec![seconds];
    while times.len() < MOST_RUNS && watch.spent + median(&times) < watch.budget {
        times.push(watch.run(&work)?);
    }
    Ok([short, Sample { tokens, seconds: median(&times) }])
}

/// Seconds that a trial may take and has taken.
struct Watch {
    budget: f64,
    compiles: bool,
    spent: f64,
}

impl Watch {
    fn run(&mut self, work: &impl Fn() -> Result<()>) -> Result<f64> {
        timed(work).inspect(|seconds| self.spent += seconds)
    }

    /// Seconds of work of a new size. Its first run wakes threads and touches memory, which is nothing beside a long
    /// run: only a short one is done again.
    fn first(&mut self, work: &impl Fn() -> Result<()>) -> Result<f64> {
        if self.compiles {
            work()?;
            return self.run(work);
        }
        match self.run(work)? {
            short if short < self.budget / 4.0 => self.run(work),
            long => Ok(long),
        }
    }
}

/// The middle of some times; the mean of the two middle ones where they are even.
fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (middle(sorted.len().saturating_sub(1) / 2) + middle(sorted.len() / 2)) / 2.0
}

/// Seconds as a line in the amount of work: `fixed + per_unit * work`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Seconds of no work, as for unpacking weights.
    pub fixed: f64,
    /// Seconds of each unit more.
    pub per_unit: f64,
}

impl Line {
    /// The line through two points `(work, seconds)`. Always through the second, whatever noise says: where the points
    /// make no line that rises from zero or above, the second alone decides.
    pub fn through((less, faster): (f64, f64), (more, slower): (f64, f64)) -> Self {
        let per_unit = (slower - faster) / (more - less);
        let fixed = slower - per_unit * more;
        match per_unit.is_finite() && per_unit > 0.0 && fixed >= 0.0 {
            true => Line { fixed, per_unit },
            false => Line { fixed: 0.0, per_unit: slower.max(0.0) / more.max(1.0) },
        }
    }

    /// Seconds of so much work.
    pub fn at(&self, work: f64) -> f64 {
        self.fixed + self.per_unit * work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use std::cell::RefCell;

    #[test]
    fn a_line_goes_through_both_points_or_else_through_the_second() {
        let line = Line::through((10.0, 3.0), (30.0, 5.0));
        assert_eq!((line.at(0.0), line.at(10.0), line.at(30.0), line.at(100.0)), (2.0, 3.0, 5.0, 12.0));
        for first in [(10.0, 6.0), (10.0, 1.0), (30.0, 5.0), (30.0, 1.0)] {
            assert_eq!(Line::through(first, (30.0, 5.0)), Line { fixed: 0.0, per_unit: 5.0 / 30.0 }, "{first:?}");
        }
        assert_eq!(Line::through((0.0, 0.0), (0.0, -1.0)).at(8.0), 0.0);
    }

    /// The sizes that are run.
    fn sizes(wanted: usize, budget: Duration) -> Vec<usize> {
        let sizes = RefCell::new(Vec::new());
        let run = |tokens| {
            let sizes = &sizes;
            move || {
                sizes.borrow_mut().push(tokens);
                Ok(())
            }
        };
        let [short, long] = samples(wanted, budget, false, run).unwrap();
        let sizes = sizes.take();
        assert_eq!((sizes.first(), sizes.last()), (Some(&short.tokens), Some(&long.tokens)));
        sizes
    }

    #[test]
    fn what_is_quick_is_run_as_a_whole_and_what_is_slow_in_part() {
        assert_eq!(sizes(300, Duration::ZERO), [16, 64], "no time: just what a line needs");
        assert_eq!(sizes(20, Duration::ZERO), [16, 20]);
        assert_eq!(sizes(5, Duration::ZERO), [5]);
        let mut expected = vec![16, 16, 300];
        expected.resize(expected.len() + MOST_RUNS, 300);
        assert_eq!(sizes(300, Duration::MAX), expected, "each size once to warm up");
        assert_eq!(sizes(0, Duration::MAX).len(), 1 + MOST_RUNS);
    }

    #[test]
    fn a_run_that_fails_ends_the_trial() {
        let fail = |_| || Err(Error::new(Kind::Device, "no memory"));
        assert_eq!(samples(300, Duration::MAX, false, fail).unwrap_err().what(), "no memory");
    }

    /// Work whose first run of each size takes long.
    #[test]
    fn compiling_is_not_timed() {
        let prepare = |_| {
            let is_compiled = std::cell::Cell::new(false);
            move || {
                if !is_compiled.replace(true) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }
        };
        let [short, long] = samples(300, Duration::from_millis(100), true, prepare).unwrap();
        assert_eq!((short.tokens, long.tokens), (FEW_TOKENS, 300));
        assert!(short.seconds < 0.05 && long.seconds < 0.05, "{short:?} {long:?}");
    }

    #[test]
    fn the_middle_counts() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
    }
}
