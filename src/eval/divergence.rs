//! How far apart two models' next words are.

use rayon::prelude::*;

/// What a model thinks of the next word, as logits with the logarithm of their exponentials' sum.
///
/// # Numerics
/// The logits stay as the model gave them; the logarithm is f64, so that two equal rows differ by exactly 0.
#[derive(Debug, Clone, PartialEq)]
pub struct NextWord {
    logits: Vec<f32>,
    log_sum: f64,
}

impl NextWord {
    /// Of a row of logits.
    pub fn of(logits: &[f32]) -> Self {
        let highest = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        NextWord { logits: logits.to_vec(), log_sum: f64::from(highest) + sum.ln() }
    }

    /// Those of several rows, one after the other, of so many words each.
    pub fn rows(logits: &[f32], words: usize) -> Vec<Self> {
        logits.par_chunks(words.max(1)).map(NextWord::of).collect()
    }

    /// Whether it is a distribution: every logit is a number, and none is infinite.
    pub fn is_finite(&self) -> bool {
        self.log_sum.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }

    /// The most likely word; the first of equals.
    pub fn top(&self) -> usize {
        let best = |best: usize, i: usize| if self.logits[i] > self.logits[best] { i } else { best };
        (0..self.logits.len()).fold(0, best)
    }

    fn logprob(&self, word: usize) -> f64 {
        f64::from(self.logits[word]) - self.log_sum
    }
}

/// How far another model's next words are from a reference's, over positions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Divergence {
    positions: usize,
    sum: f64,
    max: f64,
    agreeing: usize,
    /// `sum p (x - b) (t - b)` and `sum p (t - b)^2`.
    step: (f64, f64),
}

impl Divergence {
    /// Compares `other` with the `reference` `t` at some positions, and sees how much of the step from the `base` `b` to the
    /// reference it has made.
    ///
    /// # Panics
    /// If one has fewer positions or words than the reference.
    pub fn add(&mut self, reference: &[NextWord], base: &[NextWord], other: &[NextWord]) {
        let one = |((reference, base), other): ((&NextWord, &NextWord), &NextWord)| {
            let (mut divergence, mut along, mut whole) = (0.0, 0.0, 0.0);
            for word in 0..reference.logits.len() {
                let (t, b, x) = (reference.logprob(word), base.logprob(word), other.logprob(word));
                let p = t.exp();
                divergence += p * (t - x);
                along += p * (x - b) * (t - b);
                whole += p * (t - b) * (t - b);
            }
            let divergence = divergence.max(0.0); // but for rounding it is none below
            let agreeing = usize::from(reference.top() == other.top());
            Divergence { positions: 1, sum: divergence, max: divergence, agreeing, step: (along, whole) }
        };
        // Summed in order, so that it is the same on any number of threads.
        let all: Vec<_> = reference.par_iter().zip(base).zip(other).map(one).collect();
        for one in all {
            self.positions += one.positions;
            self.sum += one.sum;
            self.max = self.max.max(one.max);
            self.agreeing += one.agreeing;
            self.step.0 += one.step.0;
            self.step.1 += one.step.1;
        }
    }

    /// Positions that were compared.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The mean of `KL(reference || other)` over positions, in nats.
    pub fn mean(&self) -> f64 {
        self.sum / self.positions.max(1) as f64
    }

    /// The largest of them.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The share of positions at which both think the same word most likely.
    pub fn top_1(&self) -> f64 {
        self.agreeing as f64 / self.positions.max(1) as f64
    }

    /// How much of the step from the base to the reference the other has made: 1 all of it, 0 none, whatever else it does;
    /// `None` where there is no step.
    pub fn effect(&self) -> Option<f64> {
        let (along, whole) = self.step;
        (whole > 0.0).then(|| along / whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn of(probabilities: &[f64]) -> NextWord {
        NextWord::of(&probabilities.iter().map(|p| (p.ln() + 7.0) as f32).collect::<Vec<_>>())
    }

    fn between(reference: &NextWord, base: &NextWord, other: &NextWord) -> Divergence {
        let mut divergence = Divergence::default();
        divergence.add(from_ref(reference), from_ref(base), from_ref(other));
        divergence
    }

    #[test]
    fn it_is_the_divergence_of_kullback_and_leibler() {
        let (p, q) = (of(&[0.5, 0.25, 0.25]), of(&[0.25, 0.25, 0.5]));
        let divergence = between(&p, &q, &q);
        assert!((divergence.mean() - 0.25 * 2f64.ln()).abs() < 1e-7, "0.5 ln 2 - 0.25 ln 2");
        assert_eq!((divergence.top_1(), divergence.positions()), (0.0, 1));
        let same = between(&p, &q, &p);
        assert_eq!((same.mean(), same.max(), same.top_1(), same.effect()), (0.0, 0.0, 1.0, Some(1.0)));
        assert_eq!(between(&p, &q, &q).effect(), Some(0.0));
        assert_eq!(between(&p, &p, &q).effect(), None, "no step, no share of it");
    }

    #[test]
    fn means_and_maxima_are_over_positions() {
        let (p, q) = (of(&[0.5, 0.25, 0.25]), of(&[0.25, 0.25, 0.5]));
        let mut divergence = Divergence::default();
        divergence.add(&[p.clone(), p.clone()], &[q.clone(), q.clone()], &[p.clone(), q.clone()]);
        divergence.add(from_ref(&p), from_ref(&q), from_ref(&p));
        assert!((divergence.max() - 3.0 * divergence.mean()).abs() < 1e-12);
        assert!((divergence.top_1() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn half_of_the_step_is_half_of_the_effect() {
        let logits = |t: f32| NextWord::of(&[0.0, t * 0.01, t * -0.02, 0.0]);
        let effect = between(&logits(1.0), &logits(0.0), &logits(0.5)).effect().unwrap();
        assert!((effect - 0.5).abs() < 1e-2, "{effect}");
    }

    #[test]
    fn what_is_no_number_is_no_distribution() {
        assert!(of(&[0.5, 0.5]).is_finite());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!NextWord::of(&[0.0, bad]).is_finite(), "{bad}");
        }
        assert_eq!(NextWord::of(&[1.0, 2.0, 2.0]).top(), 1);
    }
}
