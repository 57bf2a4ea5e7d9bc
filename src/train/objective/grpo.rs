//! Group relative policy optimisation: of several answers that the policy gave to a prompt, those become more likely that are better
//! than the others, and those less that are worse.
//!
//! With `r = exp(log p - log p_old)` of a token, how much more likely it is than when it was said, and `A` the advantage of its
//! answer, a token's loss is `-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)`, and with `beta` to that comes `beta` times
//! `exp(log p_ref - log p) - (log p_ref - log p) - 1`, which says how far the policy has gone from where the run starts. CISPO's is
//! `-min(r, epsilon_high) A log p`, of which the first factor gets no gradient. What tokens are averaged over is what tells losses
//! apart. All of that is in f64.
//!
//! # Source
//! Shao et al. 2024, equation 3; TRL 1.16, `GRPOTrainer._compute_loss`, with the papers that it names; goldens by
//! `scripts/make_rollout_goldens.py`.

use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::LogProbabilities;
use crate::train::micro_batch::{MicroBatch, Rollout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What tokens' losses are averaged over, by TRL's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrpoLoss {
    // Yu et al. 2025.
    /// All tokens of the step.
    Dapo,
    // Shao et al. 2024. Short answers weigh more for it.
    /// The tokens of each answer, then the answers.
    Grpo,
    /// The tokens of each micro-batch, then the micro-batches.
    Bnpo,
    // Liu et al. 2025.
    /// As many tokens as all answers could have.
    DrGrpo,
    // MiniMax 2025.
    /// All tokens of the step, of which those count less that have become much more likely; needs `epsilon_high`.
    Cispo,
}

/// Learns from the policy's own answers, judged against each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// The loss.
    pub loss: GrpoLoss,
    /// How much less likely than when it was said a token may become.
    pub epsilon: f64,
    /// How much more likely it may become; of CISPO how many times as likely.
    pub epsilon_high: f64,
    /// How much it costs to go away from the policy that the run starts from.
    pub beta: f64,
    /// The most tokens that an answer may have.
    pub max_completion_length: usize,
    /// What logits were divided by where answers were drawn.
    pub temperature: f64,
}

impl Objective for Grpo {
    fn needs(&self) -> Needs {
        Needs::default() // what it needs of answers comes with them
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        let tokens = learnt_tokens(batch);
        let units = match self.loss {
            GrpoLoss::Dapo | GrpoLoss::Cispo => tokens,
            GrpoLoss::Grpo => batch.sequences().len(),
            GrpoLoss::Bnpo => 1,
            GrpoLoss::DrGrpo => batch.sequences().len() * self.max_completion_length,
        };
        Counts { units, tokens }
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        seen.judged_at(self.temperature, batch, with_gradient, |logps| self.judge(logps, batch, scales))
    }
}

