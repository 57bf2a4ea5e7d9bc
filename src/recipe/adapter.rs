//! `adapter`: the LoRA that is trained.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, mismatch, not_a_word};
use super::raw::{Node, Plain, Shape, plain};
use super::rules::{Verdict, not_empty};
use super::section::Section;
use crate::adapter::target::{ALL_LINEAR, TargetModules, bounded_regex};
use crate::weights::names::Projection;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::path::PathBuf;

/// The rank above which an adapter is no smaller than the model.
const MAX_RANK: usize = 4096;

/// The LoRA that is trained; the words are PEFT's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Adapter {
    /// The rank: inner width of the two small matrices beside each target.
    pub r: usize,
    /// The adapter's output is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// The probability with which an input of the adapter is dropped while training.
    pub lora_dropout: f64,
    /// Which modules get an adapter: a list of names, `all-linear`, or a regex that a module's full path must match.
    pub target_modules: TargetModules,
    /// Names of modules that get none although `target_modules` selects them.
    pub exclude_modules: Vec<String>,
    /// Names of projections of the vision tower that get an adapter too; without them the tower is frozen.
    pub vision_target_modules: Vec<String>,
    /// Names of projections of the audio tower that get an adapter too; without them the tower is frozen.
    pub audio_target_modules: Vec<String>,
    /// Trains what makes rows of what the towers give: with an adapter (Gemma 3n's `embedding_projection`), or as a whole (Gemma 3's
    /// `multi_modal_projector`, which is no linear layer).
    pub train_projector: bool,
    /// Scales by `lora_alpha / sqrt(r)` instead, which is steadier at high rank.
    pub use_rslora: bool,
    /// Also trains the length of each row (DoRA): slower, sometimes better.
    pub use_dora: bool,
    /// How the matrices start: `true` (random A, zero B), `gaussian`, or `pissa` (the base's principal directions).
    /// An adapter to continue (`init_from`) has its start already.
    pub init_lora_weights: InitLoraWeights,
    /// A PEFT adapter folder to continue from. Its own configuration counts; keys given here may not contradict it.
    pub init_from: Option<PathBuf>,
    /// The keys of this section that the user gave; kept only with `init_from`, where they may contradict its folder.
    #[serde(skip)]
    pub given: BTreeSet<String>,
}

/// How the adapter's matrices start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InitLoraWeights {
    /// `true`: A as PEFT draws it (Kaiming uniform), B zero, so that training starts at the base.
    Kaiming,
    /// A from a normal distribution with deviation `1 / r`, B zero.
    Gaussian,
    /// A and B from the principal singular vectors of the weight, which keeps the rest.
    Pissa,
}

impl Adapter {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let names = Projection::SEVEN.map(|projection| projection.short().to_owned());
        let init_from: Option<PathBuf> = section.key("init_from").check(not_empty).expanded().optional();
        let given = section.given().filter(|key| init_from.is_some() && *key != "init_from").map(Into::into).collect();
        Adapter {
            r: section.key("r").within(1..=MAX_RANK).or(16),
            lora_alpha: section.key("lora_alpha").within((Excluded(0.0), Unbounded)).or(32.0),
            lora_dropout: section.key("lora_dropout").within(0.0..1.0).or(0.0),
            target_modules: section.key("target_modules").check(targets).or(TargetModules::Names(names.to_vec())),
            exclude_modules: section.key("exclude_modules").check(no_blank_names).or(Vec::new()),
            vision_target_modules: section.key("vision_target_modules").check(no_blank_names).or(Vec::new()),
            audio_target_modules: section.key("audio_target_modules").check(no_blank_names).or(Vec::new()),
            train_projector: section.key("train_projector").or(false),
            use_rslora: section.key("use_rslora").or(false),
            use_dora: section.key("use_dora").or(false),
            init_lora_weights: section.key("init_lora_weights").or(InitLoraWeights::Kaiming),
            init_from,
            given,
        }
    }
}

/// Targets are names, or a regex that is one.
fn targets(targets: &TargetModules) -> Verdict {
    match targets {
        TargetModules::AllLinear => None,
        TargetModules::Names(names) if names.is_empty() => {
            Some(("must name at least one module".into(), Some("`all-linear` takes every projection".into())))
        }
        TargetModules::Names(names) => no_blank_names(names),
        TargetModules::Regex(pattern) if pattern.trim().is_empty() => Some(("must not be empty".into(), None)),
        TargetModules::Regex(pattern) => bounded_regex(pattern).err().map(|error| {
            let why = match error {
                regex::Error::CompiledTooBig(_) => "it is too big".into(),
                // The last line of regex's drawing is the sentence.
                error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            };
            ("must be a list of names, `all-linear` or a valid regex".into(), Some(format!("as a regex: {why}")))
        }),
    }
}

fn no_blank_names(names: &impl AsRef<[String]>) -> Verdict {
    names.as_ref().iter().any(|name| name.trim().is_empty()).then(|| ("must not have an empty name".into(), None))
}

impl FromNode for TargetModules {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::List(_) => Vec::from_node(node, path, diagnosis).map(TargetModules::Names),
            Shape::Scalar { .. } => {
                String::from_node(node, path, diagnosis).map(|text| TargetModules::from_text(&text))
            }
            Shape::Map(_) => mismatch(node, path, "a list of names, `all-linear` or a regex", None, diagnosis),
        }
    }
}

impl JsonSchema for TargetModules {
    fn schema_name() -> Cow<'static, str> {
        "TargetModules".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1 },
                { "const": ALL_LINEAR, "description": "Every projection of the language model." },
                { "type": "string", "minLength": 1, "description": "A regex that a module's full path must match." },
            ]
        })
    }
}

impl FromNode for InitLoraWeights {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, plain: true } if plain(text) == Plain::Bool(true) => Some(InitLoraWeights::Kaiming),
            Shape::Scalar { text, .. } if text == "gaussian" => Some(InitLoraWeights::Gaussian),
            Shape::Scalar { text, .. } if text == "pissa" => Some(InitLoraWeights::Pissa),
            _ => not_a_word(node, path, &["true", "gaussian", "pissa"], diagnosis),
        }
    }
}

impl Serialize for InitLoraWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            InitLoraWeights::Kaiming => serializer.serialize_bool(true),
            InitLoraWeights::Gaussian => serializer.serialize_str("gaussian"),
            InitLoraWeights::Pissa => serializer.serialize_str("pissa"),
        }
    }
}

impl JsonSchema for InitLoraWeights {
    fn schema_name() -> Cow<'static, str> {
        "InitLoraWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [true, "gaussian", "pissa"] })
    }
}
