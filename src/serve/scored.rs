//! How likely the tokens of an answer were.

use crate::infer::{Choose, most_likely};
use std::sync::mpsc::Sender;

/// A token with its log-probability, and those that were the most likely in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: u32,
    /// Its log-probability by the model, before temperature, penalties and biases.
    pub logprob: f64,
    /// The most likely, the first of them first.
    pub top: Vec<(u32, f64)>,
}

/// Says how likely what another chose was.
pub struct Scoring {
    /// Chooses.
    pub chooser: Box<dyn Choose>,
    /// How many of the most likely are said.
    pub top: usize,
    /// Where that goes.
    pub says: Sender<Scored>,
}

impl Choose for Scoring {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        let token = self.chooser.choose(logits, said);
        // Nobody listens any more where the client is gone.
        let _ = self.says.send(score(logits, token, self.top));
        token
    }
}

fn score(logits: &[f32], token: u32, top: usize) -> Scored {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let log_sum = f64::from(highest) + sum.ln();
    let logprob = |token: u32| f64::from(logits[token as usize]) - log_sum;
    let top = most_likely(logits, top).into_iter().map(|token| (token, logprob(token))).collect();
    Scored { token, logprob: logprob(token), top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_logits() {
        let logits = [1f32.ln(), 4f32.ln(), 3f32.ln()];
        let Scored { token, logprob, top } = score(&logits, 0, 2);
        assert_eq!((token, top.iter().map(|(token, _)| *token).collect::<Vec<_>>()), (0, vec![1, 2]));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(logprob, (1f64 / 8.0).ln()) && near(top[0].1, 0.5f64.ln()) && near(top[1].1, (3f64 / 8.0).ln()));
        assert!(score(&logits, 1, 0).top.is_empty() && score(&logits, 1, 9).top.len() == 3);
    }
}
