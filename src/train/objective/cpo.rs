//! Contrastive preference optimisation and SimPO: as DPO, without a reference, and with the likelihood of the chosen answer beside
//! the preference.
//!
//! With `c` and `r` the log-probability of the chosen and of the rejected answer, of SimPO the mean of their tokens, a pair's loss is
//! `-log sigmoid(beta (c - r) - gamma)`, where SimPO's `gamma` is how far apart they are to be. To the mean over pairs comes the
//! mean negative log-likelihood of the chosen answers' tokens, times `cpo_alpha`. All of that is in f64.
//!
//! # Source
//! Xu et al. 2024, equation 3; Meng et al. 2024, equation 6; TRL 1.16, `CPOTrainer.get_batch_loss_metrics`; goldens by
//! `scripts/make_preference_goldens.py`.

use super::smooth::{sigmoid, softplus};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::MicroBatch;

/// Learns which of two answers is preferred, measured against nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpo {
    /// How much a difference counts.
    pub beta: f64,
    /// How likely it is that a preference is the wrong way round.
    pub label_smoothing: f64,
    /// How much the likelihood of the chosen answer counts.
    pub cpo_alpha: f64,
    /// Of SimPO how far apart a pair's rewards are to be; without it sums of log-probabilities are compared.
    pub simpo_gamma: Option<f64>,
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
            let per = [0, 1].map(|which: usize| match self.simpo_gamma {
                Some(_) => 1.0 / pair[which].len().max(1) as f64,
                None => 1.0,
            });
            let [chosen, rejected] = [sums[0] * per[0], sums[1] * per[1]];
            let margin = self.beta * (chosen - rejected) - self.simpo_gamma.unwrap_or(0.0);
            let noise = self.label_smoothing;
            score.loss += (1.0 - noise) * softplus(-margin) + noise * softplus(margin);
            let slope = self.beta * (noise * sigmoid(margin) - (1.0 - noise) * sigmoid(-margin));
            for (sequence, by) in pair.iter().zip([slope * per[0], -slope * per[1]]) {
                upstream[sequence.clone()].iter_mut().for_each(|sum| *sum += by * scales.units);
            }
            score.token_loss -= self.cpo_alpha * sums[0];
            upstream[pair[0].clone()].iter_mut().for_each(|sum| *sum -= self.cpo_alpha * scales.tokens);
            score.metrics.take("nll_loss", logps.values[pair[0].clone()].iter().map(|logp| -logp));
            score.metrics.take_pair(self.beta, [chosen, rejected], [chosen, rejected]);
        }
        (score, upstream)
    }
}
