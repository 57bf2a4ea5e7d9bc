//! `evaluation`: measuring on held-out rows while training.

use super::or_auto::OrAuto;
use super::rules::not_blank;
use super::section::Section;
use schemars::JsonSchema;
use serde::Serialize;

/// Measuring on held-out rows while training; needs `data.eval` or `data.eval_fraction`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Evaluation {
    /// Evaluates every so many optimiser steps; without it, only before the first step and after the last. `auto` does
    /// so a few times per run.
    #[schemars(with = "Option<OrAuto<u64>>")]
    pub eval_steps: Option<u64>,
    /// Evaluates before the first step, which shows the base model's loss; `true` where there are rows to evaluate on.
    pub eval_on_start: bool,
    /// Stops after so many evaluations in a row of which none is the best so far.
    pub early_stopping_patience: Option<u64>,
    /// Ends with the adapter of the best evaluation instead of the last one.
    pub load_best_model_at_end: bool,
    /// What tells the best evaluation: a metric that it gives, with or without `eval_`; without it the loss, where answers of the model
    /// itself are judged the reward.
    pub metric_for_best_model: Option<String>,
    /// Whether more of that is better; without it as is usual for the metric.
    pub greater_is_better: Option<bool>,
    /// Answers the prompts of so many evaluation rows at each evaluation, for reading: on screen and in TensorBoard.
    pub samples: usize,
}

impl Evaluation {
    /// `with_data` says whether there are rows to evaluate on.
    pub(super) fn read(section: &mut Section<'_>, with_data: bool) -> Self {
        Evaluation {
            eval_steps: section.key("eval_steps").auto_or_within(1..).optional_or_chosen(),
            eval_on_start: section.key("eval_on_start").or_derived(with_data),
            early_stopping_patience: section.key("early_stopping_patience").within(1..).optional(),
            load_best_model_at_end: section.key("load_best_model_at_end").or(false),
            metric_for_best_model: section.key("metric_for_best_model").check(not_blank).optional(),
            greater_is_better: section.key("greater_is_better").optional(),
            samples: section.key("samples").or(0),
        }
    }
}
