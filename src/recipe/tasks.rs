//! Whether the keys of a recipe go with its task.

use super::data::Data;
use super::diagnose::Diagnosis;
use super::preference::{LossType, Preference, Task};
use crate::data::options::RowFormat;
use crate::text::TrainOn;

/// The rows of a task, where their sources do not say what they are; reports those that it does not train.
pub(super) fn choose_formats(task: Task, data: &mut Data, diagnosis: &mut Diagnosis) {
    for (list, sources) in [("data.train", &mut data.train), ("data.eval", &mut data.eval)] {
        for (i, source) in sources.iter_mut().enumerate() {
            if task == Task::Dpo && source.format == RowFormat::Auto {
                source.format = RowFormat::Preference;
            }
            if (source.format == RowFormat::Preference) == (task == Task::Dpo) {
                continue;
            }
            let own = format!("{list}[{i}].format");
            let Some((path, mark)) =
                [own.as_str(), "data.format"].into_iter().find_map(|path| Some((path, diagnosis.given(path)?)))
            else {
                continue;
            };
            let what = format!("`{path}`: `task: {}` does not train rows of `{}`", name(task), source.format);
            let hint = match task {
                Task::Sft => "`task: dpo` trains preferences",
                Task::Dpo => {
                    "its rows are `preference`: `{\"prompt\", \"chosen\", \"rejected\"}`; `task: sft` trains others"
                }
            };
            diagnosis.wrong(path, &mark, what, Some(hint.into()));
        }
    }
}

fn name(task: Task) -> &'static str {
    match task {
        Task::Sft => "sft",
        Task::Dpo => "dpo",
    }
}

/// Reports keys of `preference` that do not go together, or that nothing is made of.
pub(super) fn check(task: Task, preference: &Preference, data: &Data, diagnosis: &mut Diagnosis) {
    if task == Task::Sft {
        for key in ["beta", "loss_type", "label_smoothing", "loss_weights"] {
            let path = format!("preference.{key}");
            if let Some(mark) = diagnosis.given(&path) {
                diagnosis.wrong(&path, &mark, format!("`{path}` needs `task: dpo`"), Some("else leave it out".into()));
            }
        }
        return;
    }
    if let Some(mark) = diagnosis.given("data.train_on").filter(|_| data.train_on == TrainOn::All) {
        let what = "`data.train_on: all` would prefer prompts too, which both answers share";
        diagnosis.wrong("data.train_on", &mark, what, Some("leave it out".into()));
    }
    let losses = &preference.loss_type.0;
    let has = |loss| losses.contains(&loss);
    if let Some(mark) = diagnosis.given("preference.loss_weights")
        && let Some(weights) = &preference.loss_weights
        && weights.len() != losses.len()
        && !diagnosis.is_wrong("preference.loss_type")
    {
        let what = format!("`preference.loss_weights` has {} weights for {} losses", weights.len(), losses.len());
        diagnosis.wrong("preference.loss_weights", &mark, what, Some("give one for each `loss_type`".into()));
    }
    if let Some(mark) = diagnosis.given("preference.label_smoothing")
        && preference.label_smoothing > 0.0
        && !has(LossType::Robust)
        && !has(LossType::ExoPair)
        && !diagnosis.is_wrong("preference.loss_type")
    {
        let what = "`preference.label_smoothing` does nothing with this `loss_type`";
        let hint = "it is for `robust` and `exo_pair`; leave it out";
        diagnosis.wrong("preference.label_smoothing", &mark, what, Some(hint.into()));
    }
    let Some(mark) = diagnosis.given("preference.loss_type") else { return };
    if has(LossType::ExoPair) && preference.label_smoothing == 0.0 && !diagnosis.is_wrong("preference.label_smoothing")
    {
        let what = "`loss_type: exo_pair` needs `preference.label_smoothing`: without it the loss is infinite";
        diagnosis.wrong("preference.loss_type", &mark, what, Some("for example `label_smoothing: 1.0e-3`".into()));
    }
    if losses[..] == [LossType::Sft] {
        let what = "`loss_type: sft` alone learns no preference";
        let hint = "add it to another, `loss_type: [sigmoid, sft]`; or `task: sft`";
        diagnosis.wrong("preference.loss_type", &mark, what, Some(hint.into()));
    }
}
