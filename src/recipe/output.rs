//! `output`: what a run leaves behind, and where.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choices, mismatch};
use super::numbers;
use super::or_auto::OrAuto;
use super::raw::{Node, Shape};
use super::rules::{Verdict, not_empty};
use super::section::Section;
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
    /// The Hub repository that the adapter is pushed to when the run is over: `owner/name`.
    pub push_to_hub: Option<String>,
    /// Makes that repository private where it has to be made.
    pub hub_private_repo: bool,
    /// Replaces files of the same names that the repository holds before the run, which is otherwise refused or asked about.
    pub hub_overwrite: bool,
    /// What the base is called on the Hub, for a base that is a file or folder here: others have to find it.
    pub hub_base_model: Option<String>,
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
            push_to_hub: section.key::<HubId>("push_to_hub").optional().map(|HubId(id)| id),
            hub_private_repo: section.key("hub_private_repo").or(false),
            hub_overwrite: section.key("hub_overwrite").or(false),
            hub_base_model: section.key::<HubId>("hub_base_model").optional().map(|HubId(id)| id),
        }
    }
}

fn each_once(sinks: &impl AsRef<[Sink]>) -> Verdict {
    let sinks = sinks.as_ref();
    let twice = sinks.iter().enumerate().any(|(i, sink)| sinks[..i].contains(sink));
    twice.then(|| ("must not name a sink twice".into(), None))
}

/// The id of a repository of the Hub, `owner/name`; one of a model may have a revision, `owner/name@revision`.
#[derive(Serialize)]
struct HubId(String);

impl FromNode for HubId {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let (expected, example) = match path.ends_with("base_model") {
            true => ("the id of a model on the Hub", "google/gemma-3-1b-it"),
            false => ("a repository of the Hub", "my-name/my-model"),
        };
        let write = format!("write its id: `{example}`");
        let text = match &node.shape {
            Shape::Scalar { text, .. } => text,
            _ => return mismatch(node, path, expected, Some(write), diagnosis),
        };
        if let Some(hint) = numbers::is_off(text).then(|| "leave the key out".to_owned()) {
            return mismatch(node, path, expected, Some(hint), diagnosis);
        }
        let id = text.split_once('@').filter(|_| path.ends_with("base_model")).map_or(text.as_str(), |(id, _)| id);
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        match id.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => Some(HubId(text.clone())),
            _ => mismatch(node, path, expected, Some(write), diagnosis),
        }
    }
}
