//! Direct preference optimisation and its relatives: of two answers to a prompt, the one that is preferred becomes more likely
//! than the other, measured against the policy that the run starts from.
//!
//! With `c` and `r` how much more likely the chosen and the rejected answer are than under the reference (`log p - log p_ref`,
//! summed over the answer), each loss is a function of the two, whose slopes are what the log-probabilities of the answers' tokens
//! get from above. All of that is in f64.
//!
//! # Source
//! TRL 1.16, `DPOTrainer._compute_loss`, with the papers that it names; goldens by `scripts/make_preference_goldens.py`.

mod loss;

pub use loss::DpoLoss;

use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::MicroBatch;
use loss::Pair;

/// Learns which of two answers is preferred.
#[derive(Debug, Clone, PartialEq)]
pub struct Dpo {
    /// How much a difference from the reference counts.
    pub beta: f64,
    /// How likely it is that a preference is the wrong way round.
    pub label_smoothing: f64,
    /// What is added up, each with its weight.
    pub losses: Vec<(DpoLoss, f64)>,
}

impl Objective for Dpo {
    fn needs(&self) -> Needs {
        Needs { reference: true, ..Needs::default() }
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts::of_pairs(batch)
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        seen.judged(batch, with_gradient, |logps| self.judge(logps, batch, scales))
    }
}

impl Dpo {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        let sequences = batch.sequences();
        // A sequence that nobody asked the reference about makes a loss that is no number, which a run stops at.
        let reference = |sequence: usize| batch.reference.get(sequence).copied().unwrap_or(f64::NAN);
        for (at, pair) in sequences.chunks_exact(2).enumerate() {
            let [chosen, rejected] = [&pair[0], &pair[1]];
            let [of_chosen, of_rejected] = [chosen, rejected].map(|s| logps.values[s.clone()].iter().sum::<f64>());
            let measured = Pair {
                chosen: of_chosen - reference(2 * at),
                rejected: of_rejected - reference(2 * at + 1),
                chosen_tokens: chosen.len(),
                rejected_tokens: rejected.len(),
            };
            for &(kind, weight) in &self.losses {
                let Some([loss, by_chosen, by_rejected]) = kind.of(&measured, self.beta, self.label_smoothing) else {
                    // The mean over tokens, not over pairs, of the answers that are chosen.
                    score.loss -= weight * of_chosen * scales.tokens / scales.units;
                    upstream[chosen.clone()].iter_mut().for_each(|sum| *sum -= weight * scales.tokens);
                    continue;
                };
                score.loss += weight * loss;
                for (sequence, slope) in [(chosen, by_chosen), (rejected, by_rejected)] {
                    upstream[sequence.clone()].iter_mut().for_each(|sum| *sum += weight * slope * scales.units);
                }
            }
            let by = [measured.chosen, measured.rejected];
            score.metrics.take_pair(self.beta, by, [of_chosen, of_rejected]);
        }
        (score, upstream)
    }
}
