//! Nodes to a whole recipe, and the rules between keys.

use super::answers;
use super::best;
use super::columns;
use super::diagnose::Diagnosis;
use super::raw::Node;
use super::rewards::Rewards;
use super::section::Section;
use super::targets;
use super::tasks;
use super::{
    Adapter, Data, EvalFraction, Evaluation, Grpo, InitLoraWeights, Model, Optimizer, Output, Preference, Recipe, Task,
    Training,
};

impl Recipe {
    /// Reads all sections of `root`; problems go to `diagnosis`, and then the recipe is not to be used.
    pub(super) fn resolve(root: Option<&Node>, diagnosis: &mut Diagnosis) -> Recipe {
        let recipe = Section::read(root, None, String::new(), diagnosis, |root| {
            let task = root.key("task").or(Task::Sft);
            let model = root.section("model", Model::read);
            let adapter = root.section("adapter", Adapter::read);
            let data = root.section("data", |s| Data::read(s, task));
            let training = root.section("training", |s| Training::read(s, task));
            let preference = Some(root.section("preference", |s| Preference::read(s, task)));
            let grpo = Some(root.section("grpo", |s| Grpo::read(s, task)));
            let Rewards(rewards) = root.key("rewards").or(Rewards::default());
            let with_data = !data.eval.is_empty() || data.eval_fraction.holds_back();
            let evaluation = root.section("evaluation", |s| Evaluation::read(s, with_data));
            let output = root.section("output", Output::read);
            let (auto, remarks, places) = Default::default();
            Recipe {
                task,
                model,
                adapter,
                data,
                training,
                preference,
                grpo,
                rewards,
                evaluation,
                output,
                auto,
                remarks,
                places,
            }
        });
        let mut recipe = Recipe { auto: diagnosis.autos.clone(), ..recipe };
        // What goes with a task that nobody knows, nobody knows either.
        let is_known = !diagnosis.is_wrong("task");
        if is_known {
            tasks::choose_formats(recipe.task, &mut recipe.data, diagnosis);
        }
        if let Some(preference) = recipe.preference.as_ref().filter(|_| is_known) {
            tasks::check(recipe.task, preference, (&recipe.data, &recipe.training), diagnosis);
        }
        recipe.preference = recipe.preference.filter(|_| recipe.task.has_preference());
        if is_known {
            answers::check(&recipe, diagnosis);
        }
        recipe.grpo = recipe.grpo.filter(|_| recipe.task.answers());
        if is_known {
            best::check(&recipe, diagnosis);
        }
        targets::check(&recipe.adapter, diagnosis);
        columns::check(&recipe.data, diagnosis);
        no_start_for_what_is_continued(&recipe, diagnosis);
        no_pissa_with_dora(&recipe, diagnosis);
        one_source_of_eval_rows(&recipe, diagnosis);
        evaluation_needs_rows_and_steps(&recipe, diagnosis);
        one_length_of_warmup(&recipe, diagnosis);
        settings_of_the_other_optimizer(&recipe, diagnosis);
        a_rate_for_adamw(&recipe, diagnosis);
        decay_that_leaves_something(&recipe, diagnosis);
        a_push_for_its_settings(&recipe, diagnosis);
        no_answers_of_a_judge(&recipe, diagnosis);
        recipe
    }
}

/// An adapter that is continued has started; whether the other keys contradict it, its folder tells.
fn no_start_for_what_is_continued(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "adapter.init_lora_weights";
    if let Some(mark) = diagnosis.given(path)
        && recipe.adapter.init_from.is_some()
        && !diagnosis.is_default(&recipe.adapter, "adapter", "init_lora_weights")
    {
        let what = format!("`{path}` contradicts `adapter.init_from`: an adapter that is continued starts as it is");
        diagnosis.wrong(path, &mark, what, Some("leave one of the two out".into()));
    }
}

fn no_pissa_with_dora(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "adapter.init_lora_weights";
    if let Some(mark) = diagnosis.given(path)
        && recipe.adapter.init_lora_weights == InitLoraWeights::Pissa
        && recipe.adapter.use_dora
    {
        let what = "`init_lora_weights: pissa` and `use_dora` cannot be combined";
        let hint = "PiSSA moves the principal part of each weight into the adapter; choose one of the two";
        diagnosis.wrong(path, &mark, what, Some(hint.into()));
    }
}

fn one_source_of_eval_rows(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let Data { eval, eval_fraction, .. } = &recipe.data;
    if let Some(mark) = diagnosis.given("data.eval_fraction")
        && !eval.is_empty()
        && matches!(eval_fraction, EvalFraction::Of(share) if *share > 0.0)
    {
        let what = "`data.eval_fraction` and `data.eval` both say where evaluation rows come from";
        diagnosis.wrong("data.eval_fraction", &mark, what, Some("keep one, or set this one to 0".into()));
    }
}

