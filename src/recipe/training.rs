//! `training`: how long, how fast, and with what the adapter is trained.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choice, choices, not_a_word};
use super::or_auto::OrAuto;
use super::preference::Task;
use super::raw::{Node, Plain, Shape, plain};
use super::section::Section;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// More sequences than this in one pass, or passes in one step, are a slip of the pen.
pub const MAX_BATCH: usize = 1 << 16;
/// The share of the steps for warming up when neither `warmup_ratio` nor `warmup_steps` is given.
const WARMUP_RATIO: f64 = 0.03;
/// The learning rate where the recipe gives none.
const LEARNING_RATE: f64 = 2.0e-4;
/// The same of preferences, as in TRL.
const PREFERENCE_LEARNING_RATE: f64 = 1.0e-6;
/// The same where it is left to be chosen: TRL's own is for training a whole model, and adapters take more.
pub const ADAPTER_PREFERENCE_LEARNING_RATE: f64 = 2.0e-5;
/// The same of reward models, as in TRL.
pub const REWARD_LEARNING_RATE: f64 = 1.0e-4;
/// Answers at once where each is judged by the others, as in TRL; otherwise one, and so many passes in a step.
const KTO_BATCH: usize = 8;
/// More epochs than this are a slip of the pen; steps can then be counted without overflow.
const MAX_EPOCHS: f64 = 1e6;
/// The most steps; a number that floats still count one by one.
const MAX_STEPS: u64 = 1 << 40;

/// How long, how fast, and with what the adapter is trained; the words are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Training {
    /// Sequences (packed bins; of `task: dpo`, `orpo` and `reward` pairs) that go through the model at once. Of `task: kto` 8 where nothing is
    /// said, and then one pass in a step; at least 2, because each is judged by the others. Of `task: grpo` and `rloo` the model's own
    /// answers, of which a step has a multiple of `grpo.num_generations`.
    pub per_device_train_batch_size: usize,
    /// Passes whose gradients make one optimiser step; `auto` gives the run enough steps for its data.
    #[schemars(with = "OrAuto<usize>")]
    pub gradient_accumulation_steps: usize,
    /// Passes over the data; may be a fraction. `auto` makes more of them the less data there is.
    #[schemars(with = "OrAuto<f64>")]
    pub num_train_epochs: f64,
    /// Optimiser steps in all, whatever `num_train_epochs` says; `auto` bounds them where the data is huge.
    #[schemars(with = "Option<OrAuto<u64>>")]
    pub max_steps: Option<u64>,
    /// What turns gradients into updates.
    pub optimizer: Optimizer,
    /// The highest learning rate, reached after the warm-up; `auto` suits the size of the model. Where preferences are
    /// learnt 1.0e-6 where nothing is said, as in TRL, which means whole models, and 2.0e-5 for `auto`; of `task: reward` 1.0e-4.
    #[schemars(with = "OrAuto<f64>")]
    pub learning_rate: f64,
    /// How long AdamW remembers gradients.
    pub adam_beta1: f64,
    /// How long AdamW remembers squared gradients.
    pub adam_beta2: f64,
    /// What AdamW adds to its divisor.
    pub adam_epsilon: f64,
    /// How long SGD remembers gradients.
    pub sgd_momentum: f64,
    /// The share of each weight that decays per step, times the learning rate.
    pub weight_decay: f64,
    /// The longest gradient (L2 norm over all adapter weights); 0 switches clipping off.
    pub max_grad_norm: f64,
    /// How the learning rate goes on after the warm-up.
    pub lr_scheduler_type: Scheduler,
    /// The share of the steps in which the learning rate grows from 0; instead of `warmup_steps`.
    pub warmup_ratio: f64,
    /// The steps in which the learning rate grows from 0; instead of `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Computes each layer twice instead of keeping its intermediates: less memory, more time; `auto` as few of them as leave half of the
    /// free memory to others, or an eighth of a GPU's own (CUDA, ROCm).
    pub activation_checkpointing: AutoBool,
    /// What happens to a run that needs more memory than is free: `off` warns, `auto` makes it fit where that changes
    /// no result but for rounding and the draws of dropout.
    pub fit: Fit,
    /// Decides everything random: the adapter's start, the order of rows, dropout.
    pub seed: u64,
}

/// What turns gradients into updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent, with `sgd_momentum`.
    Sgd,
}

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// It stays.
    Constant,
    /// It falls to 0 in a straight line.
    Linear,
    /// It falls to 0 along half a cosine wave.
    Cosine,
}

