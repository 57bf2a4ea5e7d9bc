//! What tells the best evaluation.

use super::*;

/// A recipe of a task with evaluation rows, with these keys of `evaluation` and other lines.
fn of_task(task: &str, keys: &str, lines: &str) -> String {
    format!(
        "task: {task}\nmodel: {{base: m}}\ndata: {{train: a, eval: b}}\noutput: {{dir: o}}\n\
         evaluation: {{eval_steps: 5{keys}}}\n{lines}"
    )
}

#[test]
fn the_best_evaluation_is_told_by_what_evaluations_of_the_task_give() {
    let rewards = "rewards: [{kind: json, name: valid}]\n";
    for (task, keys, lines, metric, greater) in [
        ("sft", "", "", "eval_loss", false),
        ("sft", ", metric_for_best_model: loss", "", "eval_loss", false),
        ("dpo", "", "", "eval_loss", false),
        ("dpo", ", metric_for_best_model: eval_rewards/margins", "", "eval_rewards/margins", true),
        ("dpo", ", metric_for_best_model: rewards/accuracies", "", "eval_rewards/accuracies", true),
        ("dpo", ", metric_for_best_model: nll_loss", "preference: {loss_type: simpo}\n", "eval_nll_loss", false),
        ("dpo", ", metric_for_best_model: logps/chosen, greater_is_better: true", "", "eval_logps/chosen", true),
        ("orpo", ", metric_for_best_model: log_odds_chosen", "", "eval_log_odds_chosen", true),
        ("kto", ", metric_for_best_model: kl, greater_is_better: false", "", "eval_kl", false),
        ("reward", ", metric_for_best_model: accuracy", "", "eval_accuracy", true),
        ("grpo", "", rewards, "eval_reward", true),
        ("grpo", ", metric_for_best_model: rewards/valid/mean", rewards, "eval_rewards/valid/mean", true),
        (
            "grpo",
            ", metric_for_best_model: completions/clipped_ratio",
            rewards,
            "eval_completions/clipped_ratio",
            false,
        ),
        ("rloo", ", metric_for_best_model: kl, greater_is_better: false", rewards, "eval_kl", false),
        ("rloo", ", greater_is_better: false", rewards, "eval_reward", false),
    ] {
        let text = of_task(task, keys, lines);
        let recipe = read(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(recipe.best_by(), (metric.to_owned(), greater), "{text}");
        assert_eq!(read(&recipe.to_yaml(), &[]).unwrap().best_by(), recipe.best_by(), "{text}");
    }
}

#[test]
fn what_no_evaluation_gives_is_named_with_what_it_does() {
    let rewards = "rewards: [{kind: json, name: valid}]\n";
    let evaluations = "`evaluation.metric_for_best_model`: evaluations of `task: ";
    for (task, metric, lines, what, hint) in [
        ("sft", "rewards/margins", "", format!("{evaluations}sft` give no `rewards/margins`"), "they give `loss`"),
        ("sft", "perplexity", "", format!("{evaluations}sft` give no `perplexity`"), "the exponential of `loss`"),
        (
            "dpo",
            "eval_rewards/margin",
            "",
            format!("{evaluations}dpo` give no `eval_rewards/margin`"),
            "did you mean `rewards/margins`?",
        ),
        ("kto", "rewards/accuracies", "", format!("{evaluations}kto` give no"), "`rewards/margins`"),
        ("grpo", "loss", rewards, format!("{evaluations}grpo` give no `loss`"), "`reward`, "),
        ("grpo", "kl", rewards, format!("{evaluations}grpo` give no `kl`"), "they give `reward`"),
        ("grpo", "rewards/json/mean", rewards, format!("{evaluations}grpo` give no"), "`rewards/valid/mean`"),
        (
            "dpo",
            "logps/rejected",
            "",
            "`evaluation.metric_for_best_model: logps/rejected`: whether more of it is better is for you to say".into(),
            "`evaluation.greater_is_better: true`",
        ),
    ] {
        let said = wrong(&of_task(task, &format!(", metric_for_best_model: {metric}"), lines));
        assert!(said.contains(&what) && said.contains(hint), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
    }
    let said = wrong_after("evaluation: {metric_for_best_model: loss, greater_is_better: false}\n");
    for key in ["metric_for_best_model", "greater_is_better"] {
        assert!(said.contains(&format!("`evaluation.{key}` has no rows to evaluate on")), "{said}");
    }
}
