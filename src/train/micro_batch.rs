//! The data of one forward and backward pass.

use crate::model::Inputs;
use crate::nn::Segments;
use crate::text::IGNORE_INDEX;
use burn::tensor::Device;
use std::ops::Range;

/// The tokens of one micro-batch and which of them have a loss.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// What the model reads.
    pub inputs: Inputs,
    /// Rows whose next token is supervised.
    pub rows: Vec<u32>,
    /// The next token of each of those rows.
    pub targets: Vec<u32>,
    /// The log-probability of each sequence's supervised tokens under the policy that the run starts from, where an objective
    /// asks for it.
    pub reference: Vec<f64>,
}

impl MicroBatch {
    /// Makes a micro-batch of sequences of text whose labels are aligned with their ids as in Hugging Face: the loss at
    /// row `i` is that of predicting `labels[i + 1]`, within a sequence.
    pub fn new(input_ids: Vec<u32>, labels: &[i32], segments: Segments) -> Self {
        MicroBatch::of(Inputs::text(input_ids, segments), labels)
    }

    /// As [`MicroBatch::new`], of inputs that may hold soft tokens.
    pub fn of(inputs: Inputs, labels: &[i32]) -> Self {
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for range in inputs.segments.ranges() {
            let next = range.start + 1..range.end;
            for (row, &label) in range.clone().zip(&labels[next]) {
                if label != IGNORE_INDEX {
                    rows.push(row as u32);
                    targets.push(label.cast_unsigned());
                }
            }
        }
        MicroBatch { inputs, rows, targets, reference: Vec::new() }
    }

    /// The same for a model on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        MicroBatch { inputs: self.inputs.to_device(device), ..self.clone() }
    }

    /// Which of the supervised tokens are those of each sequence.
    pub fn sequences(&self) -> Vec<Range<usize>> {
        let until = |token: usize| self.rows.partition_point(|&row| (row as usize) < token);
        self.inputs.segments.ranges().iter().map(|range| until(range.start)..until(range.end)).collect()
    }

    /// Its first `tokens` tokens.
    pub fn truncated(mut self, tokens: usize) -> Self {
        let tokens = self.inputs.truncate(tokens);
        self.rows.retain(|&row| (row as usize) < tokens);
        self.targets.truncate(self.rows.len());
        self
    }

    /// Its first `tokens` tokens, or so many more that `supervised` of them have a loss: an answer may begin after a long
    /// prompt or a picture.
    pub fn beginning(self, tokens: usize, supervised: usize) -> Self {
        let wanted = self.rows.get(supervised.saturating_sub(1)).or(self.rows.last());
        let reached = wanted.map_or(0, |&row| row as usize + 1);
        self.truncated(tokens.max(reached))
    }

    /// Tokens that the model reads.
    pub fn tokens(&self) -> usize {
        self.inputs.input_ids.len()
    }

    /// Tokens with a loss.
    pub fn supervised(&self) -> usize {
        self.targets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_know_their_supervised_tokens() {
        let labels = [-100, 1, 2, -100, -100, -100, -100, 3];
        let batch = MicroBatch::new(vec![0; 8], &labels, Segments::from_lengths([3, 2, 3]));
        assert_eq!(batch.sequences(), [0..2, 2..2, 2..3]);
        assert_eq!(batch.targets, [1, 2, 3]);
    }

    #[test]
    fn a_beginning_reaches_the_first_answers_whatever_stands_before_them() {
        let answer_from = |at: usize| {
            let labels: Vec<i32> = (0..100).map(|i| if i < at { -100 } else { i as i32 }).collect();
            MicroBatch::of(Inputs::of((0..100).collect()), &labels)
        };
        for (at, tokens, supervised) in [(1, 30, 30), (20, 30, 11), (80, 89, 10), (95, 99, 5)] {
            let beginning = answer_from(at).beginning(30, 10);
            assert_eq!((beginning.tokens(), beginning.supervised()), (tokens, supervised), "{at}");
        }
        assert_eq!(answer_from(100).beginning(30, 10).tokens(), 30);
    }
}
