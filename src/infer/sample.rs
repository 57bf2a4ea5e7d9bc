//! Choosing the next token from logits.

use crate::random::Stream;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only the `top_k` most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability; 1 for all.
    pub top_p: f64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// Chooses a token. Among equal logits the smallest id wins, as in the reference.
    ///
    /// # Numerics
    /// Softmax in f64 with the maximum taken out; a logit that is not a number is never chosen.
    pub fn choose(&self, logits: &[f32], random: &mut Stream) -> u32 {
        let best = argmax(logits);
        if self.temperature <= 0.0 {
            return best as u32;
        }
        let mut order: Vec<usize> = (0..logits.len()).filter(|&i| !logits[i].is_nan()).collect();
        let by_logit = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
        if self.top_k > 0 && self.top_k < order.len() {
            order.select_nth_unstable_by(self.top_k - 1, by_logit);
            order.truncate(self.top_k);
        }
        order.sort_unstable_by(by_logit);
        let highest = f64::from(logits[best]);
        let weight = |&i: &usize| ((f64::from(logits[i]) - highest) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let kept = nucleus(&weights, self.top_p);
        let mut left = random.unit() * weights[..kept].iter().sum::<f64>();
        for (&token, weight) in order.iter().zip(&weights[..kept]) {
            left -= weight;
            if left < 0.0 {
                return token as u32;
            }
        }
        best as u32
    }
}

impl Sampling {
    /// As [`Sampling::choose`] with the same probabilities, but where every token may be chosen without putting them in order, which
    /// takes longer than all else: the same random number means another token then.
    ///
    /// # Numerics
    /// As [`Sampling::choose`].
    pub fn draw(&self, logits: &[f32], random: &mut Stream) -> u32 {
        if self.temperature <= 0.0 || self.top_k > 0 || self.top_p < 1.0 {
            return self.choose(logits, random);
        }
        let best = argmax(logits);
        let highest = f64::from(logits[best]);
        let weight = |logit: &f32| match logit.is_nan() {
            true => 0.0,
            false => ((f64::from(*logit) - highest) / self.temperature).exp(),
        };
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        let mut left = random.unit() * weights.iter().sum::<f64>();
        for (token, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return token as u32;
            }
        }
        best as u32
    }
}

/// How many of the sorted weights are needed for a share of `top_p` of their sum; at least one.
fn nucleus(weights: &[f64], top_p: f64) -> usize {
    let needed = top_p * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum >= needed
    });
    reached.map_or(weights.len(), |index| index + 1)
}

fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Label, Rng};

    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut random = Rng::new(7).stream(&[Label::Purpose("test")]);
        let mut counts = vec![0; logits.len()];
        (0..4000).for_each(|_| counts[sampling.choose(logits, &mut random) as usize] += 1);
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(counts(Sampling::GREEDY, &[0.0, 3.0, f32::NAN, 3.0]), [0, 4000, 0, 0]);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [1f32.ln(), 3f32.ln(), 4f32.ln()]; // probabilities 1/8, 3/8, 4/8
        let all = counts(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 }, &logits);
        for (count, expected) in all.iter().zip([500.0, 1500.0, 2000.0]) {
            assert!((*count as f64 - expected).abs() < 120.0, "{all:?}");
        }
        let two = counts(Sampling { temperature: 1.0, top_k: 2, top_p: 1.0 }, &logits);
        assert_eq!(two[0], 0);
        let mut random = Rng::new(7).stream(&[Label::Purpose("drawn")]);
        let mut drawn = [0; 3];
        let any = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0 };
        (0..4000).for_each(|_| drawn[any.draw(&logits, &mut random) as usize] += 1);
        // Square roots of 1, 3 and 4.
        for (count, expected) in drawn.iter().zip([843.0, 1461.0, 1687.0]) {
            assert!((f64::from(*count) - expected).abs() < 120.0, "{drawn:?}");
        }
        let nucleus = counts(Sampling { temperature: 1.0, top_k: 0, top_p: 0.49 }, &logits);
        assert_eq!(nucleus, [0, 0, 4000]);
    }
}