impl Grpo {
    /// The score of log-probabilities, and the gradient of its share of the window's loss with respect to each.
    fn judge(&self, logps: &LogProbabilities, batch: &MicroBatch, scales: Scales) -> (Score, Vec<f64>) {
        let (mut score, mut upstream) = (Score::default(), vec![0.0; logps.values.len()]);
        let unknown = Rollout::default();
        let rollout = batch.rollout.as_deref().unwrap_or(&unknown);
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (answer, tokens) in batch.sequences().into_iter().enumerate() {
            // An answer that nobody judged makes a loss that is no number, which a run stops at.
            let advantage = rollout.advantages.get(answer).copied().unwrap_or(f64::NAN);
            if rollout.is_learnt.get(answer) == Some(&false) {
                continue;
            }
            let per = match self.loss {
                GrpoLoss::Grpo => 1.0 / tokens.len().max(1) as f64,
                GrpoLoss::Bnpo => 1.0 / learnt_tokens(batch).max(1) as f64,
                GrpoLoss::Dapo | GrpoLoss::Cispo | GrpoLoss::DrGrpo => 1.0,
            };
            for at in tokens {
                let logp = logps.values[at];
                let old = rollout.old.get(at).copied().unwrap_or(logp);
                let Token { mut loss, mut slope, is_low, is_high } = self.token(logp, (logp - old).exp(), advantage);
                low.push(is_low);
                high.push(is_high);
                if self.beta > 0.0 {
                    let more = rollout.reference.get(at).copied().unwrap_or(f64::NAN) - logp;
                    let kl = more.exp() - more - 1.0;
                    loss += self.beta * kl;
                    slope += self.beta * (1.0 - more.exp());
                    score.metrics.take("kl", [kl]);
                }
                score.loss += loss * per;
                upstream[at] += slope * per * scales.units;
            }
        }
        let share = |which: &[bool]| which.iter().map(|is| f64::from(u8::from(*is))).collect::<Vec<_>>();
        match self.loss {
            GrpoLoss::Cispo => score.metrics.take("cispo_clip_ratio", share(&high)),
            _ => {
                let either: Vec<bool> = low.iter().zip(&high).map(|(low, high)| low | high).collect();
                score.metrics.take("clip_ratio/low_mean", share(&low));
                score.metrics.take("clip_ratio/high_mean", share(&high));
                score.metrics.take("clip_ratio/region_mean", share(&either));
            }
        }
        (score, upstream)
    }

    /// The loss of a token that is `ratio` times as likely as when it was said.
    fn token(&self, logp: f64, ratio: f64, advantage: f64) -> Token {
        if self.loss == GrpoLoss::Cispo {
            let by = ratio.min(self.epsilon_high) * advantage;
            return Token {
                loss: -by * logp,
                slope: -by,
                is_low: false,
                is_high: ratio > self.epsilon_high && advantage > 0.0,
            };
        }
        clipped(ratio, advantage, self.epsilon, self.epsilon_high)
    }
}

/// The loss of a token or an answer, and how it changes with its log-probability.
pub(super) struct Token {
    pub loss: f64,
    pub slope: f64,
    /// Whether it is less likely than may be gained from.
    pub is_low: bool,
    /// Whether it is more likely than that.
    pub is_high: bool,
}

/// `-min(r A, clip(r) A)`: nothing is gained beyond the bounds.
pub(super) fn clipped(ratio: f64, advantage: f64, epsilon: f64, epsilon_high: f64) -> Token {
    let (least, most) = (1.0 - epsilon, 1.0 + epsilon_high);
    let [free, bound] = [ratio * advantage, ratio.clamp(least, most) * advantage];
    let is_bound = bound < free; // false of what is no number
    let (loss, slope) = if is_bound { (-bound, 0.0) } else { (-free, -free) };
    Token { loss, slope, is_low: ratio < least && advantage < 0.0, is_high: ratio > most && advantage > 0.0 }
}

/// The tokens of answers that are learnt from.
fn learnt_tokens(batch: &MicroBatch) -> usize {
    let is_learnt =
        |answer: usize| batch.rollout.as_ref().and_then(|rollout| rollout.is_learnt.get(answer)) != Some(&false);
    let tokens = batch.sequences().into_iter().enumerate().filter(|(answer, _)| is_learnt(*answer));
    tokens.map(|(_, tokens)| tokens.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_gained_beyond_the_bounds_and_all_is_lost() {
        // Of a good answer the bound is above, of a bad one below; the other way all counts.
        for (ratio, advantage, loss, slope) in [
            (1.0, 2.0, -2.0, -2.0),
            (1.5, 2.0, -2.4, 0.0),
            (0.5, 2.0, -1.0, -1.0),
            (0.5, -2.0, 1.6, 0.0),
            (1.5, -2.0, 3.0, 3.0),
            (1.5, 0.0, 0.0, 0.0),
        ] {
            let token = clipped(ratio, advantage, 0.2, 0.2);
            assert!((token.loss - loss).abs() < 1e-12 && (token.slope - slope).abs() < 1e-12, "{ratio} {advantage}");
        }
        assert!(clipped(f64::NAN, 1.0, 0.2, 0.2).loss.is_nan());
    }
}
