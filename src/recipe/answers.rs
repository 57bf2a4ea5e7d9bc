//! Whether the keys of a recipe go with each other where a model learns from its own answers.

use super::Recipe;
use super::diagnose::Diagnosis;
use super::grpo::Grpo;
use super::preference::Task;
use super::training::Fit;
use crate::data::options::OnLong;
use crate::text::TrainOn;
use crate::train::objective::GrpoLoss;

/// The keys of `grpo` that one of the tasks has alone.
const KEYS: [(&str, Task); 3] =
    [("loss_type", Task::Grpo), ("scale_rewards", Task::Grpo), ("normalize_advantages", Task::Rloo)];

/// Every key of `grpo`, where the task is another.
const ALL: [&str; 17] = [
    "num_generations",
    "num_generations_eval",
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "num_iterations",
    "epsilon",
    "epsilon_high",
    "beta",
    "loss_type",
    "scale_rewards",
    "normalize_advantages",
    "mask_truncated_completions",
    "log_completions",
    "num_completions_to_print",
];

/// Reports keys that do not go with the task, or not with each other.
pub(super) fn check(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let Some(grpo) = &recipe.grpo else { return };
    if !recipe.task.answers() {
        // Of a section that is all for nothing one key is enough.
        let of_section = ALL.map(|key| format!("grpo.{key}")).into_iter().find(|path| diagnosis.given(path).is_some());
        for path in of_section.into_iter().chain(["rewards".to_owned()]) {
            let Some(mark) = diagnosis.given(&path) else { continue };
            let what = format!("`{path}` needs `task: grpo` or `task: rloo`");
            diagnosis.wrong(&path, &mark, what, Some("else leave it out".into()));
        }
        return;
    }
    for (key, task) in KEYS {
        let path = format!("grpo.{key}");
        if let Some(mark) = diagnosis.given(&path).filter(|_| recipe.task != task) {
            let what = format!("`{path}` needs `task: {}`", task.name());
            diagnosis.wrong(&path, &mark, what, Some("else leave it out".into()));
        }
    }
    rewards(recipe, diagnosis);
    bounds(grpo, diagnosis);
    batches(recipe, grpo, diagnosis);
    rows(recipe, grpo, diagnosis);
    evaluation(recipe, grpo, diagnosis);
}

fn rewards(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let example = "for example `rewards: [{kind: program, command: [python3, judge.py]}]`";
    if recipe.rewards.is_empty() && !diagnosis.is_wrong("rewards") {
        // An empty list has a place, and what is left out is wrong where the task stands.
        let (path, mark) = match (diagnosis.given("rewards"), diagnosis.given("task")) {
            (Some(mark), _) => ("rewards", mark),
            (None, Some(mark)) => ("task", mark),
            (None, None) => return,
        };
        let what =
            format!("`task: {}` needs `rewards`: without them no answer is better than another", recipe.task.name());
        diagnosis.wrong(path, &mark, what, Some(example.into()));
    } else if let Some(mark) = diagnosis.given("rewards")
        && !recipe.rewards.is_empty()
        && recipe.rewards.iter().all(|reward| reward.weight == 0.0)
    {
        let what = "`rewards`: all weights are 0, so that no answer is better than another";
        diagnosis.wrong("rewards", &mark, what, Some("leave `weight` out for 1".into()));
    }
}

fn bounds(grpo: &Grpo, diagnosis: &mut Diagnosis) {
    if let Some(mark) = diagnosis.given("grpo.loss_type")
        && grpo.loss_type == Some(GrpoLoss::Cispo)
        && grpo.epsilon_high.is_none()
        && !diagnosis.is_wrong("grpo.epsilon_high")
    {
        let what =
            "`loss_type: cispo` needs `grpo.epsilon_high`: how many times as likely as when it was said a token may be";
        diagnosis.wrong("grpo.loss_type", &mark, what, Some("for example `epsilon_high: 5.0`".into()));
    }
    if let Some(mark) = diagnosis.given("grpo.num_completions_to_print")
        && grpo.num_completions_to_print.is_some()
        && !grpo.log_completions
    {
        let what = "`grpo.num_completions_to_print` needs `grpo.log_completions: true`";
        diagnosis.wrong("grpo.num_completions_to_print", &mark, what, Some("else leave it out".into()));
    }
}

