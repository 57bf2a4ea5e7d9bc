//! The learning rate of each update: constant, linear or cosine decay, after a linear warmup.
//!
//! The formulas are those of `transformers` (`get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup`,
//! `get_cosine_schedule_with_warmup`), so that a run can be compared with the Hugging Face `Trainer` step by step.

use std::f64::consts::PI;

/// How the learning rate behaves after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Stays at its peak.
    Constant,
    /// Falls to 0 in a straight line.
    Linear,
    /// Falls to 0 along half a cosine wave.
    Cosine,
}

/// The learning rate as a function of the update's number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: Kind,
    learning_rate: f64,
    warmup_steps: u64,
    total_steps: u64,
}

impl Schedule {
    /// A schedule that peaks at `learning_rate` after `warmup_steps` and ends after `total_steps` updates.
    pub fn new(kind: Kind, learning_rate: f64, warmup_steps: u64, total_steps: u64) -> Self {
        Self { kind, learning_rate, warmup_steps, total_steps }
    }

    /// The learning rate of update `step`, counted from 0 (the first update).
    ///
    /// With a warmup the first update's rate is exactly 0, as in `transformers`.
    pub fn at(&self, step: u64) -> f64 {
        self.learning_rate * self.factor(step)
    }

    /// Whether no update moves anything: the rate is 0 in all of them, as where the warmup takes the only one.
    pub fn is_zero(&self) -> bool {
        (0..self.total_steps).all(|step| self.at(step) == 0.0)
    }

    /// The share of the peak learning rate at `step`.
    fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps.max(1) as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.kind {
            Kind::Constant => 1.0,
            Kind::Linear => self.total_steps.saturating_sub(step) as f64 / decay_steps,
            Kind::Cosine => {
                let progress = (step - self.warmup_steps) as f64 / decay_steps;
                (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
            }
        }
    }
}