/// What happens to a run that needs more memory than is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// A warning, with the settings that would make it fit.
    Off,
    /// Fewer sequences at once, and as many more passes per step; if that is not enough, activations are recomputed.
    Auto,
}

/// Yes, no, or what suits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AutoBool {
    /// What suits.
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}

choices!(Optimizer, Scheduler);

impl Training {
    pub(super) fn read(section: &mut Section<'_>, task: Task) -> Self {
        let rate = match task {
            Task::Sft => LEARNING_RATE,
            Task::Dpo | Task::Orpo | Task::Kto | Task::Grpo | Task::Rloo => PREFERENCE_LEARNING_RATE,
            Task::Reward => REWARD_LEARNING_RATE,
        };
        let (batch, accumulation) = if task == Task::Kto { (KTO_BATCH, 1) } else { (1, 8) };
        let warmup_steps = section.key("warmup_steps").within(..=MAX_STEPS).optional();
        // With steps given, the ratio is not in force, and the resolved recipe says so.
        let warmup_ratio = if warmup_steps.is_some() { 0.0 } else { WARMUP_RATIO };
        Training {
            per_device_train_batch_size: section.key("per_device_train_batch_size").within(1..=MAX_BATCH).or(batch),
            gradient_accumulation_steps: section
                .key("gradient_accumulation_steps")
                .auto_or_within(1..=MAX_BATCH)
                .or_chosen(OrAuto::Value(accumulation), 1),
            num_train_epochs: section
                .key("num_train_epochs")
                .auto_or_within((Excluded(0.0), Included(MAX_EPOCHS)))
                .or_chosen(OrAuto::Value(1.0), 1.0),
            max_steps: section.key("max_steps").auto_or_within(1..=MAX_STEPS).optional_or_chosen(),
            optimizer: section.key("optimizer").or(Optimizer::Adamw),
            learning_rate: section
                .key("learning_rate")
                .auto_or_within((Excluded(0.0), Unbounded))
                .or_chosen(OrAuto::Value(rate), rate),
            adam_beta1: section.key("adam_beta1").within(0.0..1.0).or(0.9),
            adam_beta2: section.key("adam_beta2").within(0.0..1.0).or(0.999),
            adam_epsilon: section.key("adam_epsilon").within((Excluded(0.0), Unbounded)).or(1.0e-8),
            sgd_momentum: section.key("sgd_momentum").within(0.0..1.0).or(0.0),
            weight_decay: section.key("weight_decay").within(0.0..).or(0.0),
            max_grad_norm: section.key("max_grad_norm").within(0.0..).or(1.0),
            lr_scheduler_type: section.key("lr_scheduler_type").or(Scheduler::Cosine),
            warmup_ratio: section.key("warmup_ratio").within(0.0..=1.0).or(warmup_ratio),
            warmup_steps,
            activation_checkpointing: section.key("activation_checkpointing").or(AutoBool::Auto),
            fit: section.key("fit").or(Fit::Off),
            seed: section.key("seed").or(42),
        }
    }
}

/// Readers of YAML 1.1, such as PyYAML, take `off` without quotes for `false` and write it so.
impl FromNode for Fit {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, plain: true } if plain(text) == Plain::Bool(false) => Some(Fit::Off),
            _ => choice::<FitWord>(node, path, diagnosis).map(|word| match word {
                FitWord::Off => Fit::Off,
                FitWord::Auto => Fit::Auto,
            }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FitWord {
    Off,
    Auto,
}

impl JsonSchema for Fit {
    fn schema_name() -> Cow<'static, str> {
        "Fit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [
            { "const": "off", "description": "A warning, with the settings that would make it fit. Write it in quotes." },
            { "const": "auto", "description": "Fewer sequences at once, and as many more passes per step; if that is not enough, activations are recomputed." },
            { "const": false, "description": "`off`, as YAML 1.1 reads it without quotes." },
        ]})
    }
}

impl FromNode for AutoBool {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, plain: true } if plain(text) == Plain::Bool(true) => Some(AutoBool::True),
            Shape::Scalar { text, plain: true } if plain(text) == Plain::Bool(false) => Some(AutoBool::False),
            Shape::Scalar { text, .. } if text == "auto" => Some(AutoBool::Auto),
            _ => not_a_word(node, path, &["auto", "true", "false"], diagnosis),
        }
    }
}

impl Serialize for AutoBool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AutoBool::Auto => serializer.serialize_str("auto"),
            AutoBool::True => serializer.serialize_bool(true),
            AutoBool::False => serializer.serialize_bool(false),
        }
    }
}

impl JsonSchema for AutoBool {
    fn schema_name() -> Cow<'static, str> {
        "AutoBool".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", true, false] })
    }
}
