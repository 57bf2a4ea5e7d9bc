//! `evaluation`: measuring on held-out rows while training.

use super::or_auto::OrAuto;
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
    /// Stops after so many evaluations in a row without a new lowest loss.
    pub early_stopping_patience: Option<u64>,
    /// Ends with the adapter of the lowest evaluation loss instead of the last one.
    pub load_best_model_at_end: bool,
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
            samples: section.key("samples").or(0),
        }
    }
}
