//! What the user typed, checked (every problem at once), and made explicit.
//!
//! ```text
//! bytes --yaml--> Node (raw) --layers--> one Node --section, kinds--> sections --resolve--> Recipe
//!                            extends, --set       problems go to the one Diagnosis
//! ```
//!
//! A section's file has its struct, whose comments become the JSON Schema's descriptions, and below it one `read` with
//! a line per key: its rule and its default. Those lines are all there is to know about a key: unknown keys,
//! suggestions and the schema follow from them.

mod adapter;
mod answers;
mod auto;
mod best;
mod called;
mod columns;
mod data;
mod diagnose;
mod dtype;
mod evaluation;
mod given;
mod grpo;
mod hints;
mod http;
mod json_schema;
mod kinds;
mod known;
mod layers;
mod made;
mod model;
mod numbers;
mod or_auto;
mod output;
mod places;
mod preference;
mod raw;
mod reading;
mod remarks;
mod resolve;
mod rewards;
mod route;
mod rows;
mod rules;
mod schema;
mod section;
mod suggest;
mod targets;
mod tasks;
mod texts;
mod training;
mod yaml;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, InitLoraWeights};
pub use auto::Autos;
pub use called::key_called;
pub use data::{Data, Source};
pub use dtype::AutoDtype;
pub use evaluation::Evaluation;
pub use given::Given;
pub use grpo::{Grpo, ScaleRewards};
pub use hints::{as_options, without_keys};
pub use http::Headers;
pub use json_schema::{Broken, InlineSchema, validator};
pub use model::{EmbeddingQuantization, Model, Quantization};
pub use numbers::with_point;
pub use output::{MOST_STEPS_UNSAVED, Output, Sink};
pub use places::Places;
pub use preference::{LossType, LossTypes, Preference, Task};
pub use reading::Reading;
pub use remarks::Remarks;
pub use rewards::{LengthUnit, Reward, RewardKind, in_words};
pub use route::{ApiKey, Chooser, RouteRules, UpstreamRules, route_rules};
pub use rows::{EvalFraction, Renames};
pub use schema::{preset_schema, schema};
pub use texts::{texts, value_of, with_values};
pub use training::{
    ADAPTER_PREFERENCE_LEARNING_RATE, AutoBool, Fit, MAX_BATCH, Optimizer, REWARD_LEARNING_RATE, Scheduler, Training,
};

use crate::error::Result;
use crate::paths;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// A fine-tuning run, fully spelt out. Paths are as given: relative to the folder that the program was started in.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Recipe {
    /// What is learnt.
    #[serde(skip_serializing_if = "Task::is_sft")]
    pub task: Task,
    /// What is fine-tuned and how its frozen weights are held.
    pub model: Model,
    /// The LoRA that is trained.
    pub adapter: Adapter,
    /// The rows that are learnt from.
    pub data: Data,
    /// How long, how fast, and with what the adapter is trained.
    pub training: Training,
    /// How a preference is learnt, where that is the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Preference")]
    pub preference: Option<Preference>,
    /// How the model learns from its own answers, where that is the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Grpo")]
    pub grpo: Option<Grpo>,
    /// How these are judged: the sum of what all of these say, each with its weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<Reward>,
    /// Measuring on held-out rows while training.
    pub evaluation: Evaluation,
    /// What a run leaves behind, and where.
    pub output: Output,
    /// Its keys whose values are chosen when the data has been read.
    #[serde(skip)]
    pub auto: Autos,
    /// What is to be said of its keys where it is written.
    #[serde(skip)]
    pub remarks: Remarks,
    /// Where its keys were written.
    #[serde(skip)]
    pub places: Places,
}

/// Reads the recipe at `path`, with `--set section.key=value` options (without the `--set`) laid over it in order.
///
/// # Errors
/// Every problem of the file, the files it extends and the options, together, each with its place and, where there is
/// one, a hint.
pub fn load(path: &Path, overrides: &[String]) -> Result<Recipe> {
    Reading::open(path, overrides)?.finish()
}

/// Reads a recipe from the `bytes` of a file that messages call `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: Vec<u8>, overrides: &[String]) -> Result<Recipe> {
    Reading::of(path, bytes, overrides).finish()
}

impl Recipe {
    /// Whether answers are judged by others of their micro-batch: see [`Preference::estimates_divergence`].
    pub fn estimates_divergence(&self) -> bool {
        self.preference.as_ref().is_some_and(Preference::estimates_divergence)
    }

    /// Whether its rows are pairs of answers.
    pub fn has_pairs(&self) -> bool {
        self.data.has_pairs(self.task)
    }

    /// Says something of the key at `path` where the recipe is written.
    pub fn remark(&mut self, path: &str, remark: impl Into<String>) {
        self.remarks.add(path, remark);
    }

    /// Says of its keys what their files say beside them, where nothing newer is to be said.
    pub fn with_comments(mut self) -> Self {
        for (path, comment) in self.places.comments() {
            if self.remarks.get(&path).is_none() {
                self.remark(&path, comment);
            }
        }
        self
    }

    /// The keys whose values were chosen, with these: `training.learning_rate=0.0006`.
    pub fn chosen(&self) -> Vec<String> {
        let recipe = self.to_json();
        let value =
            |path: &str| recipe.pointer(&format!("/{}", path.replace('.', "/"))).filter(|value| !value.is_null());
        self.auto.chosen().filter_map(|path| Some(format!("{path}={}", yaml::inline(value(path)?)))).collect()
    }

    /// The recipe as JSON with every key spelt out.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        self.auto.write_into(&mut value);
        value
    }

    /// The recipe as YAML with the keys that are remarked upon or are not what they are by default, and a `heading` of
    /// comments: short enough to be read and changed.
    pub fn to_brief_yaml(&self, heading: &[&str]) -> String {
        made::brief(self, heading)
    }

    /// The same keys as JSON, `auto` where it says so.
    pub fn to_brief_json(&self) -> Value {
        made::unusual(self)
    }

    /// The recipe as YAML with every key spelt out, which [`parse`] reads back as an equal recipe.
    ///
    /// With `adapter.init_from`, `adapter` has only the keys that the user gave: the others come from that folder.
    pub fn to_yaml(&self) -> String {
        let mut value = self.to_json();
        self.leave_to_folder(&mut value);
        yaml::write(&with_written_paths(value), &self.remarks)
    }
}

impl Recipe {
    /// Takes out of its JSON what the adapter says itself that it goes on from.
    fn leave_to_folder(&self, value: &mut Value) {
        if self.adapter.init_from.is_some()
            && let Some(Value::Object(adapter)) = value.get_mut("adapter")
        {
            adapter.retain(|key, _| key == "init_from" || self.adapter.given.contains(key));
        }
    }
}

/// The recipe with its paths written so that they are read as what they are now.
fn with_written_paths(mut recipe: Value) -> Value {
    let write = |value: Option<&mut Value>| {
        if let Some(Value::String(path)) = value {
            *path = paths::written(path);
        }
    };
    for key in ["/model/base", "/adapter/init_from", "/output/dir"] {
        write(recipe.pointer_mut(key));
    }
    for key in ["/data/train", "/data/eval"] {
        let sources = recipe.pointer_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
        sources.for_each(|source| write(source.get_mut("path")));
    }
    recipe
}
