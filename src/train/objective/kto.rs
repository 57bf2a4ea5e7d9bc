//! Kahneman-Tversky optimisation: of single answers that are good or bad, the good ones become more likely than under the policy
//! that the run starts from, and the bad ones less.
//!
//! With `x` how much more likely an answer is than under the reference (`log p - log p_ref`, summed over the answer), the loss is
//! `1 - sigmoid(beta (x - kl))` of a good answer and `1 - sigmoid(beta (kl - x))` of a bad one, each with its weight, in the mean
//! over all of them. `kl` says how far the policy as a whole has gone from the reference: of each prompt of the micro-batch with the
//! answer to another one the same difference, in the mean, and at least 0. It gets no gradient, and is each micro-batch's own, so
//! that several small ones are not the same as a large one.
//!
//! # Source
//! Ethayarajh et al. 2024, equations 7 and 8; TRL 1.16, `KTOTrainer._compute_loss`; goldens by
//! `scripts/make_preference_goldens.py`.

use super::smooth::{bump, mean, sigmoid};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::MicroBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A loss of single answers, by TRL's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KtoLoss {
    // Ethayarajh et al. 2024.
    /// KTO's own, of single answers.
    Kto,
    // Estimates no `kl`: D'Oosterlinck et al. 2024.
    /// APO's for good answers that are better than the model's own, of single answers.
    ApoZeroUnpaired,
}

/// Learns from answers that are good or bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// How much a difference from the reference counts.
    pub beta: f64,
    /// The loss.
    pub loss: KtoLoss,
    /// What the losses of good answers are multiplied by.
    pub desirable_weight: f64,
    /// What those of bad ones are multiplied by.
    pub undesirable_weight: f64,
}

impl Objective for Kto {
    fn needs(&self) -> Needs {
        Needs { reference: true, mismatched: self.loss == KtoLoss::Kto, ..Needs::default() }
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts { units: batch.inputs.segments.ranges().len(), tokens: batch.supervised() }
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        let kl = self.kl(seen.mismatched, batch);
        seen.judged(batch, with_gradient, |logps| self.judge(logps, kl, batch, scales))
    }
}

impl Kto {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, kl: f64, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        for (at, sequence) in batch.sequences().into_iter().enumerate() {
            let sum = logps.values[sequence.clone()].iter().sum::<f64>();
            // A sequence that nobody asked the reference about, or that nobody judged, makes a loss that is no number.
            let reference = batch.reference.get(at).copied().unwrap_or(f64::NAN);
            let is_good = batch.desirable.get(at).copied();
            let moved = sum - reference;
            let (sign, weight, [reward, logp]) = match is_good {
                Some(true) => (1.0, self.desirable_weight, ["rewards/chosen", "logps/chosen"]),
                Some(false) => (-1.0, self.undesirable_weight, ["rewards/rejected", "logps/rejected"]),
                None => (f64::NAN, f64::NAN, ["rewards/chosen", "logps/chosen"]),
            };
            let gain = sign * self.beta * (moved - kl);
            score.loss += weight * sigmoid(-gain);
            let slope = -weight * sign * self.beta * bump(gain);
            upstream[sequence].iter_mut().for_each(|sum| *sum += slope * scales.units);
            score.metrics.take(reward, [self.beta * moved]);
            score.metrics.take(logp, [sum]);
        }
        score.metrics.difference("rewards/margins", ["rewards/chosen", "rewards/rejected"]);
        score.metrics.take("kl", [kl]);
        (score, upstream)
    }

    /// How far the policy has gone, as answers to other prompts show it.
    fn kl(&self, mismatched: &[f64], batch: &MicroBatch) -> f64 {
        if !self.needs().mismatched {
            return 0.0;
        }
        let Some(others) = batch.mismatched.as_deref().filter(|others| others.reference.len() == mismatched.len())
        else {
            return f64::NAN; // a loss that is no number, which a run stops at
        };
        let kl = mean(mismatched.iter().zip(&others.reference).map(|(policy, reference)| policy - reference));
        if kl < 0.0 { 0.0 } else { kl }
    }
}
