//! `task` and `preference`: what is learnt, and how a preference is.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choices, mismatch};
use super::raw::{Node, Shape};
use super::section::Section;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// What stands in the rows: supervised fine-tuning.
    #[default]
    Sft,
    /// Which of two answers is preferred, from rows of the format `preference`: direct preference optimisation.
    Dpo,
}

impl Task {
    pub(super) fn is_sft(&self) -> bool {
        *self == Task::Sft
    }
}

/// How a preference is learnt; for `task: dpo`. The words and the defaults are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Preference {
    /// How much it counts that an answer becomes more or less likely than the policy says that the run starts from: with less,
    /// the run may go further from it.
    pub beta: f64,
    /// The loss, or several that are added up.
    pub loss_type: LossTypes,
    /// The share of preferences that are taken to be the wrong way round, for `robust` and `exo_pair`.
    pub label_smoothing: f64,
    /// How much each of several losses counts; without it they count the same.
    pub loss_weights: Option<Vec<f64>>,
}

/// A loss of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// DPO's own.
    Sigmoid,
    /// The same of log-probabilities per token.
    SigmoidNorm,
    /// SLiC's: nothing is learnt of pairs that are apart far enough.
    Hinge,
    /// IPO's: a distance that is to be reached, and not more.
    Ipo,
    /// EXO's; needs `label_smoothing`.
    ExoPair,
    /// NCA's: keeps the chosen answers likely.
    NcaPair,
    /// For preferences of which a known share is wrong: `label_smoothing`.
    Robust,
    /// BCO's: a classifier of good and bad answers.
    BcoPair,
    /// SPPO's, with hard probabilities.
    SppoHard,
    /// APO's for chosen answers that are better than the model's own.
    ApoZero,
    /// APO's for chosen answers that are worse than the model's own.
    ApoDown,
    /// The negative log-likelihood of the chosen answers, to be added to another.
    Sft,
}

choices!(Task, LossType);

/// One or several losses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossTypes(pub Vec<LossType>);

impl FromNode for LossTypes {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::List(items) if items.is_empty() => mismatch(node, path, "at least one loss", None, diagnosis),
            Shape::List(_) => Vec::from_node(node, path, diagnosis).map(LossTypes),
            _ => LossType::from_node(node, path, diagnosis).map(|one| LossTypes(vec![one])),
        }
    }
}

impl Serialize for LossTypes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl JsonSchema for LossTypes {
    fn schema_name() -> Cow<'static, str> {
        "LossTypes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = LossType::json_schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

impl Preference {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Preference {
            beta: section.key("beta").within((Excluded(0.0), Unbounded)).or(0.1),
            loss_type: section.key("loss_type").or(LossTypes(vec![LossType::Sigmoid])),
            label_smoothing: section.key("label_smoothing").within((Included(0.0), Excluded(0.5))).or(0.0),
            loss_weights: section.key("loss_weights").optional(),
        }
    }

    /// The losses, each with its weight.
    pub fn losses(&self) -> impl Iterator<Item = (LossType, f64)> + '_ {
        let weight = |at: usize| self.loss_weights.as_ref().and_then(|weights| weights.get(at)).copied().unwrap_or(1.0);
        self.loss_type.0.iter().enumerate().map(move |(at, loss)| (*loss, weight(at)))
    }
}
