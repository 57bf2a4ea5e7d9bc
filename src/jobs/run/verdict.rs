//! How a run ended, in words: why it stopped, which step was best, and what to do next.

use crate::recipe::{Recipe, Task};
use crate::report::{StopReason, Summary, text};
use crate::terminal::shell_word;
use crate::train::run::Ending;
use serde_json::Value;
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

/// The share of answers that did not come to their end.
const CUT_OFF: &str = "completions/clipped_ratio";

/// Whether the run stopped early, and how its evaluations went; nothing without evaluations.
pub fn verdict(summary: &Summary, recipe: &Recipe, total_steps: u64) -> Vec<String> {
    let (totals, mut lines) = (&summary.totals, Vec::new());
    let (Some(best), Some(last)) = (&totals.best_eval, &totals.last_eval) else { return lines };
    let (metric, greater_is_better) = recipe.best_by();
    let (Some(best_value), Some(last_value)) = (best.get(&metric), last.get(&metric)) else { return lines };
    let is_loss = metric == "eval_loss";
    let name = if is_loss { "the evaluation loss".to_owned() } else { format!("`{metric}`") };
    if summary.stop_reason == Some(StopReason::EarlyStopping) {
        let patience = recipe.evaluation.early_stopping_patience.unwrap_or_default();
        let evaluations = text::counted(patience, "evaluation");
        lines.push(format!(
            "Stopped early, after step {} of {total_steps}: {name} has not improved in {evaluations} \
             (`evaluation.early_stopping_patience`)",
            totals.steps
        ));
    }
    if best.step == last.step {
        return lines;
    }
    let (at, of) = (best.step, if is_loss { String::new() } else { format!("{name} ") });
    let mut line = format!(
        "Best evaluation: {of}{} at step {at}; the last: {}",
        text::metric(best_value),
        text::metric(last_value)
    );
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
        let better = if greater_is_better { "higher" } else { "lower" };
        // What is said of an accuracy that is that of chance asks for the opposite.
        let advice = match recipe.task {
            Task::Reward => "See",
            _ => "Lower `training.learning_rate`, or see",
        };
        lines.push(format!(
            "warning: {start} was best: no step of this run made {name} {better} than it was before. {advice} \
             whether evaluation and training rows are of one kind (`data preview`)"
        ));
    }
    lines
}

/// What to say of a reward model that tells evaluation rows apart no better than who always gives the same answer; nothing without an
/// accuracy. `judged` is how many of these rows are good and how many bad, where each is judged by itself.
pub fn chance(summary: &Summary, recipe: &Recipe, judged: [u64; 2]) -> Option<String> {
    let totals = &summary.totals;
    let kept = totals.best_eval.as_ref().filter(|best| Some(best.step) == summary.adapter_step);
    let accuracy = kept.or(totals.last_eval.as_ref())?.get("eval_accuracy").filter(|_| recipe.task == Task::Reward)?;
    let [good, bad] = judged;
    let (chance, always) = match good.max(bad) {
        0 => (0.5, "drawing lots".to_owned()),
        most => {
            let label = if good >= bad { "good" } else { "bad" };
            (most as f64 / (good + bad) as f64, format!("calling all rows {label}"))
        }
    };
    (accuracy <= chance).then(|| {
        format!(
            "warning: `eval_accuracy` of the adapter is {accuracy:.4}, and {always} would have {chance:.4}: it has not learnt to tell \
             the rows apart. Train longer or with a higher `training.learning_rate`, or see whether evaluation and training rows are of \
             one kind (`data preview`)"
        )
    })
}

