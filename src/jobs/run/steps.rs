//! How many steps a run has, and what each of them does.

use crate::error::{Error, Kind, Place, Result};
use crate::jobs::run::data::Data;
use crate::random::Rng;
use crate::recipe::{self, LossType, Recipe, Task};
use crate::report::text;
use crate::train::objective::{Cpo, Dpo, Grpo, Kto, KtoLoss, Objective, Orpo, Reward, Rloo, Sft};
use crate::train::recompute::Recompute;
use crate::train::run::{BestBy, StepPlan};
use crate::train::schedule::{self, Schedule};
use crate::train::step::StepSettings;
use std::sync::Arc;

/// The steps of the run.
///
/// # Errors
/// When the steps of its passes cannot be counted, or none of them would change anything.
pub fn plan(recipe: &Recipe, data: &Data, recompute: Recompute) -> Result<StepPlan> {
    let Recipe { adapter, training: keys, evaluation, output, .. } = recipe;
    let total_steps = match keys.max_steps {
        Some(steps) => steps,
        None => total(recipe, data)?,
    };
    let warmup_steps = keys.warmup_steps.unwrap_or_else(|| schedule::warmup_steps(total_steps, keys.warmup_ratio));
    let kind = match keys.lr_scheduler_type {
        recipe::Scheduler::Constant => schedule::Kind::Constant,
        recipe::Scheduler::Linear => schedule::Kind::Linear,
        recipe::Scheduler::Cosine => schedule::Kind::Cosine,
    };
    let schedule = Schedule::new(kind, keys.learning_rate, warmup_steps, total_steps);
    if schedule.is_zero() {
        let what = format!(
            "the run would change nothing: its learning rate is 0 in {}",
            if total_steps == 1 {
                "its only step, which the warm-up takes".into()
            } else {
                format!("all of its {}", text::counted(total_steps, "step"))
            }
        );
        return Err(Error::new(Kind::Recipe, what)
            .at(Place::Key(
                if keys.warmup_steps.is_some() { "training.warmup_steps" } else { "training.learning_rate" }.into(),
            ))
            .hint("take more steps, or a shorter warm-up"));
    }
    let (metric, greater_is_better) = recipe.best_by();
    Ok(StepPlan {
        total_steps,
        schedule,
        step: StepSettings {
            objective: objective(recipe),
            max_grad_norm: keys.max_grad_norm,
            recompute,
            lora_dropout: adapter.lora_dropout,
            rng: Rng::new(keys.seed),
        },
        eval_steps: evaluation.eval_steps,
        eval_on_start: evaluation.eval_on_start,
        best_by: BestBy { metric, greater_is_better },
        early_stopping_patience: evaluation.early_stopping_patience,
        keep_best: evaluation.load_best_model_at_end,
        save_steps: output.save_steps,
    })
}

/// What a recipe's task learns.
fn objective(recipe: &Recipe) -> Arc<dyn Objective> {
    if let Some(keys) = &recipe.grpo {
        return of_own_answers(keys);
    }
    let Some(keys) = &recipe.preference else { return Arc::new(Sft) };
    let (beta, label_smoothing) = (keys.beta.unwrap_or_default(), keys.label_smoothing.unwrap_or(0.0));
    match recipe.task {
        Task::Sft | Task::Grpo | Task::Rloo => Arc::new(Sft),
        Task::Dpo => {
            let measured = |(loss, weight)| if let LossType::Dpo(loss) = loss { Some((loss, weight)) } else { None };
            let free = |(loss, _)| if let LossType::Cpo(loss) = loss { Some(loss) } else { None };
            match keys.losses().find_map(free) {
                None => Arc::new(Dpo { beta, label_smoothing, losses: keys.losses().filter_map(measured).collect() }),
                Some(loss) => Arc::new(Cpo {
                    beta,
                    label_smoothing,
                    cpo_alpha: keys.cpo_alpha.unwrap_or(1.0),
                    loss,
                    simpo_gamma: keys.simpo_gamma.unwrap_or_default(),
                    alpha: keys.alpha.unwrap_or_default(),
                }),
            }
        }
        Task::Orpo => Arc::new(Orpo { beta, nll_on_prompt: keys.nll_on_prompt.unwrap_or(true) }),
        Task::Kto => Arc::new(Kto {
            beta,
            loss: if keys.estimates_divergence() { KtoLoss::Kto } else { KtoLoss::ApoZeroUnpaired },
            desirable_weight: keys.desirable_weight.unwrap_or(1.0),
            undesirable_weight: keys.undesirable_weight.unwrap_or(1.0),
        }),
        Task::Reward => {
            Arc::new(Reward { center_rewards_coefficient: keys.center_rewards_coefficient.flatten().unwrap_or(0.0) })
        }
    }
}

/// What is learnt of a model's own answers.
fn of_own_answers(keys: &recipe::Grpo) -> Arc<dyn Objective> {
    let (epsilon, epsilon_high, temperature) = (keys.epsilon, keys.upper_epsilon(), keys.temperature);
    let Some(loss) = keys.loss_type else { return Arc::new(Rloo { epsilon, epsilon_high, temperature }) };
    let max_completion_length = keys.max_completion_length;
    Arc::new(Grpo { loss, epsilon, epsilon_high, beta: keys.beta, max_completion_length, temperature })
}

/// A pass over the data, in steps.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Steps of a pass.
    pub steps_per_pass: u64,
    /// Tokens of a step, on average.
    pub step_tokens: u64,
}

/// How a pass over the data is divided into steps.
///
/// # Errors
/// When a row does not fit into a bin.
pub fn passes(recipe: &Recipe, data: &Data) -> Result<Pass> {
    let (batch, accumulation, updates) = drawn(recipe);
    let epoch = data.binning.epoch(&data.train, 0)?;
    let steps = epoch.steps(batch, accumulation) as u64;
    let answered = recipe.grpo.as_ref().map_or(1, |keys| keys.num_generations as u64);
    Ok(Pass { steps_per_pass: steps * updates, step_tokens: epoch.tokens() * answered / steps.max(1) })
}

/// Rows of a micro-batch, and micro-batches that are drawn for an update; how many updates follow.
fn drawn(recipe: &Recipe) -> (usize, usize, u64) {
    let keys = &recipe.training;
    match &recipe.grpo {
        Some(grpo) => (1, grpo.prompts_in_a_step(keys), grpo.num_iterations as u64),
        None => (keys.per_device_train_batch_size, keys.gradient_accumulation_steps, 1),
    }
}

/// Optimiser steps in `num_train_epochs` passes; a fraction of a pass counts up.
///
/// # Errors
/// When the steps of the passes cannot be counted.
pub fn total(recipe: &Recipe, data: &Data) -> Result<u64> {
    let keys = &recipe.training;
    let (batch, accumulation, updates) = drawn(recipe);
    let whole = keys.num_train_epochs.floor();
    let steps = data.binning.steps(&data.train, whole as u64, batch, accumulation)?.saturating_mul(updates);
    let fraction = keys.num_train_epochs - whole;
    if fraction == 0.0 {
        return Ok(steps);
    }
    let last = data.binning.epoch(&data.train, whole as u64)?.steps(batch, accumulation) as u64 * updates;
    Ok(steps + (fraction * last as f64).ceil() as u64)
}
