//! Whether the keys of a recipe go with its task.

use super::data::{Data, Source};
use super::diagnose::Diagnosis;
use super::preference::{LossType, LossTypes, Preference, Task};
use super::training::{Fit, Training};
use crate::data::options::RowFormat;
use crate::text::TrainOn;
use crate::train::objective::{CpoLoss, DpoLoss};

/// The keys of `preference`, with the tasks that they are of.
const KEYS: [(&str, &[Task]); 11] = [
    ("beta", &[Task::Dpo, Task::Orpo, Task::Kto]),
    ("loss_type", &[Task::Dpo, Task::Kto]),
    ("label_smoothing", &[Task::Dpo]),
    ("loss_weights", &[Task::Dpo]),
    ("cpo_alpha", &[Task::Dpo]),
    ("simpo_gamma", &[Task::Dpo]),
    ("alpha", &[Task::Dpo]),
    ("nll_on_prompt", &[Task::Orpo]),
    ("desirable_weight", &[Task::Kto]),
    ("undesirable_weight", &[Task::Kto]),
    ("center_rewards_coefficient", &[Task::Reward]),
];

/// The rows of a task whose rows are all of one format.
fn rows(task: Task) -> Option<RowFormat> {
    match task {
        Task::Sft => None,
        Task::Dpo | Task::Orpo | Task::Reward => Some(RowFormat::Preference),
        Task::Kto => Some(RowFormat::Unpaired),
        Task::Grpo | Task::Rloo => Some(RowFormat::PromptOnly),
    }
}

/// The rows of a task, where their sources do not say what they are; reports those that it does not train.
pub(super) fn choose_formats(task: Task, data: &mut Data, diagnosis: &mut Diagnosis) {
    for (list, sources) in [("data.train", &mut data.train), ("data.eval", &mut data.eval)] {
        for (i, source) in sources.iter_mut().enumerate() {
            if source.format == RowFormat::Auto {
                source.format = rows(task).unwrap_or(RowFormat::Auto);
            }
            let is_trained = match rows(task) {
                // Each by itself, or against another.
                _ if task == Task::Reward => matches!(source.format, RowFormat::Preference | RowFormat::Unpaired),
                // Pairs are taken apart, as in TRL.
                Some(RowFormat::Unpaired) => matches!(source.format, RowFormat::Unpaired | RowFormat::Preference),
                Some(format) => source.format == format,
                None => !matches!(source.format, RowFormat::Preference | RowFormat::Unpaired | RowFormat::PromptOnly),
            };
            if is_trained {
                continue;
            }
            let own = format!("{list}[{i}].format");
            let Some((path, mark)) =
                [own.as_str(), "data.format"].into_iter().find_map(|path| Some((path, diagnosis.given(path)?)))
            else {
                continue;
            };
            let what = format!("`{path}`: `task: {}` does not train rows of `{}`", task.name(), source.format);
            let others = match source.format {
                RowFormat::Preference => "`task: dpo`, `orpo` and `reward` train preferences",
                RowFormat::Unpaired => "`task: kto` trains good and bad answers, and `task: reward` tells them apart",
                RowFormat::PromptOnly => "`task: grpo` trains the model's own answers to prompts",
                _ => "`task: sft` trains others",
            };
            let hint = match rows(task) {
                None => others.to_owned(),
                Some(RowFormat::Unpaired) => {
                    format!(
                        "its rows are `unpaired`, `{{\"prompt\", \"completion\", \"label\"}}`, or `preference`; {others}"
                    )
                }
                Some(RowFormat::PromptOnly) => {
                    format!("its rows are `prompt_only`: `{{\"prompt\", ..}}`; {others}")
                }
                Some(_) if task == Task::Reward => {
                    format!(
                        "its rows are `preference`, or `unpaired`: `{{\"prompt\", \"completion\", \"label\"}}`; {others}"
                    )
                }
                Some(_) => {
                    format!("its rows are `preference`: `{{\"prompt\", \"chosen\", \"rejected\"}}`; {others}")
                }
            };
            diagnosis.wrong(path, &mark, what, Some(hint));
        }
    }
}