/// The lines of the metrics of a run; of what cannot be read none.
fn lines(metrics: &Path) -> Vec<Value> {
    let text = crate::input::read(metrics).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// What those say of a number that say anything of it.
fn said<'a>(lines: &'a [Value], name: &'a str) -> impl Iterator<Item = f64> + 'a {
    lines.iter().filter_map(move |line| line.get(name)?.as_f64())
}

/// What to say of a run of which most answers were cut off, by its metrics: what is learnt of such is not how to end one.
pub fn cut_off(recipe: &Recipe, metrics: &Path) -> Option<String> {
    let most = recipe.grpo.as_ref()?.max_completion_length;
    let lines = lines(metrics);
    let (sum, count) = said(&lines, CUT_OFF).fold((0.0, 0.0), |(sum, count), share| (sum + share, count + 1.0));
    (count > 0.0 && sum > count / 2.0).then(|| {
        format!(
            "warning: {:.0} % of the answers were cut off after {most} tokens (`{CUT_OFF}`): raise `grpo.max_completion_length`, or reward \
             answers that are short",
            100.0 * sum / count
        )
    })
}

/// What to do about a run that left its adapter as it was, by what its metrics say.
pub fn why_unchanged(recipe: &Recipe, metrics: &Path) -> String {
    let usual = "its gradients or its rate are 0: look at `lora_alpha`, `learning_rate` and `grad_norm` in the metrics";
    let steps = lines(metrics);
    // Whether it is 1 in all steps that say it.
    let is_all = |name: &str| {
        let mut said = said(&steps, name).peekable();
        said.peek().is_some() && said.all(|share| share == 1.0)
    };
    let is_cut = is_all(CUT_OFF);
    let masked = recipe.grpo.as_ref().is_some_and(|keys| keys.mask_truncated_completions);
    match is_all("frac_reward_zero_std") {
        _ if is_cut && masked => {
            "all answers were cut off (`completions/clipped_ratio` is 1), and `grpo.mask_truncated_completions` leaves such \
             out: raise `grpo.max_completion_length`"
                .into()
        }
        true => {
            let cut = "; and none came to its end (`completions/clipped_ratio` is 1): raise `grpo.max_completion_length`";
            format!(
                "all answers to each prompt were equally good (`frac_reward_zero_std` is 1), of which nothing is learnt: look at \
                 them in `rewards.jsonl`, and let `rewards` tell them apart, or draw more of them{}",
                if is_cut { cut } else { "" }
            )
        }
        false => usual.into(),
    }
}

/// The command to try the adapter with; of one that judges rows one by one, that which says how well and suggests a threshold, and of a
/// router what has it decide.
pub fn next(recipe: &Recipe, adapter: &Path, device: &str, is_router: bool) -> String {
    let device = if device == "auto" { String::new() } else { format!(" --device {}", shell_word(device)) };
    let word = |path: &Path| shell_word(&path.display().to_string());
    let (model, folder) = (shell_word(&recipe.model.base), word(adapter));
    match recipe.task {
        Task::Reward if recipe.has_pairs() => {
            format!("next: gemma-tune score --model {model} --adapter {folder}{device} --input ROWS.jsonl")
        }
        Task::Reward => {
            let has_rows = !recipe.data.eval.is_empty() || recipe.data.eval_fraction.holds_back();
            let rows = if has_rows { "" } else { " --set data.eval=ROWS.jsonl" };
            let of_run = word(&adapter.with_file_name("recipe.yaml"));
            let mut lines = format!("next: gemma-tune evaluate {of_run} --adapter {folder}{rows}{device}");
            if is_router {
                lines += &format!(
                    "\nthen: gemma-tune serve --model {model} --route rules.yaml{device}, with `classifier: {{adapter: {folder}, threshold: ..}}` \
                     in the rules, the threshold that `evaluate` suggests"
                );
            }
            lines
        }
        _ => format!("next: gemma-tune chat --model {model} --adapter {folder}{device}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Evaluated, Totals};

    #[test]
    fn a_run_of_own_answers_that_changed_nothing_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (path, keys) = (dir.path().join("metrics.jsonl"), |grpo: &str| {
            let text = format!(
                "task: grpo\nmodel: {{base: m}}\ndata: {{train: a}}\noutput: {{dir: o}}\n{grpo}rewards: [{{kind: json}}]\n"
            );
            crate::recipe::parse(Path::new("r.yaml"), text.into(), &[]).unwrap()
        });
        let why = |zero: [f64; 2], cut: f64, grpo: &str| {
            let line =
                |zero: f64| format!("{{\"frac_reward_zero_std\": {zero}, \"completions/clipped_ratio\": {cut}}}\n");
            std::fs::write(&path, zero.map(line).concat()).unwrap();
            let warns = cut_off(&keys(grpo), &path).is_some_and(|warning| warning.contains("100 % of the answers"));
            assert_eq!(warns, cut == 1.0);
            why_unchanged(&keys(grpo), &path)
        };
        assert!(why([1.0, 1.0], 0.5, "").contains("`frac_reward_zero_std` is 1"));
        assert!(!why([1.0, 1.0], 0.5, "").contains("clipped_ratio"));
        assert!(why([1.0, 1.0], 1.0, "").contains("`completions/clipped_ratio` is 1"));
        assert!(why([1.0, 0.5], 0.5, "").contains("`learning_rate`"));
        let masked = why([0.5, 0.5], 1.0, "grpo: {mask_truncated_completions: true}\n");
        assert!(masked.contains("leaves such out"), "{masked}");
        assert!(why_unchanged(&keys(""), Path::new("nowhere")).contains("`lora_alpha`"));
    }

    #[test]
    fn the_best_is_said_by_what_tells_it() {
        let recipe = |task: &str, keys: &str| {
            let text = format!(
                "task: {task}\nmodel: {{base: m}}\ndata: {{train: a, eval: b}}\noutput: {{dir: o}}\n\
                 evaluation: {{eval_steps: 2, early_stopping_patience: 1{keys}}}\n"
            );
            crate::recipe::parse(Path::new("r.yaml"), text.into(), &[]).unwrap()
        };
        let evaluated = |step, loss, margin| Evaluated {
            step,
            eval_loss: Some(loss),
            metrics: [("eval_rewards/margins".to_owned(), margin)].into(),
        };
        let said = |recipe: &Recipe, best, last| {
            let mut totals = Totals::default();
            (totals.steps, totals.best_eval, totals.last_eval) = (4, Some(best), Some(last));
            let stop_reason = Some(StopReason::EarlyStopping);
            let summary = Summary { stop_reason, adapter_step: Some(4), ..Summary::new(&totals) };
            verdict(&summary, recipe, 9)
        };
        let of_loss = said(&recipe("sft", ""), evaluated(2, 0.5, 0.0), evaluated(4, 0.75, 0.0));
        assert!(
            of_loss[0].contains("after step 4 of 9: the evaluation loss has not improved in 1 evaluation ("),
            "{of_loss:?}"
        );
        assert!(
            of_loss[1].starts_with("Best evaluation: 0.5000 at step 2; the last: 0.7500. The adapter"),
            "{of_loss:?}"
        );
        let keys = ", metric_for_best_model: rewards/margins";
        let of_margins = said(&recipe("dpo", keys), evaluated(0, 0.75, 0.5), evaluated(4, 0.5, 0.25));
        assert!(of_margins[0].contains(": `eval_rewards/margins` has not improved in 1 evaluation"), "{of_margins:?}");
        assert!(of_margins[1].contains("`eval_rewards/margins` 0.5000 at step 0; the last: 0.2500"), "{of_margins:?}");
        assert!(of_margins[2].contains("no step of this run made `eval_rewards/margins` higher"), "{of_margins:?}");
    }
    #[test]
    fn a_router_is_measured_and_then_decides() {
        let recipe = |rows: &str| {
            let text = format!("task: reward\nmodel: {{base: m}}\ndata: {{train: a{rows}}}\noutput: {{dir: o}}\n");
            crate::recipe::parse(Path::new("r.yaml"), text.into(), &[]).unwrap()
        };
        let said = |rows: &str, is_router| next(&recipe(rows), Path::new("o/adapter"), "auto", is_router);
        assert_eq!(
            said("", false),
            "next: gemma-tune score --model m --adapter o/adapter --input ROWS.jsonl",
            "of pairs the one or the other is better"
        );
        let judge = "next: gemma-tune evaluate o/recipe.yaml --adapter o/adapter";
        assert_eq!(said(", eval: b, format: unpaired", false), judge);
        assert_eq!(said(", format: unpaired", false), format!("{judge} --set data.eval=ROWS.jsonl"));
        let router = said(", eval: b, format: unpaired", true);
        assert!(
            router.starts_with(&format!("{judge}\nthen: gemma-tune serve --model m --route rules.yaml, ")),
            "{router}"
        );
    }

    #[test]
    fn accuracies_that_chance_has_are_remarked() {
        let text = "task: reward\nmodel: {base: m}\ndata: {train: a, eval: b, format: unpaired}\noutput: {dir: o}\n";
        let recipe = crate::recipe::parse(Path::new("r.yaml"), text.into(), &[]).unwrap();
        let evaluated = |step, accuracy| Evaluated {
            step,
            eval_loss: Some(0.7),
            metrics: [("eval_accuracy".to_owned(), accuracy)].into(),
        };
        let said = |best: Option<f64>, last: f64, judged| {
            let mut totals = Totals::default();
            (totals.best_eval, totals.last_eval) = (best.map(|best| evaluated(2, best)), Some(evaluated(4, last)));
            let adapter_step = Some(if best.is_some() { 2 } else { 4 });
            chance(&Summary { adapter_step, ..Summary::new(&totals) }, &recipe, judged)
        };
        let below = said(None, 0.4375, [8, 8]).expect("a remark");
        assert!(below.contains("is 0.4375, and calling all rows good would have 0.5000"), "{below}");
        let of_many = said(None, 0.75, [4, 12]).expect("a remark");
        assert!(of_many.contains("calling all rows bad would have 0.7500"), "{of_many}");
        assert!(said(None, 0.5, [0, 0]).expect("a remark").contains("drawing lots"));
        assert_eq!(said(None, 0.8125, [4, 12]), None);
        assert_eq!(said(Some(0.9), 0.4, [8, 8]), None, "what is kept is that of the best step");
    }
}
