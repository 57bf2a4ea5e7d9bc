//! What training tells the outside world. The loop emits events; sinks in `report` print and store them.

use crate::error::Result;
use crate::weights::names::ModelPart;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// One optimiser step, after the update. One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Optimiser steps done, counting this one (the first is 1).
    pub step: u64,
    /// Passes over the data done, as a fraction.
    pub epoch: f64,
    /// Mean loss of the step, before the update: of supervised fine-tuning the negative log-likelihood of its supervised
    /// tokens, in nats.
    pub loss: f64,
    /// L2 norm over all adapter gradients before clipping.
    pub grad_norm: f64,
    /// The same of each part of the model, where more than one is trained: `language_model`, `vision_tower`, `audio_tower`,
    /// `projector`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grad_norms: BTreeMap<ModelPart, f64>,
    /// The learning rate that this update used.
    pub learning_rate: f64,
    /// Tokens run through the model in this step.
    pub tokens: u64,
    /// Tokens of this step with a loss.
    pub supervised_tokens: u64,
    /// Tokens per second of this step.
    pub tokens_per_second: f64,
    /// Updates skipped so far because a loss or gradient was not finite.
    pub skipped: u64,
    /// What else the objective says of the step: `rewards/margins`.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// Part of an optimiser step: micro-batches that are done, with more to come.
#[derive(Debug, Clone, PartialEq)]
pub struct MicroBatchEvent {
    /// The step that they are part of, from 1.
    pub step: u64,
    /// Micro-batches done.
    pub done: usize,
    /// Micro-batches in the step.
    pub of: usize,
    /// Mean loss over the supervised tokens so far, in nats.
    pub loss: f64,
    /// Tokens in the step.
    pub step_tokens: u64,
    /// Tokens per second so far.
    pub tokens_per_second: f64,
}

/// Part of a micro-batch: layers that are done, with more to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartEvent {
    /// The step that it is part of, from 1.
    pub step: u64,
    /// The micro-batch, from 1.
    pub micro_batch: usize,
    /// Micro-batches in the step.
    pub of: usize,
    /// How much of the micro-batch is done, from 0 to 1.
    pub part: f64,
}

/// What a step waits for before it begins, or what an evaluation does, with more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderwayEvent {
    /// The step that waits for it, from 1; of an evaluation the optimiser steps done when it runs.
    pub step: u64,
    /// Whether it is an evaluation that does it.
    pub is_evaluation: bool,
    /// How far it has come.
    pub underway: Underway,
}

/// How far something has come that is done to one answer or row after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Underway {
    /// What is done.
    pub doing: Doing,
    /// How many it is done to.
    pub done: usize,
    /// How many there are.
    pub of: usize,
    /// Tokens that were said so far, where answers are given.
    pub tokens: u64,
}

/// What is done to one answer or row after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Answers are given.
    Answering,
    /// Rewards say how good answers are.
    Judging,
    /// How likely answers are is computed.
    Measuring,
    /// Losses of rows are computed.
    Reading,
}

/// One evaluation. One line of `metrics.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalEvent {
    /// Optimiser steps done when it ran (0: before training).
    pub step: u64,
    /// Passes over the training data done, as a fraction.
    pub epoch: f64,
    /// Mean loss over the evaluation data: of supervised fine-tuning the negative log-likelihood of its supervised tokens, in
    /// nats. There is none where answers of the model itself are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Supervised tokens it was measured on, or those of the answers.
    pub eval_tokens: u64,
    /// What else the objective says of it: `eval_rewards/margins`.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// Which of these tells the best evaluation: `eval_loss`.
    #[serde(skip)]
    pub best_by: String,
    /// Whether it is the best so far.
    #[serde(skip)]
    pub is_best: bool,
}

impl EvalEvent {
    /// What was measured under this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "eval_loss" { self.eval_loss } else { self.metrics.get(name).copied() }
    }
}

/// A training row as the model sees it, for the eye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowEvent {
    /// Its number among the rows shown, from 1.
    pub number: usize,
    /// Its text, special tokens included.
    pub text: String,
    /// The bytes of `text` that have a loss, in ascending order.
    pub supervised: Vec<Range<usize>>,
}

/// A prompt with two answers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The prompt.
    pub prompt: String,
    /// What the model said.
    pub completion: String,
    /// What the evaluation data says.
    pub reference: String,
}

/// A generated answer, for the eye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleEvent {
    /// Optimiser steps done when it was generated.
    pub step: u64,
    /// Its number among the samples of this step, from 1.
    pub number: usize,
    /// What was asked and said.
    pub sample: Sample,
}

/// Everything the loop says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The loop starts (or resumes) with this much to do.
    Started {
        /// Optimiser steps done already (0 unless resumed).
        step: u64,
        /// Optimiser steps in all.
        total_steps: u64,
    },
    /// A row that will be trained on, before the first step.
    Row(RowEvent),
    /// Part of what a step waits for, or of an evaluation, was done.
    Underway(UnderwayEvent),
    /// Part of a micro-batch was done.
    Part(PartEvent),
    /// Part of an optimiser step was done.
    MicroBatch(MicroBatchEvent),
    /// An optimiser step was done.
    Step(StepEvent),
    /// The loss or a gradient was not finite, so the update was left out.
    SkippedStep {
        /// The step that was left out (its number in [`StepEvent::step`] terms).
        step: u64,
        /// Why: which number was not finite.
        why: String,
        /// The rows in the step, as `file, row`.
        rows: Vec<String>,
    },
    /// An evaluation was done.
    Eval(EvalEvent),
    /// A sample was generated.
    Sample(SampleEvent),
    /// A checkpoint was written.
    Saved {
        /// Optimiser steps done.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// The last checkpoint could not be written, which costs no more than what resuming from it would have saved.
    NotSaved {
        /// Optimiser steps done.
        step: u64,
        /// Why.
        why: String,
    },
    /// The loop is over.
    Finished {
        /// Optimiser steps done.
        step: u64,
    },
}

/// Receives events, in order, on the training thread.
pub trait Sink {
    /// Handles one event.
    ///
    /// # Errors
    /// A sink that cannot store what it must (a full disk) fails the run.
    fn event(&mut self, event: &Event) -> Result<()>;

    /// Makes everything received so far durable; called before a checkpoint's manifest is written.
    ///
    /// # Errors
    /// As [`Sink::event`].
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