/// Reports batches that are not of whole groups.
fn batches(recipe: &Recipe, grpo: &Grpo, diagnosis: &mut Diagnosis) {
    let training = &recipe.training;
    let keys = ["training.per_device_train_batch_size", "training.gradient_accumulation_steps", "grpo.num_generations"];
    if keys.iter().any(|key| diagnosis.is_wrong(key)) {
        return;
    }
    if recipe.auto.contains("training.gradient_accumulation_steps") {
        if let Some(mark) = diagnosis.given("training.gradient_accumulation_steps") {
            let what = format!(
                "`training.gradient_accumulation_steps: auto` does not go with `task: {}`, whose batches count answers",
                recipe.task.name()
            );
            let hint = format!("write {} for one prompt in a step, or a multiple of it", grpo.num_generations);
            diagnosis.wrong("training.gradient_accumulation_steps", &mark, what, Some(hint));
        }
        return;
    }
    let (batch, accumulation) = (training.per_device_train_batch_size, training.gradient_accumulation_steps);
    let (answers, group) = (batch.saturating_mul(accumulation), grpo.num_generations);
    if answers.is_multiple_of(group) {
        return;
    }
    let Some((path, mark)) = keys.into_iter().chain(["task"]).find_map(|path| Some((path, diagnosis.given(path)?)))
    else {
        return;
    };
    let what = format!(
        "a step has {batch} x {accumulation} answers (`per_device_train_batch_size` x `gradient_accumulation_steps`), and \
         these are no whole groups of {group} (`grpo.num_generations`)"
    );
    let hint =
        format!("for example `gradient_accumulation_steps: {}` with a batch of 1", group * (answers / group).max(1));
    diagnosis.wrong(path, &mark, what, Some(hint));
}

/// Reports what rows that are prompts do not have.
fn rows(recipe: &Recipe, grpo: &Grpo, diagnosis: &mut Diagnosis) {
    let (data, task) = (&recipe.data, recipe.task.name());
    let mut wrong = |path: &str, is_wrong: bool, what: String, hint: &str| {
        if let Some(mark) = diagnosis.given(path).filter(|_| is_wrong) {
            diagnosis.wrong(path, &mark, what, Some(hint.into()));
        }
    };
    wrong(
        "data.packing",
        data.packing,
        format!("`data.packing: true` does not go with `task: {task}`, whose batches count answers"),
        "leave it out",
    );
    wrong(
        "data.train_on",
        data.train_on != TrainOn::Assistant,
        format!("`data.train_on` does nothing with `task: {task}`: the model's own answers are learnt"),
        "leave it out",
    );
    wrong(
        "data.on_long",
        matches!(data.on_long, Some(OnLong::Truncate | OnLong::Split)),
        "`data.on_long`: a prompt that is cut asks something else".into(),
        "`skip` leaves such rows out; `error` is what happens where nothing is said",
    );
    wrong(
        "data.max_length",
        recipe.auto.contains("data.max_length"),
        format!("`data.max_length: auto` does not go with `task: {task}`: how long answers are is not known before"),
        "it holds a prompt and `grpo.max_completion_length` tokens of its answer: write a number",
    );
    wrong(
        "training.fit",
        recipe.training.fit == Fit::Auto && grpo.loss_type == Some(GrpoLoss::Bnpo),
        "`training.fit: auto` does not go with `loss_type: bnpo`, which averages over each micro-batch".into(),
        "choose a batch that fits; or `loss_type: dapo`, which averages over the step",
    );
    let (length, answer) = (data.max_length, grpo.max_completion_length);
    if length > answer || ["data.max_length", "grpo.max_completion_length"].iter().any(|key| diagnosis.is_wrong(key)) {
        return;
    }
    let given = ["grpo.max_completion_length", "data.max_length"];
    if let Some((path, mark)) = given.into_iter().find_map(|path| Some((path, diagnosis.given(path)?))) {
        let what = format!(
            "`data.max_length` is {length} and `grpo.max_completion_length` {answer}: there is no room for a prompt before its answer"
        );
        diagnosis.wrong(path, &mark, what, Some(format!("for example `data.max_length: {}`", 2 * answer)));
    }
}

/// Reports a number of answers to prompts that there are none of.
fn evaluation(recipe: &Recipe, grpo: &Grpo, diagnosis: &mut Diagnosis) {
    let path = "grpo.num_generations_eval";
    let has_rows = !recipe.data.eval.is_empty()
        || recipe.data.eval_fraction.holds_back()
        || ["data.eval", "data.eval_fraction"].iter().any(|key| diagnosis.is_wrong(key));
    if let Some(mark) = diagnosis.given(path).filter(|_| grpo.num_generations_eval.is_some() && !has_rows) {
        let hint = "give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`";
        diagnosis.wrong(path, &mark, format!("`{path}` has no rows to evaluate on"), Some(hint.into()));
    }
}
