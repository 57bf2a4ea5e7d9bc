//! Contrastive preference optimisation and SimPO: as DPO, without a reference, and with the likelihood of the chosen answer beside
//! the preference.
//!
//! With `c` and `r` the log-probability of the chosen and of the rejected answer, of SimPO and IPO the mean of their tokens, a pair's
//! loss is `-log sigmoid(beta (c - r) - gamma)`, where SimPO's `gamma` is how far apart they are to be; or SLiC's,
//! `max(0, 1 - beta (c - r))`; or IPO's, `(c - r - 1 / (2 beta))^2`. AlphaPO takes `(1 - exp(-alpha c)) / alpha` in the place of
//! `c`, and likewise of `r`. To the mean over pairs comes the mean negative log-likelihood of the chosen answers' tokens, times
//! `cpo_alpha`. All of that is in f64.
//!
//! # Source
//! Xu et al. 2024, equation 3; Meng et al. 2024, equation 6; Gupta et al. 2025; TRL 1.16, `CPOTrainer.get_batch_loss_metrics`; goldens by
//! `scripts/make_preference_goldens.py`.

use super::smooth::{sigmoid, softplus};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::MicroBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is made of how much more likely the chosen answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpoLoss {
    // Of sums of log-probabilities.
    /// CPO's, without a reference: `cpo_alpha` is how much the likelihood of the chosen answers counts beside it.
    Cpo,
    // Of sums.
    /// SLiC's, without a reference: CPO's with a hinge.
    CpoHinge,
    /// IPO's, without a reference, of log-probabilities per token.
    CpoIpo,
    // Of means, which are to be `simpo_gamma` apart; with an `alpha` other than 0 AlphaPO's.
    /// SimPO's, without a reference, of log-probabilities per token: the same, and `simpo_gamma`.
    Simpo,
}

/// Learns which of two answers is preferred, measured against nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpo {
    /// How much a difference counts.
    pub beta: f64,
    /// How likely it is that a preference is the wrong way round; of `Cpo` and `Simpo`.
    pub label_smoothing: f64,
    /// How much the likelihood of the chosen answer counts.
    pub cpo_alpha: f64,
    /// The loss.
    pub loss: CpoLoss,
    /// Of `Simpo` how far apart a pair's rewards are to be.
    pub simpo_gamma: f64,
    /// Of `Simpo` how rewards bend: above 0 unlikely answers count more.
    pub alpha: f64,
}

impl Objective for Cpo {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts::of_pairs(batch)
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        seen.judged(batch, with_gradient, |logps| self.judge(logps, batch, scales))
    }
}

impl Cpo {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        for pair in batch.sequences().chunks_exact(2) {
            let sums = [0, 1].map(|which| logps.values[pair[which].clone()].iter().sum::<f64>());
            let per = [0, 1].map(|which: usize| match self.loss {
                CpoLoss::Simpo | CpoLoss::CpoIpo => 1.0 / pair[which].len().max(1) as f64,
                CpoLoss::Cpo | CpoLoss::CpoHinge => 1.0,
            });
            let logs = [sums[0] * per[0], sums[1] * per[1]];
            let [(chosen, of_chosen), (rejected, of_rejected)] = logs.map(|log| self.reward(log));
            let (loss, slope) = self.of(chosen - rejected);
            score.loss += loss;
            for (sequence, by) in pair.iter().zip([slope * of_chosen * per[0], -slope * of_rejected * per[1]]) {
                upstream[sequence.clone()].iter_mut().for_each(|sum| *sum += by * scales.units);
            }
            score.token_loss -= self.cpo_alpha * sums[0];
            upstream[pair[0].clone()].iter_mut().for_each(|sum| *sum -= self.cpo_alpha * scales.tokens);
            score.metrics.take("nll_loss", logps.values[pair[0].clone()].iter().map(|logp| -logp));
            score.metrics.take_pair(self.beta, [chosen, rejected], logs);
        }
        (score, upstream)
    }

    /// What an answer of this log-probability is worth, and how that changes with it.
    fn reward(&self, log: f64) -> (f64, f64) {
        let alpha = self.alpha;
        match self.loss {
            CpoLoss::Simpo if alpha != 0.0 => (-(-alpha * log).exp_m1() / alpha, (-alpha * log).exp()),
            _ => (log, 1.0),
        }
    }

    /// The loss of a pair whose rewards are so far apart, and how it changes with that.
    fn of(&self, apart: f64) -> (f64, f64) {
        let (beta, noise) = (self.beta, self.label_smoothing);
        let smooth = |margin: f64| {
            let slope = noise * sigmoid(margin) - (1.0 - noise) * sigmoid(-margin);
            ((1.0 - noise) * softplus(-margin) + noise * softplus(margin), beta * slope)
        };
        match self.loss {
            CpoLoss::Cpo => smooth(beta * apart),
            CpoLoss::Simpo => smooth(beta * apart - self.simpo_gamma),
            CpoLoss::CpoHinge if beta * apart >= 1.0 => (0.0, 0.0),
            CpoLoss::CpoHinge => (1.0 - beta * apart, -beta), // of what is no number none, too
            CpoLoss::CpoIpo => {
                let beyond = apart - 1.0 / (2.0 * beta);
                (beyond * beyond, 2.0 * beyond)
            }
        }
    }
}
