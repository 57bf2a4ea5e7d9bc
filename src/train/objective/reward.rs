//! Reward models: a head gives each text a number, and learns that the number of a preferred answer is the larger (Bradley and Terry),
//! or, of texts that somebody judged one by one, that it is above 0 for the good ones and below for the bad ones.
//!
//! With `c` and `r` what it gives the chosen and the rejected answer of a pair, and `m` by how much the one is better where a row says
//! so, the loss of a pair is `-log sigmoid(c - r - m)`, and `k (c + r)^2` beside it where rewards are to have their mean at 0. All of
//! that is in f64; a reward is read at the last token of its sequence. Of a text that is judged by itself the reward `x` is the logit
//! that it is good: the loss is the binary cross-entropy, `-log sigmoid(x)` of a good one and `-log sigmoid(-x)` of a bad one.
//!
//! # Source
//! TRL 1.16, `RewardTrainer.compute_loss`; Eisenstein et al. 2023, equation 2 (the centre); goldens by
//! `scripts/make_preference_goldens.py`. PyTorch's `binary_cross_entropy_with_logits`, as transformers' classifiers of one label have
//! it.

use super::smooth::{sigmoid, softplus};
use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::train::micro_batch::MicroBatch;
use burn::tensor::{Tensor, TensorData};

/// Learns to tell which of two answers is preferred, or whether a text is good.
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
        match batch.desirable.is_empty() {
            true => Counts::of_pairs(batch),
            false => Counts { units: batch.sequences().len(), tokens: batch.supervised() },
        }
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
        if !batch.desirable.is_empty() {
            return judge_each(rewards, &batch.desirable);
        }
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

/// The same of texts of which each is good or not.
fn judge_each(rewards: &[f64], desirable: &[bool]) -> (Score, Vec<f64>) {
    let mut score = Score::default();
    if rewards.len() != desirable.len() {
        score.loss = f64::NAN; // as above
    }
    let slope_of = |(reward, is_good): (f64, bool)| {
        let sign = if is_good { 1.0 } else { -1.0 };
        score.loss += softplus(-sign * reward);
        let metrics = &mut score.metrics;
        metrics.take("accuracy", [f64::from(u8::from(sign * reward > 0.0))]);
        metrics.take("mean_reward", [reward]);
        metrics.least("min_reward", reward);
        metrics.most("max_reward", reward);
        -sign * sigmoid(-sign * reward)
    };
    let mut slopes: Vec<f64> = rewards.iter().copied().zip(desirable.iter().copied()).map(slope_of).collect();
    slopes.resize(rewards.len(), 0.0);
    (score, slopes)
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
    fn what_is_judged_by_itself_has_the_loss_of_a_classifier() {
        let reward = Reward { center_rewards_coefficient: 0.0 };
        let batch = |desirable: &[bool]| {
            let lengths = vec![2; desirable.len()];
            let inputs = Inputs::text(vec![0; 2 * lengths.len()], Segments::from_lengths(lengths));
            let all = MicroBatch::of(inputs, &vec![0; 2 * desirable.len()]).at_ends();
            MicroBatch { desirable: desirable.to_vec(), ..all }
        };
        let three = batch(&[true, false, false]);
        assert_eq!(reward.counts(&three), Counts { units: 3, tokens: 3 });
        let rewards = [0.0, 3f64.ln(), -3f64.ln()];
        let (score, slopes) = reward.judge(&rewards, &three);
        // -ln(1/2) - ln(1/4) - ln(3/4), of which the slopes are sigmoid(x) less 1 where it is good.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(score.loss, 2f64.ln() + 4f64.ln() + (4f64 / 3.0).ln()), "{}", score.loss);
        assert!(slopes.iter().zip([-0.5, 0.75, 0.25]).all(|(slope, right)| near(*slope, right)), "{slopes:?}");
        let means = score.metrics.means();
        let got = ["accuracy", "min_reward", "max_reward"].map(|name| means[name]);
        assert!(got == [1.0 / 3.0, -3f64.ln(), 3f64.ln()] && !means.contains_key("margin"), "{means:?}");
        // One after the other they are what they are at once, and none is more than there is.
        let apart = |at: usize| reward.judge(&rewards[at..=at], &batch(&[at == 0])).0.loss;
        assert!(near(score.loss, apart(0) + apart(1) + apart(2)));
        let far = reward.judge(&[-1e4, 1e4], &batch(&[true, true]));
        assert_eq!((far.0.loss, far.1), (1e4, vec![-1.0, 0.0]));
        assert!(reward.judge(&[1.0], &three).0.loss.is_nan());
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
