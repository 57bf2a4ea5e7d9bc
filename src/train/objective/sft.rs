//! Supervised fine-tuning: the mean negative log-likelihood of the supervised tokens.

use super::{Counts, Metrics, Needs, Objective, Scales, Score, Scored};
use crate::nn::cross_entropy::{Head, Loss, linear_cross_entropy};
use crate::train::micro_batch::MicroBatch;
use burn::tensor::Tensor;

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

    fn score(&self, hidden: &Tensor<2>, head: Head, batch: &MicroBatch, scales: Scales, with_gradient: bool) -> Scored {
        let scale = with_gradient.then_some(scales.units);
        let Loss { sum, gradient } = linear_cross_entropy(hidden, head, &batch.targets, scale);
        Scored { score: Score { loss: sum, metrics: Metrics::default() }, gradient }
    }
}