fn evaluation_needs_rows_and_steps(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let Recipe { data, evaluation, .. } = recipe;
    let rows = !data.eval.is_empty()
        || data.eval_fraction.holds_back()
        || diagnosis.is_wrong("data.eval")
        || diagnosis.is_wrong("data.eval_fraction");
    let steps = evaluation.eval_steps.is_some()
        || diagnosis.is_wrong("evaluation.eval_steps")
        || recipe.auto.contains("evaluation.eval_steps");
    for (key, asked, takes_steps) in [
        ("eval_steps", evaluation.eval_steps.is_some(), false),
        ("eval_on_start", evaluation.eval_on_start, false),
        ("samples", evaluation.samples > 0, false),
        ("early_stopping_patience", evaluation.early_stopping_patience.is_some(), true),
        ("load_best_model_at_end", evaluation.load_best_model_at_end, true),
        ("metric_for_best_model", evaluation.metric_for_best_model.is_some(), false),
        ("greater_is_better", evaluation.greater_is_better.is_some(), false),
    ] {
        let path = format!("evaluation.{key}");
        let Some(mark) = diagnosis.given(&path).filter(|_| asked) else { continue };
        if !rows {
            let hint = "give `data.eval`, or hold rows back with `data.eval_fraction: 0.05`";
            diagnosis.wrong(&path, &mark, format!("`{path}` has no rows to evaluate on"), Some(hint.into()));
        } else if takes_steps && !steps {
            let hint = "for example `evaluation.eval_steps: 100`";
            diagnosis.wrong(&path, &mark, format!("`{path}` needs `evaluation.eval_steps`"), Some(hint.into()));
        }
    }
}

fn one_length_of_warmup(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let Training { warmup_steps, warmup_ratio, .. } = &recipe.training;
    if let Some(mark) = diagnosis.given("training.warmup_ratio")
        && warmup_steps.is_some()
        && *warmup_ratio > 0.0
    {
        let what = "`training.warmup_ratio` and `training.warmup_steps` both say how long to warm up";
        diagnosis.wrong("training.warmup_ratio", &mark, what, Some("keep one, or set this one to 0".into()));
    }
}

/// A setting that the chosen optimiser does not have would look as if it counted.
fn settings_of_the_other_optimizer(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let training = &recipe.training;
    let (name, not_its) = match training.optimizer {
        _ if diagnosis.is_wrong("training.optimizer") => return,
        Optimizer::Adamw => ("adamw", &["sgd_momentum"][..]),
        Optimizer::Sgd => ("sgd", &["adam_beta1", "adam_beta2", "adam_epsilon"][..]),
    };
    for key in not_its {
        let path = format!("training.{key}");
        let Some(mark) = diagnosis.given(&path).filter(|_| !diagnosis.is_default(training, "training", key)) else {
            continue;
        };
        let what = format!("`{path}` does nothing with `optimizer: {name}`");
        diagnosis.wrong(&path, &mark, what, Some("leave it out".into()));
    }
}

/// A reward model judges texts, and writes none.
fn no_answers_of_a_judge(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "evaluation.samples";
    if let Some(mark) = diagnosis.given(path).filter(|_| recipe.task == Task::Reward && recipe.evaluation.samples > 0) {
        let what = format!("`{path}` does not go with `task: reward`: a reward model judges answers and writes none");
        diagnosis.wrong(path, &mark, what, Some("leave it out".into()));
    }
}

/// AdamW moves a weight by about the learning rate in every step, however small the gradient.
fn a_rate_for_adamw(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "training.learning_rate";
    let Training { optimizer, learning_rate, .. } = recipe.training;
    if let Some(mark) = diagnosis.given(path)
        && optimizer == Optimizer::Adamw
        && !diagnosis.is_wrong("training.optimizer")
        && learning_rate >= 1.0
    {
        let what =
            format!("`{path}` must be below 1 with `optimizer: adamw`, which moves each weight that far in a step");
        let hint = "adapters learn at 1.0e-5 to 1.0e-3; the default is 2.0e-4";
        diagnosis.wrong(path, &mark, what, Some(hint.into()));
    }
}

fn decay_that_leaves_something(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let path = "training.weight_decay";
    let Training { weight_decay, learning_rate, .. } = recipe.training;
    if let Some(mark) = diagnosis.given(path)
        && !diagnosis.is_wrong("training.learning_rate")
        && weight_decay * learning_rate >= 1.0
    {
        let what =
            format!("`{path}` times `training.learning_rate` is 1 or more: each step would wipe out every weight");
        diagnosis.wrong(path, &mark, what, Some("usual decays are 0 to 0.1".into()));
    }
}

/// What says how to push does nothing where nothing is pushed.
fn a_push_for_its_settings(recipe: &Recipe, diagnosis: &mut Diagnosis) {
    let output = &recipe.output;
    if output.push_to_hub.is_some() || diagnosis.is_wrong("output.push_to_hub") {
        return;
    }
    for key in ["hub_private_repo", "hub_overwrite", "hub_base_model"] {
        let path = format!("output.{key}");
        let Some(mark) = diagnosis.given(&path).filter(|_| !diagnosis.is_default(output, "output", key)) else {
            continue;
        };
        let hint = "for example `output.push_to_hub: my-name/my-model`; else leave it out";
        diagnosis.wrong(&path, &mark, format!("`{path}` needs `output.push_to_hub`"), Some(hint.into()));
    }
}