/// Reports sources of `task: reward` that are not of one kind: what is measured of pairs is not what is measured of single texts.
fn one_kind(data: &Data, diagnosis: &mut Diagnosis) {
    let Some(first) = data.train.first().map(|source| source.format) else { return };
    for (list, sources) in [("data.train", &data.train), ("data.eval", &data.eval)] {
        let Some(at) = sources.iter().position(|source| source.format != first) else { continue };
        let own = format!("{list}[{at}].format");
        let found = [own.as_str(), list, "data.train[0].format", "data.train"]
            .into_iter()
            .find_map(|path| Some((path, diagnosis.given(path)?)));
        if let Some((path, mark)) = found {
            let what = format!(
                "`task: reward` learns from pairs or from single texts, and `{list}[{at}]` is `{}` beside `{first}`",
                sources[at].format
            );
            diagnosis.wrong(path, &mark, what, Some("let all rows be of one format".into()));
        }
    }
}

/// Reports keys that do not go with the task, or not with each other, or that nothing is made of.
pub(super) fn check(
    task: Task,
    preference: &Preference,
    (data, training): (&Data, &Training),
    diagnosis: &mut Diagnosis,
) {
    for (key, tasks) in KEYS.iter().filter(|(_, tasks)| !tasks.contains(&task)) {
        let path = format!("preference.{key}");
        if let Some(mark) = diagnosis.given(&path) {
            let names: Vec<String> = tasks.iter().map(|task| format!("`task: {}`", task.name())).collect();
            let what = format!("`{path}` needs {}", names.join(" or "));
            diagnosis.wrong(&path, &mark, what, Some("else leave it out".into()));
        }
    }
    if !task.has_preference() {
        return;
    }
    let has_pairs = data.has_pairs(task);
    if task == Task::Reward {
        one_kind(data, diagnosis);
    }
    let path = "preference.center_rewards_coefficient";
    // As a run writes its recipe, `null` is that there is none.
    let is_centred = preference.center_rewards_coefficient.flatten().is_some();
    if let Some(mark) = diagnosis.given(path).filter(|_| !has_pairs && is_centred) {
        let what = format!("`{path}` does nothing with rows of `unpaired`, whose labels say where 0 is");
        diagnosis.wrong(path, &mark, what, Some("leave it out".into()));
    }
    if let Some(mark) = diagnosis.given("data.train_on").filter(|_| data.train_on == TrainOn::All) {
        let what = match has_pairs {
            _ if task == Task::Reward => "`data.train_on` does nothing with `task: reward`, which judges whole texts",
            true => "`data.train_on: all` would prefer prompts too, which both answers share",
            false => "`data.train_on: all` would judge prompts too",
        };
        diagnosis.wrong("data.train_on", &mark, what, Some("leave it out".into()));
    }
    if let Some(mark) = diagnosis.given("data.packing").filter(|_| data.packing) {
        let counted = if has_pairs { "pairs" } else { "rows" };
        let what =
            format!("`data.packing: true` does not go with `task: {}`, whose batches count {counted}", task.name());
        diagnosis.wrong("data.packing", &mark, what, Some("leave it out".into()));
    }
    if !diagnosis.is_wrong("preference.loss_type") {
        losses(task, preference, diagnosis);
    }
    if task == Task::Kto {
        batches(preference, data, training, diagnosis);
    }
}

