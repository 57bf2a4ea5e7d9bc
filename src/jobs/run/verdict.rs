//! How a run ended, in words: why it stopped, which step was best, and what to do next.

use crate::recipe::{Recipe, Task};
use crate::report::{StopReason, Summary, text};
use crate::terminal::shell_word;
use crate::train::run::Ending;
use std::path::Path;

/// Why a run that is over ended.
pub fn stop_reason(ending: Ending, recipe: &Recipe) -> Option<StopReason> {
    match ending {
        Ending::StoppedEarly => Some(StopReason::EarlyStopping),
        Ending::Done if recipe.training.max_steps.is_some() => Some(StopReason::MaxSteps),
        Ending::Done => Some(StopReason::Epochs),
        Ending::Interrupted => None,
    }
}

/// Whether the run stopped early, and how its evaluations went; nothing without evaluations.
pub fn verdict(summary: &Summary, recipe: &Recipe, total_steps: u64) -> Vec<String> {
    let (totals, mut lines) = (&summary.totals, Vec::new());
    let (Some(best), Some(last)) = (totals.best_eval, totals.last_eval) else { return lines };
    if summary.stop_reason == Some(StopReason::EarlyStopping) {
        let patience = recipe.evaluation.early_stopping_patience.unwrap_or_default();
        let evaluations = text::counted(patience, "evaluation");
        lines.push(format!(
            "Stopped early, after step {} of {total_steps}: the evaluation loss has not improved in {evaluations} \
             (`evaluation.early_stopping_patience`)",
            totals.steps
        ));
    }
    if best.step == last.step {
        return lines;
    }
    let (at, loss, last_loss) = (best.step, best.eval_loss, last.eval_loss);
    let mut line = format!("Best evaluation: {loss:.4} at step {at}; the last: {last_loss:.4}");
    match summary.adapter_step {
        Some(kept) if kept == at => line += &format!(". The adapter is that of step {at}"),
        _ => line += ". The adapter is that of the last step; `evaluation.load_best_model_at_end: true` keeps the best",
    }
    lines.push(line);
    if at == 0 {
        let start = match &recipe.adapter.init_from {
            Some(_) => "the adapter that the run started from",
            None => "the base model itself",
        };
        lines.push(format!(
            "warning: {start} was best: no step of this run made the evaluation loss lower than it was before. Lower \
             `training.learning_rate`, or see whether evaluation and training rows are of one kind (`data preview`)"
        ));
    }
    lines
}

/// The command to try the adapter with.
pub fn next(recipe: &Recipe, adapter: &Path, device: &str) -> String {
    let device = if device == "auto" { String::new() } else { format!(" --device {}", shell_word(device)) };
    let (model, adapter) = (shell_word(&recipe.model.base), shell_word(&adapter.display().to_string()));
    match recipe.task {
        Task::Reward => {
            format!("next: gemma-tune score --model {model} --adapter {adapter}{device} --input ROWS.jsonl")
        }
        _ => format!("next: gemma-tune chat --model {model} --adapter {adapter}{device}"),
    }
}
