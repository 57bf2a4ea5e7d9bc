//! Odds ratio preference optimisation: what is preferred is learnt as supervised fine-tuning learns it, and becomes more likely than
//! what is not. There is no reference.
//!
//! With `c` and `r` the mean log-probability of a token of the chosen and of the rejected answer, a pair's loss is
//! `-beta log sigmoid(log_odds(c) - log_odds(r))`, and to the mean over pairs comes the mean negative log-likelihood of the chosen
//! sequences' tokens: as TRL has it those of the prompt too, or of the answer alone. All of that is in f64.
//!
//! # Source
//! Hong et al. 2024, equations 4 to 7; TRL 1.16, `ORPOTrainer.get_batch_loss_metrics`; goldens by
//! `scripts/make_preference_goldens.py`.

use super::smooth::{log_odds, mean, sigmoid, softplus};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::MicroBatch;

/// Learns which of two answers is preferred, and to give it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    /// How much the odds count beside the likelihood.
    pub beta: f64,
    /// Whether the likelihood is that of the prompt too.
    pub nll_on_prompt: bool,
}

impl Objective for Orpo {
    fn needs(&self) -> Needs {
        Needs { prompts: self.nll_on_prompt, ..Needs::default() }
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts::of_pairs(batch)
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        seen.judged(batch, with_gradient, |logps| self.judge(logps, batch, scales))
    }
}

impl Orpo {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        for pair in batch.sequences().chunks_exact(2) {
            let answers = [&pair[0], &pair[1]].map(|sequence| batch.answer(sequence));
            let [chosen, rejected] = [0, 1].map(|which| mean(answers[which].iter().map(|&at| logps.values[at])));
            let [[odds_chosen, by_chosen], [odds_rejected, by_rejected]] = [chosen, rejected].map(log_odds);
            let log_odds_chosen = odds_chosen - odds_rejected;
            let ratio = -softplus(-log_odds_chosen);
            score.loss -= self.beta * ratio;
            let slope = -self.beta * sigmoid(-log_odds_chosen);
            for (answer, by) in answers.iter().zip([slope * by_chosen, -slope * by_rejected]) {
                let of_token = by * scales.units / answer.len().max(1) as f64;
                answer.iter().for_each(|&at| upstream[at] += of_token);
            }
            for at in pair[0].clone() {
                score.token_loss -= logps.values[at];
                upstream[at] -= scales.tokens;
            }
            let metrics = &mut score.metrics;
            metrics.take("nll_loss", logps.values[pair[0].clone()].iter().map(|logp| -logp));
            metrics.take("log_odds_ratio", [ratio]);
            metrics.take("log_odds_chosen", [log_odds_chosen]);
            metrics.take_pair(self.beta, [chosen, rejected], [chosen, rejected]);
        }
        (score, upstream)
    }
}
