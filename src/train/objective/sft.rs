//! Supervised fine-tuning: the mean negative log-likelihood of the supervised tokens.

use super::{Counts, Needs, Objective, Scales, Score, Scored, Seen};
use crate::nn::cross_entropy::{Loss, linear_cross_entropy};
use crate::train::micro_batch::MicroBatch;

/// Learns what stands in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sft;

impl Objective for Sft {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn counts(&self, batch: &MicroBatch) -> Counts {
        Counts { units: batch.supervised(), tokens: batch.supervised() }
    }

    fn score(&self, seen: Seen, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        let scale = with_gradient.then_some(scales.units);
        let Loss { sum, gradient } = linear_cross_entropy(seen.hidden, seen.head, &batch.targets, scale);
        Scored { score: Score { loss: sum, ..Score::default() }, gradient }
    }
}
