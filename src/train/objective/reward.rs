//! Reward models: a head gives each text a number, and learns that the number of a preferred answer is the larger (Bradley and Terry).
//!
//! With `c` and `r` what it gives the chosen and the rejected answer of a pair, and `m` by how much the one is better where a row says
//! so, the loss of a pair is `-log sigmoid(c - r - m)`, and `k (c + r)^2` beside it where rewards are to have their mean at 0. All of
//! that is in f64; a reward is read at the last token of its sequence.
//!
//! # Source
//! TRL 1.16, `RewardTrainer.compute_loss`; Eisenstein et al. 2023, equation 2 (the centre); goldens by
//! `scripts/make_preference_goldens.py`.

use super::smooth::{sigmoid, softplus};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::train::micro_batch::MicroBatch;
use burn::tensor::{Tensor, TensorData};

/// Learns to tell which of two answers is preferred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reward {
    /// `k`: how much it counts that rewards are far from 0.
    pub center_rewards_coefficient: f64,
}

impl Objective for Reward {
    fn needs(&self) -> Needs {
        Needs { scores: true, ..Needs::default() }
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts::of_pairs(batch)
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        let rewards: Vec<f64> = seen.hidden.to_data().iter::<f32>().map(f64::from).collect();
        let (score, slopes) = self.judge(&rewards, batch);
        let gradient = with_gradient.then(|| {
            let slopes: Vec<f32> = slopes.into_iter().map(|slope| (slope * scales.units) as f32).collect();
            let shape = [slopes.len(), 1];
            Tensor::from_data(TensorData::new(slopes, shape), &seen.hidden.device())
        });
        Scored { score, gradient }
    }
}

impl Reward {
    /// The score of the rewards of a micro-batch's sequences, and how its loss changes with each.
    fn judge(&self, rewards: &[f64], batch: &MicroBatch) -> (Score, Vec<f64>) {
        let (mut score, mut slopes) = (Score::default(), Vec::with_capacity(rewards.len()));
        if rewards.len() != batch.inputs.segments.ranges().len() {
            score.loss = f64::NAN; // rewards of anything else than whole sequences, which a run stops at
        }
        let margins = batch.margins.iter().copied().chain(std::iter::repeat(0.0));
        for (pair, margin) in rewards.chunks_exact(2).zip(margins) {
            let &[chosen, rejected] = pair else { continue };
            let (more, sum) = (chosen - rejected, chosen + rejected);
            score.loss += softplus(margin - more) + self.center_rewards_coefficient * sum * sum;
            let (slope, centre) = (sigmoid(margin - more), 2.0 * self.center_rewards_coefficient * sum);
            slopes.extend([centre - slope, centre + slope]);
            let metrics = &mut score.metrics;
            metrics.take("accuracy", [f64::from(u8::from(more > 0.0))]);
            metrics.take("margin", [more]);
            metrics.take("mean_reward", [chosen, rejected]);
            metrics.least("min_reward", chosen.min(rejected));
            metrics.most("max_reward", chosen.max(rejected));
        }
        slopes.resize(rewards.len(), 0.0);
        (score, slopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Inputs;
    use crate::nn::Segments;

    fn batch(pairs: usize, margins: Vec<f64>) -> MicroBatch {
        let inputs = Inputs::text(vec![0; 4 * pairs], Segments::from_lengths(vec![2; 2 * pairs]));
        MicroBatch { margins, ..MicroBatch::of(inputs, &vec![0; 4 * pairs]).at_ends() }
    }

    #[test]
    fn slopes_are_those_of_the_loss() {
        const STEP: f64 = 1e-6;
        let batch = batch(2, vec![0.5, -1.0]);
        for center_rewards_coefficient in [0.0, 0.25] {
            let of = |rewards: &[f64]| Reward { center_rewards_coefficient }.judge(rewards, &batch);
            for rewards in [[0.0, 0.0, 1.5, -2.0], [-3.0, 2.5, 40.0, -30.0]] {
                for at in 0..4 {
                    let moved = |by: f64| {
                        let mut rewards = rewards;
                        rewards[at] += by;
                        of(&rewards).0.loss
                    };
                    let (measured, slope) = ((moved(STEP) - moved(-STEP)) / (2.0 * STEP), of(&rewards).1[at]);
                    assert!((measured - slope).abs() < 1e-6 * slope.abs().max(1.0), "{at}: {measured} {slope}");
                }
            }
        }
    }

    #[test]
    fn what_is_said_of_rewards_is_of_all_of_them() {
        let reward = Reward { center_rewards_coefficient: 0.0 };
        let (score, _) = reward.judge(&[1.0, 0.0, -2.0, 3.0], &batch(2, Vec::new()));
        let mut metrics = score.metrics;
        metrics.add(&reward.judge(&[7.0, 5.0], &batch(1, Vec::new())).0.metrics);
        let means = metrics.means();
        let got = ["accuracy", "margin", "mean_reward", "min_reward", "max_reward"].map(|name| means[name]);
        assert_eq!(got, [2.0 / 3.0, (1.0 - 5.0 + 2.0) / 3.0, 14.0 / 6.0, -2.0, 7.0]);
        assert!(reward.judge(&[1.0], &batch(1, Vec::new())).0.loss.is_nan());
    }
}
