//! What tells the best evaluation: `evaluation.metric_for_best_model` and `greater_is_better`.

use super::Recipe;
use super::diagnose::Diagnosis;
use super::preference::Task;
use super::suggest::closest;

/// What names of metrics may begin with, as in transformers.
const PREFIX: &str = "eval_";

/// A metric that an evaluation gives, without [`PREFIX`], and whether more of it is better, where that is known.
type Metric = (String, Option<bool>);

impl Recipe {
    /// What tells the best evaluation, by the name that evaluations have it under, and whether more of it is better.
    pub fn best_by(&self) -> (String, bool) {
        let usual = if self.task.answers() { "reward" } else { "loss" };
        let named = self.evaluation.metric_for_best_model.as_deref().map_or(usual, bare);
        let known = metrics(self).into_iter().find(|(name, _)| name == named).and_then(|(_, greater)| greater);
        let greater_is_better = self.evaluation.greater_is_better.or(known).unwrap_or(false);
        (format!("{PREFIX}{named}"), greater_is_better)
    }
}

/// A metric's name without [`PREFIX`].
fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Reports a metric that evaluations of this recipe do not give, and one of which nobody knows which way is better.
pub(super) fn check(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "evaluation.metric_for_best_model";
    let decides = ["rewards", "preference.loss_type", "grpo.beta"];
    let Some(mark) = diagnosis.given(path).filter(|_| !decides.iter().any(|key| diagnosis.is_wrong(key))) else {
        return;
    };
    let Some(given) = &recipe.evaluation.metric_for_best_model else { return };
    let metrics = metrics(recipe);
    match metrics.iter().find(|(name, _)| name == bare(given)) {
        None => {
            let what = format!("`{path}`: evaluations of `task: {}` give no `{given}`", recipe.task.name());
            let names = || metrics.iter().map(|(name, _)| name.as_str());
            let all =
                || format!("they give {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "));
            let near = closest(bare(given), names()).map(|near| format!("did you mean `{near}`? {}", all()));
            let hint = match bare(given) {
                "perplexity" => "it is the exponential of `loss`, and best where that is".to_owned(),
                _ => near.unwrap_or_else(all),
            };
            diagnosis.wrong(path, &mark, what, Some(hint));
        }
        Some((name, None))
            if recipe.evaluation.greater_is_better.is_none() && !diagnosis.is_wrong("evaluation.greater_is_better") =>
        {
            let what = format!("`{path}: {name}`: whether more of it is better is for you to say");
            let hint = "with `evaluation.greater_is_better: true`, or `false`";
            diagnosis.wrong(path, &mark, what, Some(hint.into()));
        }
        Some(_) => {}
    }
}

/// Everything that an evaluation of a recipe gives.
fn metrics(recipe: &Recipe) -> Vec<Metric> {
    let (more, less, unknown) = (Some(true), Some(false), None);
    let pairs = [
        ("loss", less),
        ("rewards/margins", more),
        ("rewards/chosen", more),
        ("rewards/rejected", unknown),
        ("logps/chosen", unknown),
        ("logps/rejected", unknown),
    ];
    let mut known: Vec<(&str, Option<bool>)> = match recipe.task {
        Task::Sft => vec![("loss", less)],
        Task::Dpo | Task::Orpo | Task::Kto => pairs.into(),
        Task::Reward if !recipe.has_pairs() => vec![
            ("loss", less),
            ("accuracy", more),
            ("mean_reward", unknown),
            ("min_reward", unknown),
            ("max_reward", unknown),
        ],
        Task::Reward => vec![
            ("loss", less),
            ("accuracy", more),
            ("margin", more),
            ("mean_reward", unknown),
            ("min_reward", unknown),
            ("max_reward", unknown),
        ],
        Task::Grpo | Task::Rloo => {
            vec![("reward", more), ("reward_std", unknown), ("frac_reward_zero_std", unknown)]
        }
    };
    let mut losses = recipe.preference.iter().flat_map(|keys| &keys.loss_type.0);
    let is_free = recipe.task == Task::Orpo || losses.any(|loss| loss.is_reference_free());
    match recipe.task {
        Task::Dpo | Task::Orpo => known.push(("rewards/accuracies", more)),
        Task::Kto => known.push(("kl", unknown)),
        _ => {}
    }
    if is_free {
        known.push(("nll_loss", less));
    }
    if recipe.task == Task::Orpo {
        known.extend([("log_odds_ratio", more), ("log_odds_chosen", more)]);
    }
    let mut all: Vec<Metric> = known.into_iter().map(|(name, greater)| (name.to_owned(), greater)).collect();
    let Some(keys) = recipe.grpo.as_ref().filter(|_| recipe.task.answers()) else { return all };
    for reward in &recipe.rewards {
        all.extend([
            (format!("rewards/{}/mean", reward.name), more),
            (format!("rewards/{}/std", reward.name), unknown),
        ]);
    }
    let lengths = ["", "terminated_"].into_iter().flat_map(|which| ["mean", "min", "max"].map(|of| (of, which)));
    all.extend(lengths.map(|(of, which)| (format!("completions/{of}_{which}length"), unknown)));
    all.push(("completions/clipped_ratio".into(), less));
    if keys.beta > 0.0 {
        all.push(("kl".into(), unknown));
    }
    all
}
