//! How much better an answer is than was to be expected of its prompt, from the rewards of several answers to it.
//!
//! # Source
//! TRL 1.16, `GRPOTrainer` and `RLOOTrainer`, `_generate_and_score_completions`.

/// Keeps what is divided by a spread finite, as in TRL.
const EPSILON: f64 = 1e-4;

/// What differences from a group's mean are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The standard deviation of the group.
    Group,
    /// That of all groups of a step together.
    Batch,
    /// Nothing.
    None,
}

/// What each reward has more than the mean of its group, which are `size` that follow one another, divided by their spread.
pub fn relative_to_group(rewards: &[f64], size: usize, spread: Spread) -> Vec<f64> {
    let of_all = deviation(rewards);
    let of_group = |group: &[f64]| {
        let by = match spread {
            Spread::Group => deviation(group) + EPSILON,
            Spread::Batch => of_all + EPSILON,
            Spread::None => 1.0,
        };
        let mean = mean_of(group);
        group.iter().map(|reward| (reward - mean) / by).collect::<Vec<_>>()
    };
    rewards.chunks(size.max(1)).flat_map(of_group).collect()
}

/// What each reward has more than the mean of the others of its group, which are `size` that follow one another; `normalised` over
/// all of them.
pub fn leave_one_out(rewards: &[f64], size: usize, normalised: bool) -> Vec<f64> {
    let of_group = |group: &[f64]| {
        let (sum, others) = (group.iter().sum::<f64>(), group.len().saturating_sub(1).max(1) as f64);
        group.iter().map(|reward| reward - (sum - reward) / others).collect::<Vec<_>>()
    };
    let advantages: Vec<f64> = rewards.chunks(size.max(1)).flat_map(of_group).collect();
    if !normalised {
        return advantages;
    }
    let (mean, by) = (mean_of(&advantages), deviation(&advantages) + EPSILON);
    advantages.iter().map(|advantage| (advantage - mean) / by).collect()
}

/// The mean; 0 of nothing.
pub fn mean_of(values: &[f64]) -> f64 {
    super::smooth::mean(values.iter().copied())
}

/// The standard deviation of values that are a sample, as PyTorch has it; 0 of fewer than two, and exactly 0 of equal ones.
pub fn deviation(values: &[f64]) -> f64 {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        return 0.0;
    }
    let mean = mean_of(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-5, "{got:?}, expected {expected:?}");
    }

    /// Numbers by hand of TRL's formulas.
    #[test]
    fn advantages_are_those_of_trl() {
        let rewards = [1.0, 0.0, 0.5, 2.0, 2.0, 2.0];
        close(&relative_to_group(&rewards, 3, Spread::Group), &[0.9998, -0.9998, 0.0, 0.0, 0.0, 0.0]);
        close(&relative_to_group(&rewards, 3, Spread::None), &[0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
        let of_all = 0.5 / (0.880_340_843 + 1e-4);
        close(&relative_to_group(&rewards, 3, Spread::Batch), &[of_all, -of_all, 0.0, 0.0, 0.0, 0.0]);
        close(&leave_one_out(&rewards, 3, false), &[0.75, -0.75, 0.0, 0.0, 0.0, 0.0]);
        let of_advantages = 0.75 / (0.474_341_649 + 1e-4);
        close(&leave_one_out(&rewards, 3, true), &[of_advantages, -of_advantages, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn equal_rewards_have_no_advantage_to_the_last_bit() {
        for value in [0.1, 1.0 / 3.0, 1e9] {
            assert_eq!(deviation(&[value; 7]), 0.0);
            assert!(relative_to_group(&[value; 7], 7, Spread::Group).iter().all(|advantage| advantage.abs() < 1e-3));
        }
        assert_eq!((deviation(&[]), deviation(&[3.0])), (0.0, 0.0));
    }
}