/// Reports losses that do not go with the task, or with other keys.
fn losses(task: Task, preference: &Preference, diagnosis: &mut Diagnosis) {
    let LossTypes(losses) = &preference.loss_type;
    let has = |loss| losses.contains(&loss);
    let mark_of_type = diagnosis.given("preference.loss_type");
    if let Some(mark) = &mark_of_type {
        let other = losses.iter().find(|loss| loss.task() != task).filter(|_| matches!(task, Task::Dpo | Task::Kto));
        let of_several = (losses.len() > 1).then_some(());
        let free = losses.iter().find(|loss| loss.is_reference_free());
        let wrong = match (other, of_several, free) {
            (Some(other), ..) => {
                let what = format!("`loss_type: {}` needs `task: {}`", name(*other), other.task().name());
                let hint = match task {
                    Task::Kto => "`task: kto` has `kto` and `apo_zero_unpaired`",
                    _ => "leave it out, or say what the task is",
                };
                Some((what, hint.to_owned()))
            }
            (None, Some(()), _) if task == Task::Kto => {
                Some(("`task: kto` has one loss".into(), "`kto`, or `apo_zero_unpaired`".to_owned()))
            }
            (None, Some(()), Some(free)) => {
                let what = format!("`loss_type: {}` stands alone: it asks no reference", name(*free));
                Some((what, "`preference.cpo_alpha` adds the likelihood of the chosen answers to it".to_owned()))
            }
            _ => None,
        };
        if let Some((what, hint)) = wrong {
            diagnosis.wrong("preference.loss_type", mark, what, Some(hint));
            return;
        }
    }
    if task != Task::Dpo {
        return;
    }
    let is_free = losses.iter().any(|loss| loss.is_reference_free());
    let simpo = LossType::Cpo(CpoLoss::Simpo);
    let smooth = [LossType::Dpo(DpoLoss::Robust), LossType::Dpo(DpoLoss::ExoPair), LossType::Cpo(CpoLoss::Cpo), simpo];
    let smoothing = preference.label_smoothing.unwrap_or_default();
    let weights = preference.loss_weights.as_ref().and_then(Option::as_ref);
    for (key, is_said, is_of, hint) in [
        (
            "label_smoothing",
            smoothing > 0.0,
            losses.iter().any(|loss| smooth.contains(loss)),
            "it is for `robust`, `exo_pair`, `cpo` and `simpo`; leave it out",
        ),
        ("cpo_alpha", true, is_free, "it is for `cpo`, `cpo_hinge`, `cpo_ipo` and `simpo`; leave it out"),
        ("simpo_gamma", true, has(simpo), "it is for `simpo`; leave it out"),
        ("alpha", true, has(simpo), "it is for `simpo`; leave it out"),
        ("loss_weights", true, !is_free, "`cpo_alpha` weighs the likelihood of the chosen answers; leave it out"),
    ] {
        let path = format!("preference.{key}");
        let Some(mark) = diagnosis.given(&path).filter(|_| is_said && !is_of) else { continue };
        diagnosis.wrong(&path, &mark, format!("`{path}` does nothing with this `loss_type`"), Some(hint.into()));
    }
    if let Some(mark) = diagnosis.given("preference.loss_weights")
        && let Some(weights) = weights
        && weights.len() != losses.len()
    {
        let what = format!("`preference.loss_weights` has {} weights for {} losses", weights.len(), losses.len());
        diagnosis.wrong("preference.loss_weights", &mark, what, Some("give one for each `loss_type`".into()));
    }
    let Some(mark) = mark_of_type else { return };
    if has(LossType::Dpo(DpoLoss::ExoPair)) && smoothing == 0.0 && !diagnosis.is_wrong("preference.label_smoothing") {
        let what = "`loss_type: exo_pair` needs `preference.label_smoothing`: without it the loss is infinite";
        diagnosis.wrong("preference.loss_type", &mark, what, Some("for example `label_smoothing: 1.0e-3`".into()));
    }
    if losses[..] == [LossType::Dpo(DpoLoss::Sft)] {
        let what = "`loss_type: sft` alone learns no preference";
        let hint = "add it to another, `loss_type: [sigmoid, sft]`; or `task: sft`";
        diagnosis.wrong("preference.loss_type", &mark, what, Some(hint.into()));
    }
}

/// The word for a loss.
fn name(loss: LossType) -> String {
    serde_json::to_value(loss).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Reports batches in which answers cannot be judged by each other.
fn batches(preference: &Preference, data: &Data, training: &Training, diagnosis: &mut Diagnosis) {
    if !preference.estimates_divergence() || diagnosis.is_wrong("preference.loss_type") {
        return;
    }
    let others = "or `preference.loss_type: apo_zero_unpaired`, which does without";
    let path = "training.per_device_train_batch_size";
    if let Some(mark) = diagnosis.given(path).filter(|_| training.per_device_train_batch_size < 2) {
        let what = format!(
            "`{path}` must be at least 2 with `task: kto`: how far the model has gone is estimated from each prompt with the \
             answer to another one of its batch"
        );
        diagnosis.wrong(path, &mark, what, Some(format!("for example 8; {others}")));
    }
    if let Some(mark) = diagnosis.given("training.fit").filter(|_| training.fit == Fit::Auto) {
        let what = "`training.fit: auto` does not go with `task: kto`: smaller batches estimate something else";
        let hint = format!("choose a batch that fits, and `training.activation_checkpointing: true`; {others}");
        diagnosis.wrong("training.fit", &mark, what, Some(hint));
    }
    let lists = [("data.train", &data.train), ("data.eval", &data.eval)];
    let sources = lists.into_iter().flat_map(|(list, sources)| {
        sources.iter().enumerate().map(move |(i, source)| (format!("{list}[{i}].weight"), source))
    });
    for (path, Source { weight, .. }) in sources {
        if let Some(mark) = diagnosis.given(&path).filter(|_| *weight != 1.0) {
            let what = format!("`{path}` must be 1 with `task: kto`: which rows share a batch is settled once");
            let hint = format!("`preference.desirable_weight` weighs good answers; {others}");
            diagnosis.wrong(&path, &mark, what, Some(hint));
        }
    }
}
