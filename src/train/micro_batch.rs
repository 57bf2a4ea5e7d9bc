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
    /// Which of the targets are of no answer, but of what stands beside it, where an objective asks for these; empty: none.
    pub besides: Vec<bool>,
    /// The log-probability of each sequence's supervised tokens under the policy that the run starts from, where an objective
    /// asks for it.
    pub reference: Vec<f64>,
    /// Whether each sequence ends in a good answer, of rows that say so.
    pub desirable: Vec<bool>,
    /// By how much the first sequence of each pair is better; empty: nobody said.
    pub margins: Vec<f64>,
    /// The prompt of each sequence with the answer of another one, where an objective asks for it: is read, and not learnt.
    pub mismatched: Option<Box<MicroBatch>>,
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
        let (besides, reference, desirable, margins, mismatched) = Default::default();
        MicroBatch { inputs, rows, targets, besides, reference, desirable, margins, mismatched }
    }

    /// The same with the other tokens of the first sequence of each pair as targets too: those of its prompt. The placeholders of
    /// pictures and sounds are none.
    pub fn with_prompts(mut self) -> Self {
        let old = std::mem::take(&mut self.rows).into_iter().zip(std::mem::take(&mut self.targets));
        let mut old = old.peekable();
        let Inputs { input_ids, segments, soft_tokens, .. } = &self.inputs;
        for (at, range) in segments.ranges().iter().enumerate() {
            for row in range.start..range.end.saturating_sub(1) {
                let answer = old.next_if(|(answer, _)| *answer as usize == row);
                let is_beside = at % 2 == 0 && !soft_tokens.iter().any(|medium| medium.rows.contains(&(row + 1)));
                let Some(target) = answer.map(|(_, target)| target).or(is_beside.then(|| input_ids[row + 1])) else {
                    continue;
                };
                self.rows.push(row as u32);
                self.targets.push(target);
                self.besides.push(answer.is_none());
            }
        }
        self
    }

    /// The same with the last token of each sequence as its only row, where the whole of it has been read: what it is judged by.
    pub fn at_ends(mut self) -> Self {
        let ends = self.inputs.segments.ranges().iter().filter_map(|range| range.clone().last());
        self.rows = ends.map(|row| row as u32).collect();
        self.targets = self.rows.iter().map(|&row| self.inputs.input_ids[row as usize]).collect();
        self.besides.clear();
        self
    }

    /// The same for a model on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        let mismatched = self.mismatched.as_deref().map(|others| Box::new(others.to_device(device)));
        MicroBatch { inputs: self.inputs.to_device(device), mismatched, ..self.clone() }
    }

    /// Those of a sequence's targets that are of its answer.
    pub fn answer(&self, sequence: &Range<usize>) -> Vec<usize> {
        sequence.clone().filter(|&at| self.besides.get(at) != Some(&true)).collect()
    }

    /// The log-probability of each sequence's targets, given the loss of each target.
    pub fn log_probabilities(&self, losses: &[f64]) -> Vec<f64> {
        self.sequences().into_iter().map(|targets| -losses[targets].iter().sum::<f64>()).collect()
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
        self.besides.truncate(self.rows.len());
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
    fn prompts_of_first_sequences_may_be_targets_too() {
        let labels = [-100, -100, 12, 13, -100, -100, -100, 22, -100, -100, 31];
        let ids = vec![10, 11, 12, 13, 14, 20, 21, 22, 30, 30, 31];
        let batch = MicroBatch::new(ids, &labels, Segments::from_lengths([5, 3, 3]));
        let answers = batch.sequences();
        assert!(answers.iter().all(|sequence| batch.answer(sequence) == sequence.clone().collect::<Vec<_>>()));
        assert_eq!(batch.log_probabilities(&[1.0, 2.0, 3.0, 4.0]), [-3.0, -3.0, -4.0]);
        let batch = batch.with_prompts();
        assert_eq!(batch.targets, [11, 12, 13, 14, 22, 30, 31]);
        assert_eq!(batch.rows, [0, 1, 2, 3, 6, 8, 9]);
        assert_eq!(batch.sequences(), [0..4, 4..5, 5..7]);
        assert_eq!(
            batch.sequences().iter().map(|of| batch.answer(of)).collect::<Vec<_>>(),
            [vec![1, 2], vec![4], vec![6]]
        );
        assert_eq!(batch.truncated(7).targets, [11, 12, 13, 14, 22]);
    }

    #[test]
    fn sequences_are_judged_by_their_last_tokens() {
        let labels = [-100, 11, 12, -100, 21];
        let batch = MicroBatch::new(vec![10, 11, 12, 20, 21], &labels, Segments::from_lengths([3, 2])).at_ends();
        assert_eq!((batch.rows.as_slice(), batch.targets.as_slice()), (&[2, 4][..], &[12, 21][..]));
        assert_eq!(batch.sequences(), [0..1, 1..2]);
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
