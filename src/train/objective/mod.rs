//! What stands between the last hidden state and the gradient. One file for each objective.
//!
//! An objective gets the normalised hidden rows that have a loss, and gives a loss, its gradient with respect to these rows, and
//! named metrics. What a window's loss is a mean over is its own to say: tokens, or pairs. The loop, accumulation, replicas,
//! checkpoints and events know none by name.

mod advantages;
mod cpo;
mod dpo;
mod grpo;
mod kto;
mod metrics;
mod orpo;
mod reward;
mod rloo;
mod sft;
mod smooth;

pub use advantages::{Spread, deviation, leave_one_out, mean_of, relative_to_group};
pub use cpo::{Cpo, CpoLoss};
pub use dpo::{Dpo, DpoLoss};
pub use grpo::{Grpo, GrpoLoss};
pub use kto::{Kto, KtoLoss};
pub use metrics::Metrics;
pub use orpo::Orpo;
pub use reward::Reward;
pub use rloo::Rloo;
pub use sft::Sft;

use crate::nn::cross_entropy::{Head, LogProbabilities, linear_log_probabilities};
use crate::train::micro_batch::MicroBatch;
use burn::tensor::Tensor;
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, Range};

/// What an objective must find in a micro-batch beside tokens and targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// The log-probability of each sequence under the policy that the run starts from.
    pub reference: bool,
    /// The other tokens of the first sequence of each pair as targets, beside those of its answer: its prompt's.
    pub prompts: bool,
    /// Prompts with answers to others, which are read and not learnt: [`MicroBatch::mismatched`].
    pub mismatched: bool,
    /// What a head beside the model makes of the last token of each sequence, in the place of hidden rows: [`MicroBatch::at_ends`].
    pub scores: bool,
}

/// How much there is to take means over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// What a window's loss is the mean over: supervised tokens, pairs, or answers.
    pub units: usize,
    /// Tokens that have a loss of their own.
    pub tokens: usize,
}

impl Counts {
    /// Of pairs: how many there are, and the tokens of their first sequences.
    fn of_pairs(batch: &MicroBatch) -> Self {
        let sequences = batch.sequences();
        Counts { units: sequences.len() / 2, tokens: sequences.iter().step_by(2).map(Range::len).sum() }
    }

    /// The loss of so much, of which the sums over units and over tokens are these.
    pub fn mean(self, loss: f64, token_loss: f64) -> f64 {
        let [units, tokens] = [self.units, self.tokens].map(|count| count.max(1) as f64);
        loss / units + token_loss / tokens
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts { units: self.units + other.units, tokens: self.tokens + other.tokens }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), Add::add)
    }
}

/// What sums over a window are multiplied by to be its means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Of sums over units.
    pub units: f64,
    /// Of sums over tokens.
    pub tokens: f64,
}

impl From<Counts> for Scales {
    fn from(counts: Counts) -> Self {
        let [units, tokens] = [counts.units, counts.tokens].map(|count| 1.0 / count.max(1) as f64);
        Scales { units, tokens }
    }
}

/// What an objective says of a micro-batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Its loss, summed over its units: the scale of units makes it its share of the window's loss.
    pub loss: f64,
    /// What is added to that as a mean over tokens, as their sum: the scale of tokens makes it its share.
    pub token_loss: f64,
    /// What else there is to know.
    pub metrics: Metrics,
}

/// What a model makes of a micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The normalised hidden rows, `[m, d]`, one for each target of the micro-batch; `[m, 1]` where the objective needs scores of
    /// them.
    pub hidden: &'a Tensor<2>,
    /// The model's head.
    pub head: Head<'a>,
    /// The log-probability of each sequence of [`MicroBatch::mismatched`], where the objective needs them.
    pub mismatched: &'a [f64],
}

impl Seen<'_> {
    /// What `judge` says of the log-probabilities of a micro-batch's targets: a score, and the gradient of its share of the
    /// window's loss with respect to each of them.
    fn judged(
        self,
        batch: &MicroBatch,
        with_gradient: bool,
        judge: impl FnOnce(&LogProbabilities) -> (Score, Vec<f64>),
    ) -> Scored {
        self.judged_at(1.0, batch, with_gradient, judge)
    }

    /// The same of logits that are divided by `temperature`, as they are where answers are drawn.
    fn judged_at(
        self,
        temperature: f64,
        batch: &MicroBatch,
        with_gradient: bool,
        judge: impl FnOnce(&LogProbabilities) -> (Score, Vec<f64>),
    ) -> Scored {
        if temperature != 1.0 {
            let cooled = self.hidden.clone().div_scalar(temperature);
            let seen = Seen { hidden: &cooled, head: self.head.cooled(temperature), ..self };
            let Scored { score, gradient } = seen.judged(batch, with_gradient, judge);
            return Scored { score, gradient: gradient.map(|gradient| gradient.div_scalar(temperature)) };
        }
        let logps = linear_log_probabilities(self.hidden, self.head, &batch.targets, with_gradient);
        let (score, upstream) = judge(&logps);
        Scored { score, gradient: logps.backward(&upstream) }
    }
}

/// A [`Score`], and how it changes with the hidden rows.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The score.
    pub score: Score,
    /// The gradient of the micro-batch's share of the window's loss with respect to what was seen, `[m, d]` or `[m, 1]`, where it was
    /// asked for.
    pub gradient: Option<Tensor<2>>,
}

/// What is made of hidden rows.
pub trait Objective: Debug + Send + Sync {
    /// What it must find in a micro-batch.
    fn needs(&self) -> Needs;

    /// How much of what it takes means over there is in a micro-batch.
    fn counts(&self, batch: &MicroBatch) -> Counts;

    /// The score of a micro-batch in a window of these `scales`, with the gradient where `with_gradient` says so.
    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored;
}

/// An objective, and the means of the window that is being summed up.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    /// The objective.
    pub objective: &'a dyn Objective,
    /// What makes sums the means of the window.
    pub scales: Scales,
}

impl<'a> Goal<'a> {
    /// Of a whole window.
    pub fn of(objective: &'a dyn Objective, window: &[MicroBatch]) -> Self {
        Goal { objective, scales: window.iter().map(|batch| objective.counts(batch)).sum::<Counts>().into() }
    }

    /// Supervised fine-tuning, with gradients that are multiplied by `scale`.
    pub fn sft(scale: f64) -> Self {
        Goal { objective: &Sft, scales: Scales { units: scale, tokens: scale } }
    }
}
