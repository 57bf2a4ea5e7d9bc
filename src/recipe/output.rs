//! `output`: what a run leaves behind, and where.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choices, mismatch};
use super::or_auto::OrAuto;
use super::raw::Node;
use super::rules::{Verdict, not_empty};
use super::section::Section;
use super::suggest::NO_UPLOAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most steps between two checkpoints where `save_steps` is `auto`.
pub const MOST_STEPS_UNSAVED: u64 = 200;

/// What a run leaves behind, and where.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Output {
    /// The folder that everything is written to.
    pub dir: PathBuf,
    /// Saves a checkpoint every so many optimiser steps, and at the end; `auto` a few times per run.
    #[schemars(with = "OrAuto<u64>")]
    pub save_steps: u64,
    /// How many checkpoints are kept, newest first.
    pub save_total_limit: usize,
    /// Reports every so many optimiser steps.
    pub logging_steps: u64,
    /// Where numbers are reported to, besides the terminal.
    pub report_to: Vec<Sink>,
    /// The Hub repository that the adapter is uploaded to.
    pub push_to_hub: Option<String>,
}

/// Where numbers are reported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// `metrics.jsonl`.
    Jsonl,
    /// Event files in `tensorboard/`.
    Tensorboard,
}

choices!(Sink);

impl Output {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Output {
            dir: section.key("dir").check(not_empty).expanded().required("dir: out/my_run"),
            save_steps: section.key("save_steps").auto_or_within(1..).or_chosen(OrAuto::Auto, MOST_STEPS_UNSAVED),
            save_total_limit: section.key("save_total_limit").within(1..).or(2),
            logging_steps: section.key("logging_steps").within(1..).or(1),
            report_to: section.key("report_to").check(each_once).or(vec![Sink::Jsonl, Sink::Tensorboard]),
            push_to_hub: section.key::<NotYet>("push_to_hub").optional().map(|NotYet(repository)| repository),
        }
    }
}

fn each_once(sinks: &impl AsRef<[Sink]>) -> Verdict {
    let sinks = sinks.as_ref();
    let twice = sinks.iter().enumerate().any(|(i, sink)| sinks[..i].contains(sink));
    twice.then(|| ("must not name a sink twice".into(), None))
}

/// A value that no version up to this one takes, whatever it is.
#[derive(Serialize)]
struct NotYet(String);

impl FromNode for NotYet {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        mismatch(node, path, "left out for now", Some(NO_UPLOAD.into()), diagnosis)
    }
}
