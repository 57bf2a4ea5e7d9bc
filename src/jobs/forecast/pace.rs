//! How long a step will take: one layer of random numbers is timed in the place of the model.

mod costs;
mod stand_in;
mod timed_run;
mod trial;

pub use timed_run::TimedRun;

use self::costs::Costs;
use self::stand_in::StandIn;
use crate::device::Compute;
use crate::error::Result;
use crate::fence::fenced;
use crate::progress::Progress;
use crate::report::text;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How long the steps of a run take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pace {
    /// Tokens of a step whose micro-batches are all full.
    pub tokens_per_step: u64,
    /// Whether steps may be shorter than what is stated here: without packing micro-batches are not full, and what is
    /// said by others than the one who is trained needs no head.
    pub at_most: bool,
    /// Seconds of a step whose micro-batches are full and whose tokens all have a loss, where that was measured.
    pub seconds_per_step: Option<f64>,
    /// Tokens a second in such steps.
    pub tokens_per_second: Option<f64>,
    /// Steps of the run, where `training.max_steps` says so.
    pub total_steps: Option<u64>,
    /// Seconds of all of them, without loading, evaluation and checkpoints.
    pub seconds_total: Option<f64>,
    /// Why nothing was measured.
    pub not_timed: Option<String>,
}

impl Pace {
    /// Measures the pace of a run on a device within some seconds. No weights are read: the time of a step does not
    /// depend on them. Where nothing can be measured, it says why.
    pub fn measure(run: &TimedRun, compute: &Compute, progress: &dyn Progress) -> Self {
        match seconds_per_step(run, compute, progress) {
            Ok(seconds) => Pace::new(run, seconds),
            Err(error) => Pace::unmeasured(run, error.what()),
        }
    }

    /// The pace of a run that is not timed, and why it is not.
    pub fn unmeasured(run: &TimedRun, why: &str) -> Self {
        Pace {
            tokens_per_step: (run.tokens() as u64).saturating_mul(run.accumulation as u64),
            at_most: run.at_most,
            seconds_per_step: None,
            tokens_per_second: None,
            total_steps: run.max_steps,
            seconds_total: None,
            not_timed: Some(why.into()),
        }
    }

    fn new(run: &TimedRun, seconds: f64) -> Self {
        let pace = Pace::unmeasured(run, "");
        Pace {
            seconds_per_step: Some(seconds),
            tokens_per_second: Some(pace.tokens_per_step as f64 / seconds),
            seconds_total: run.max_steps.map(|steps| steps as f64 * seconds),
            not_timed: None,
            ..pace
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(seconds), Some(rate)) = (self.seconds_per_step, self.tokens_per_second) else {
            return write!(f, "not measured: {}", self.not_timed.as_deref().unwrap_or_default());
        };
        let about = if self.at_most { "at most" } else { "about" };
        let duration = |seconds: f64| text::duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let (tokens, rate) = (text::count(self.tokens_per_step), text::rate(rate));
        write!(f, "{about} {} a step of {tokens} tokens, {rate} tokens per second", duration(seconds))?;
        let (Some(steps), Some(total)) = (self.total_steps, self.seconds_total) else { return Ok(()) };
        write!(f, "; {about} {} for {} steps", duration(total), text::count(steps))
    }
}

/// Seconds of a full step.
fn seconds_per_step(run: &TimedRun, compute: &Compute, progress: &dyn Progress) -> Result<f64> {
    let most = StandIn::affordable_tokens(run)?;
    progress.start("Timing a layer", None, "runs");
    let costs = fenced("timing a layer", || Costs::measure(run, compute, most, progress));
    progress.finish();
    costs?.map(|costs| costs.step(run))
}

#[cfg(test)]
mod tests;
