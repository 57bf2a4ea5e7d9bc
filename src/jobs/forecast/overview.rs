//! What a run will do, before it does it.

use crate::adapter::target::KindCount;
use crate::data::{LeftOut, Preview, SourceStats};
use crate::device::Devices;
use crate::jobs::forecast::memory::{Activations, Estimate};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::data::Data;
use crate::jobs::run::steps::{self, Pass};
use crate::recipe::Recipe;
use crate::report::text;
use crate::train::run::StepPlan;
use serde::Serialize;
use std::fmt;

/// What a run will do; shown in a few lines.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// Which modules get an adapter, by kind.
    pub modules: Vec<KindCount>,
    /// Values that are trained.
    pub trainable_parameters: u64,
    /// Rows to train on.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens with a loss.
    pub supervised_tokens: u64,
    /// Where the rows are from, and how they are read.
    pub sources: Vec<SourceStats>,
    /// Rows that are not trained as they stand.
    pub left_out: Vec<LeftOut>,
    /// Rows that are not evaluated on as they stand.
    pub eval_left_out: Vec<LeftOut>,
    /// Optimiser steps.
    pub total_steps: u64,
    /// Passes over the data, the last of which may be a part; `None` where `max_steps` decides.
    pub num_train_epochs: Option<f64>,
    /// Optimiser steps of a pass.
    pub steps_per_epoch: u64,
    /// Tokens of a step, on average; of prompts alone where the model answers them itself.
    pub tokens_per_step: u64,
    /// Answers that are drawn for a step, where the model gives them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers_per_step: Option<u64>,
    /// The most tokens of such an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_completion_length: Option<u64>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// What was chosen because the recipe says `auto`: keys and values, as `--set` takes them.
    pub chosen: Vec<String>,
    /// The device, or those that share out each step, as `--device` takes them.
    pub device: String,
    /// Each of them.
    pub devices: Vec<String>,
    /// CPU threads, those of all replicas together.
    pub threads: usize,
    /// What becomes of activations.
    #[serde(flatten)]
    pub activations: Activations,
    /// The estimated peak of memory.
    pub memory_bytes: u64,
    /// What it is made of.
    pub memory: Estimate,
}

/// What a dry run ends with.
#[derive(Debug, Clone, Serialize)]
pub struct DryRun {
    /// What the run would do.
    pub plan: Overview,
    /// The first rows as the model would see them.
    pub preview: Vec<Preview>,
}

impl Overview {
    /// Looks at what was planned.
    pub fn new(
        recipe: &Recipe,
        adapter: &AdapterPlan,
        data: &Data,
        plan: &StepPlan,
        memory: Estimate,
        layers: usize,
        devices: &Devices,
    ) -> Self {
        let keys = &recipe.training;
        // The steps have been counted before, so that this cannot fail.
        let pass = steps::passes(recipe, data).unwrap_or(Pass { steps_per_pass: 0, step_tokens: 0 });
        let stats = data.train.stats();
        let of_selection = adapter.selection.kinds.iter().filter(|kind| kind.matched > 0).cloned();
        let whole = adapter.config.modules_to_save.iter();
        let whole = whole.map(|module| KindCount { kind: module.clone(), matched: 1, total: 1 });
        Overview {
            modules: of_selection.chain(whole).collect(),
            trainable_parameters: adapter.trainable(),
            rows: stats.rows,
            tokens: stats.tokens,
            supervised_tokens: stats.supervised_tokens,
            sources: stats.sources,
            left_out: stats.left_out,
            eval_left_out: data.eval.iter().flat_map(|eval| eval.stats().left_out).collect(),
            total_steps: plan.total_steps,
            num_train_epochs: keys.max_steps.is_none().then_some(keys.num_train_epochs),
            steps_per_epoch: pass.steps_per_pass,
            tokens_per_step: pass.step_tokens,
            answers_per_step: recipe
                .grpo
                .as_ref()
                .map(|grpo| (grpo.prompts_in_a_step(keys) * grpo.num_generations) as u64),
            max_completion_length: recipe.grpo.as_ref().map(|grpo| grpo.max_completion_length as u64),
            learning_rate: keys.learning_rate,
            chosen: recipe.chosen(),
            device: devices.name(),
            devices: devices.names(),
            threads: devices.threads(),
            activations: Activations::new(plan.step.recompute, layers),
            memory_bytes: memory.total_bytes(),
            memory,
        }
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules: Vec<String> = self.modules.iter().map(|k| format!("{} x {}", k.kind, k.matched)).collect();
        let (count, counted) = (text::count, text::counted);
        writeln!(f, "Adapter: {}; {} trainable parameters", modules.join(", "), count(self.trainable_parameters))?;
        let (rows, tokens) = (counted(self.rows, "row"), counted(self.tokens, "token"));
        match self.supervised_tokens {
            0 => writeln!(f, "Data: {rows}, {tokens} of prompts")?,
            supervised => writeln!(f, "Data: {rows}, {tokens}, {} of them supervised", count(supervised))?,
        }
        for SourceStats { path, format, rows, .. } in &self.sources {
            writeln!(f, "  {path}: {}, {format}", counted(*rows, "row"))?;
        }
        for left_out in &self.left_out {
            writeln!(f, "  {left_out}")?;
        }
        for left_out in &self.eval_left_out {
            writeln!(f, "  for evaluation, {left_out}")?;
        }
        let activations = self.activations;
        let recomputing = if activations.are_recomputed { format!(", {activations}") } else { String::new() };
        let mut steps = counted(self.total_steps, "step");
        if let Some(epochs) = self.num_train_epochs {
            let passes = if epochs == 1.0 { "1 epoch".into() } else { format!("{epochs} epochs") };
            steps = format!("{passes} x {} = {steps}", counted(self.steps_per_epoch, "step"));
        }
        let (tokens, threads) = (counted(self.tokens_per_step, "token"), counted(self.threads as u64, "thread"));
        let of = match (self.answers_per_step, self.max_completion_length) {
            (Some(answers), Some(longest)) => {
                let (answers, longest) = (counted(answers, "answer"), counted(longest, "token"));
                format!("{answers} of at most {longest} after about {tokens} of prompts")
            }
            _ => format!("about {tokens}"),
        };
        writeln!(f, "Plan: {steps} of {of} on {} with {threads}{recomputing}", self.device)?;
        if !self.chosen.is_empty() {
            writeln!(f, "Chosen for this data and machine: {}", self.chosen.join(", "))?;
        }
        write!(f, "Memory: about {} ({})", text::bytes(self.memory_bytes), self.memory)
    }
}
