//! REINFORCE with a baseline of the other answers: of several answers that the policy gave to a prompt, each is measured against the
//! mean of the others.
//!
//! As GRPO's, but of whole answers: with `r = exp(log p - log p_old)`, log-probabilities summed over an answer, the loss is
//! `-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)`, in the mean over answers. How far the policy has gone from where the run
//! starts is part of the reward. All of that is in f64.
//!
//! # Source
//! Ahmadian et al. 2024, equation 8; TRL 1.16, `RLOOTrainer._compute_loss`; goldens by `scripts/make_rollout_goldens.py`.

use super::grpo::clipped;
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::{MicroBatch, Rollout};

/// Learns from the policy's own answers, each judged against the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rloo {
    /// How much less likely than when it was said an answer may become.
    pub epsilon: f64,
    /// How much more likely it may become.
    pub epsilon_high: f64,
    /// What logits were divided by where answers were drawn.
    pub temperature: f64,
}

impl Objective for Rloo {
    fn needs(&self) -> Needs {
        Needs::default() // what it needs of answers comes with them
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts { units: batch.sequences().len(), tokens: batch.supervised() }
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        seen.judged_at(self.temperature, batch, with_gradient, |logps| self.judge(logps, batch, scales))
    }
}

impl Rloo {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        let unknown = Rollout::default();
        let rollout = batch.rollout.as_deref().unwrap_or(&unknown);
        for (answer, tokens) in batch.sequences().into_iter().enumerate() {
            // An answer that nobody judged makes a loss that is no number, which a run stops at.
            let advantage = rollout.advantages.get(answer).copied().unwrap_or(f64::NAN);
            if rollout.is_learnt.get(answer) == Some(&false) {
                score.loss -= advantage; // as likely as it was
                continue;
            }
            let moved = |at: usize| rollout.old.get(at).map_or(0.0, |old| logps.values[at] - old);
            let ratio = tokens.clone().map(moved).sum::<f64>().exp();
            let judged = clipped(ratio, advantage, self.epsilon, self.epsilon_high);
            score.loss += judged.loss;
            upstream[tokens].iter_mut().for_each(|sum| *sum += judged.slope * scales.units);
            let share = |is: bool| [f64::from(u8::from(is))];
            score.metrics.take("clip_ratio/low_mean", share(judged.is_low));
            score.metrics.take("clip_ratio/high_mean", share(judged.is_high));
            score.metrics.take("clip_ratio/region_mean", share(judged.is_low || judged.is_high));
        }
        (score, upstream)
    }
}