/// The warmup steps that `warmup_ratio` means: `ceil(total_steps * ratio)`, as in the Hugging Face `Trainer`, but never
/// the last step: there, a run of one step would be at rate 0 and change nothing.
pub fn warmup_steps(total_steps: u64, ratio: f64) -> u64 {
    // The cast saturates, so that neither a negative ratio nor NaN can do worse than 0 steps.
    ((total_steps as f64 * ratio).ceil() as u64).min(total_steps.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for equality up to the last bits of the platform's `cos`.
    fn assert_close(kind: Kind, warmup: u64, total: u64, expected: &[(u64, f64)]) {
        let schedule = Schedule::new(kind, 2e-4, warmup, total);
        for &(step, value) in expected {
            let got = schedule.at(step);
            assert!((got - value).abs() <= 1e-15 * 2e-4, "{kind:?} at {step}: expected {value:e}, got {got:e}");
        }
    }

    // Golden values from `scripts/make_schedule_goldens.py` with transformers 5.23.0: learning rate 2e-4.
    #[test]
    fn constant_with_warmup_0_of_20_equals_transformers() {
        let expected = &[
            (0, 0.0002),
            (1, 0.0002),
            (2, 0.0002),
            (3, 0.0002),
            (4, 0.0002),
            (6, 0.0002),
            (10, 0.0002),
            (18, 0.0002),
            (19, 0.0002),
            (20, 0.0002),
        ];
        assert_close(Kind::Constant, 0, 20, expected);
    }

    #[test]
    fn constant_with_warmup_4_of_20_equals_transformers() {
        let expected = &[
            (0, 0.0),
            (1, 5e-05),
            (2, 0.0001),
            (3, 0.00015000000000000001),
            (4, 0.0002),
            (6, 0.0002),
            (10, 0.0002),
            (18, 0.0002),
            (19, 0.0002),
            (20, 0.0002),
        ];
        assert_close(Kind::Constant, 4, 20, expected);
    }

    #[test]
    fn linear_with_warmup_0_of_20_equals_transformers() {
        let expected = &[
            (0, 0.0002),
            (1, 0.00019),
            (2, 0.00018),
            (3, 0.00017),
            (4, 0.00016),
            (6, 0.00014),
            (10, 0.0001),
            (18, 2e-05),
            (19, 1e-05),
            (20, 0.0),
        ];
        assert_close(Kind::Linear, 0, 20, expected);
    }

    #[test]
    fn linear_with_warmup_3_of_20_equals_transformers() {
        let expected = &[
            (0, 0.0),
            (1, 6.666666666666667e-05),
            (2, 0.00013333333333333334),
            (3, 0.0002),
            (4, 0.00018823529411764707),
            (6, 0.0001647058823529412),
            (10, 0.00011764705882352942),
            (18, 2.3529411764705884e-05),
            (19, 1.1764705882352942e-05),
            (20, 0.0),
        ];
        assert_close(Kind::Linear, 3, 20, expected);
    }

    #[test]
    fn cosine_with_warmup_0_of_20_equals_transformers() {
        let expected = &[
            (0, 0.0002),
            (1, 0.00019876883405951377),
            (2, 0.00019510565162951537),
            (3, 0.0001891006524188368),
            (4, 0.00018090169943749476),
            (6, 0.00015877852522924732),
            (10, 0.0001),
            (18, 4.8943483704846475e-06),
            (19, 1.231165940486234e-06),
            (20, 0.0),
        ];
        assert_close(Kind::Cosine, 0, 20, expected);
    }

    #[test]
    fn cosine_with_warmup_3_of_100_equals_transformers() {
        let expected = &[
            (0, 0.0),
            (1, 6.666666666666667e-05),
            (2, 0.00013333333333333334),
            (3, 0.0002),
            (4, 0.00019994755690455152),
            (33, 0.00015639570298509064),
            (50, 0.00010485622221144484),
            (98, 2.0971737622883515e-07),
            (99, 5.2443095448506674e-08),
            (100, 0.0),
        ];
        assert_close(Kind::Cosine, 3, 100, expected);
    }

    #[test]
    fn the_ratio_rounds_up_as_the_trainer_does() {
        assert_eq!(warmup_steps(100, 0.03), 3);
        assert_eq!(warmup_steps(101, 0.03), 4);
        assert_eq!(warmup_steps(20, 0.0), 0);
        assert_eq!((warmup_steps(20, 1.0), warmup_steps(2, 0.03), warmup_steps(1, 0.03)), (19, 1, 0));
        // 100 * 0.07 is 7.000000000000001 in binary: Python's `math.ceil` gives 8, and so do we.
        assert_eq!(warmup_steps(100, 0.07), 8);
        assert_eq!(warmup_steps(20, f64::NAN), 0);
        assert_eq!(warmup_steps(20, -1.0), 0);
    }

    #[test]
    fn a_ratio_never_makes_a_run_that_stands_still() {
        for kind in [Kind::Constant, Kind::Linear, Kind::Cosine] {
            for total in 1..9 {
                for ratio in [0.0, 0.03, 0.5, 1.0] {
                    assert!(
                        !Schedule::new(kind, 2e-4, warmup_steps(total, ratio), total).is_zero(),
                        "{kind:?} {total} {ratio}"
                    );
                }
            }
            assert!(Schedule::new(kind, 2e-4, 1, 1).is_zero(), "the only step is the first of the warmup");
            assert!(!Schedule::new(kind, 2e-4, 2, 2).is_zero());
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_and_an_empty_run_are_harmless() {
        let schedule = Schedule::new(Kind::Cosine, 1.0, 10, 4);
        assert_eq!(schedule.at(3), 0.3);
        assert_eq!(schedule.at(10), 1.0);
        assert_eq!(Schedule::new(Kind::Linear, 1.0, 0, 0).at(0), 0.0);
        assert_eq!(Schedule::new(Kind::Linear, 1.0, 0, 4).at(9), 0.0);
    }
}
