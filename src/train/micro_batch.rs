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
    /// Rows whose next token is supervised, sequence after sequence: what several share is the row of each.
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
    /// What is known of answers that the policy gave itself, where an objective learns from those.
    pub rollout: Option<Box<Rollout>>,
    /// The prompt of each sequence with the answer of another one, where an objective asks for it: is read, and not learnt.
    pub mismatched: Option<Box<MicroBatch>>,
    /// Which of the targets are those of each sequence.
    pub of_sequences: Vec<Range<usize>>,
}

/// What is known of answers that the policy gave itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// How much better each answer is than was to be expected of its prompt.
    pub advantages: Vec<f64>,
    /// Whether each is learnt from: one that was cut off may not be.
    pub is_learnt: Vec<bool>,
    /// The log-probability of each target under the policy that gave the answers; empty: under that which is asked now.
    pub old: Vec<f64>,
    /// The same under the policy that the run starts from, where an objective asks for it.
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
        let (mut rows, mut targets, mut of_sequences) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in 0..inputs.segments.ranges().len() {
            let first = rows.len();
            for (row, next) in steps(&inputs.segments, sequence) {
                if labels[next] != IGNORE_INDEX {
                    rows.push(row as u32);
                    targets.push(labels[next].cast_unsigned());
                }
            }
            of_sequences.push(first..rows.len());
        }
        let (besides, reference, desirable, margins, rollout, mismatched) = Default::default();
        MicroBatch { inputs, rows, targets, besides, reference, desirable, margins, rollout, mismatched, of_sequences }
    }

    /// The same with the other tokens of the first sequence of each pair as targets too: those of its prompt. The placeholders of
    /// pictures and sounds are none.
    pub fn with_prompts(mut self) -> Self {
        let old = std::mem::take(&mut self.rows).into_iter().zip(std::mem::take(&mut self.targets));
        let mut old = old.peekable();
        let Inputs { input_ids, segments, soft_tokens, .. } = &self.inputs;
        for (at, sequence) in self.of_sequences.iter_mut().enumerate() {
            let (first, mut answers) = (self.rows.len(), sequence.len());
            for (row, next) in steps(segments, at) {
                let answer = old.next_if(|(answer, _)| answers > 0 && *answer as usize == row);
                answers -= usize::from(answer.is_some());
                let is_beside = at % 2 == 0 && !soft_tokens.iter().any(|medium| medium.rows.contains(&next));
                let Some(target) = answer.map(|(_, target)| target).or(is_beside.then(|| input_ids[next])) else {
                    continue;
                };
                self.rows.push(row as u32);
                self.targets.push(target);
                self.besides.push(answer.is_none());
            }
            *sequence = first..self.rows.len();
        }
        self
    }

    /// The same with the last token of each sequence as its only row, where the whole of it has been read: what it is judged by.
    pub fn at_ends(mut self) -> Self {
        let ends = self.inputs.segments.ranges().iter().filter_map(|range| range.clone().last());
        self.rows = ends.map(|row| row as u32).collect();
        self.targets = self.rows.iter().map(|&row| self.inputs.input_ids[row as usize]).collect();
        self.besides.clear();
        self.of_sequences = (0..self.rows.len()).map(|at| at..at + 1).collect();
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
        self.of_sequences.clone()
    }

    /// Its first `tokens` tokens.
    pub fn truncated(mut self, tokens: usize) -> Self {
        let tokens = self.inputs.truncate(tokens);
        let sequences = self.inputs.segments.ranges().len();
        self.of_sequences.truncate(sequences);
        let (mut kept, mut of_sequences) = (Vec::with_capacity(self.rows.len()), Vec::with_capacity(sequences));
        for sequence in &self.of_sequences {
            let first = kept.len();
            kept.extend(sequence.clone().filter(|&at| (self.rows[at] as usize) < tokens));
            of_sequences.push(first..kept.len());
        }
        self.rows = kept.iter().map(|&at| self.rows[at]).collect();
        self.targets = kept.iter().map(|&at| self.targets[at]).collect();
        self.besides = kept.iter().filter_map(|&at| self.besides.get(at).copied()).collect();
        self.of_sequences = of_sequences;
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

/// Each row of a sequence with the row of its next token.
fn steps(segments: &Segments, sequence: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    segments.rows(sequence).zip(segments.rows(sequence).skip(1))
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
    fn what_a_pair_begins_with_is_a_row_of_each() {
        // [1 2 3 | 4 5] and [1 2 3 | 6 7], then a pair that shares one token, and of which a part of the answers is shared.
        let segments = Segments::sharing([(5, 0), (2, 3), (3, 0), (1, 2)]);
        let labels = [-100, -100, -100, 4, 5, 6, 7, -100, 12, 13, 14];
        let batch = MicroBatch::new(vec![1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14], &labels, segments);
        assert_eq!(batch.rows, [2, 3, 2, 5, 7, 8, 7, 8]);
        assert_eq!(batch.targets, [4, 5, 6, 7, 12, 13, 12, 14]);
        assert_eq!(batch.sequences(), [0..2, 2..4, 4..6, 6..8]);
        let with = batch.clone().with_prompts();
        assert_eq!(with.targets, [2, 3, 4, 5, 6, 7, 12, 13, 12, 14]);
        assert_eq!((with.answer(&with.sequences()[0]), with.sequences()[1].clone()), (vec![2, 3], 4..6));
        assert_eq!(batch.clone().at_ends().rows, [4, 6, 9, 10]);
        let cut = batch.truncated(6);
        assert_eq!((cut.rows.as_slice(), cut.sequences()), (&[2, 3, 2, 5][..], vec![0..2, 2..4]));
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
