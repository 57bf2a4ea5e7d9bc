//! Drawing from logits that a request has changed.

use crate::infer::request::{Choose, Sampler};

/// A [`Sampler`] of logits to which a request adds something first.
#[derive(Debug, Clone)]
pub struct Adjusted {
    /// Draws.
    pub sampler: Sampler,
    /// What is added to the logits of these tokens; -infinity forbids one.
    pub bias: Vec<(u32, f32)>,
    /// What the logit of each token loses that was said.
    pub presence_penalty: f32,
    /// What it loses for each time that it was said.
    pub frequency_penalty: f32,
}

impl Adjusted {
    /// The logits to draw from; `None` where they are those of the model.
    pub fn adjusted(&self, logits: &[f32], said: &[u32]) -> Option<Vec<f32>> {
        let penalises = (self.presence_penalty != 0.0 || self.frequency_penalty != 0.0) && !said.is_empty();
        if self.bias.is_empty() && !penalises {
            return None;
        }
        let mut logits = logits.to_vec();
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if penalises {
            let mut said = said.to_vec();
            said.sort_unstable();
            for same in said.chunk_by(|a, b| a == b) {
                if let Some(logit) = logits.get_mut(same[0] as usize) {
                    *logit -= self.presence_penalty + self.frequency_penalty * same.len() as f32;
                }
            }
        }
        Some(logits)
    }
}

impl Choose for Adjusted {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        match self.adjusted(logits, said) {
            Some(logits) => self.sampler.choose(&logits, said),
            None => self.sampler.choose(logits, said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Sampling;
    use crate::random::{Label, Rng};

    #[test]
    fn what_is_added_and_taken_away_decides() {
        let random = Rng::new(1).stream(&[Label::Purpose("test")]);
        let sampler = Sampler { sampling: Sampling::GREEDY, random };
        let plain = Adjusted { sampler, bias: Vec::new(), presence_penalty: 0.0, frequency_penalty: 0.0 };
        let logits = [1.0, 3.0, 2.0];
        assert_eq!(plain.clone().choose(&logits, &[1, 1]), 1);
        let mut biased = Adjusted { bias: vec![(0, 5.0), (9, 1.0)], ..plain.clone() };
        assert_eq!(biased.choose(&logits, &[]), 0);
        let mut forbidden = Adjusted { bias: vec![(1, f32::NEG_INFINITY)], ..plain.clone() };
        assert_eq!(forbidden.choose(&logits, &[]), 2);
        let mut present = Adjusted { presence_penalty: 1.5, ..plain.clone() };
        assert_eq!((present.choose(&logits, &[]), present.choose(&logits, &[1, 1])), (1, 2));
        let mut frequent = Adjusted { frequency_penalty: 0.6, ..plain };
        assert_eq!((frequent.choose(&logits, &[1]), frequent.choose(&logits, &[1, 0, 1])), (1, 2));
    }
}
