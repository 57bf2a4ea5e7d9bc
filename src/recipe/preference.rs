//! `task` and `preference`: what is learnt, and how a preference is.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, choices, mismatch, not_a_word, word};
use super::raw::{Node, Shape};
use super::section::Section;
use crate::train::objective::{CpoLoss, DpoLoss, KtoLoss};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
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
    /// The same and the preferred answer itself, without a reference: odds ratio preference optimisation.
    Orpo,
    /// Good answers and not bad ones, from rows of the format `unpaired`: Kahneman-Tversky optimisation.
    Kto,
    /// To tell which of two answers is preferred, by a number for each: a reward model, from rows of the format `preference`. From rows
    /// of the format `unpaired` to tell good answers from bad ones, or prompts for this model from others.
    Reward,
    /// The better of several answers that the model gives itself, from rows of the format `prompt_only` and `rewards`: group relative
    /// policy optimisation.
    Grpo,
    /// The same, each answer measured against the others: REINFORCE leave-one-out.
    Rloo,
}

impl Task {
    /// The word for it in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Task::Sft => "sft",
            Task::Dpo => "dpo",
            Task::Orpo => "orpo",
            Task::Kto => "kto",
            Task::Reward => "reward",
            Task::Grpo => "grpo",
            Task::Rloo => "rloo",
        }
    }

    pub(super) fn is_sft(&self) -> bool {
        *self == Task::Sft
    }

    /// Whether a preference is learnt from answers that stand in rows.
    pub fn has_preference(self) -> bool {
        matches!(self, Task::Dpo | Task::Orpo | Task::Kto | Task::Reward)
    }

    /// Whether the model learns from answers of its own.
    pub fn answers(self) -> bool {
        matches!(self, Task::Grpo | Task::Rloo)
    }

    /// Whether its rows are pairs of answers; of `reward` they may be others: see [`super::Recipe::has_pairs`].
    pub(super) fn has_pairs(self) -> bool {
        matches!(self, Task::Dpo | Task::Orpo | Task::Reward)
    }
}

/// How a preference is learnt; for `task: dpo`, `orpo`, `kto` and `reward`. The words and the defaults are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Preference {
    /// How much it counts that an answer becomes more or less likely than the policy says that the run starts from: with less,
    /// the run may go further from it. Of `orpo` how much the odds count beside the likelihood.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub beta: Option<f64>,
    /// The loss, or several that are added up; of `dpo` and `kto`.
    #[serde(skip_serializing_if = "LossTypes::is_empty")]
    pub loss_type: LossTypes,
    /// The share of preferences that are taken to be the wrong way round, for `robust`, `exo_pair`, `cpo` and `simpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub label_smoothing: Option<f64>,
    /// How much each of several losses counts; without it they count the same. Of `dpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<f64>>")]
    pub loss_weights: Option<Option<Vec<f64>>>,
    /// How much the likelihood of the chosen answers counts beside the preference, for the losses without a reference; SimPO's own is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub cpo_alpha: Option<f64>,
    /// How far apart the rewards of a pair are to be, for `simpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub simpo_gamma: Option<f64>,
    /// How rewards bend, for `simpo`: AlphaPO's, whose `cpo_alpha` is 0; 0 is SimPO.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub alpha: Option<f64>,
    /// Of `orpo`: whether the likelihood is that of the prompt and the chosen answer, as in TRL, or of the answer alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub nll_on_prompt: Option<bool>,
    /// How much good answers count, of `kto`: where there are fewer of them, more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub desirable_weight: Option<f64>,
    /// How much bad answers count, of `kto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub undesirable_weight: Option<f64>,
    /// How much it counts that rewards are far from 0, of `reward`; TRL suggests 0.01. Without it they may be anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub center_rewards_coefficient: Option<Option<f64>>,
}

/// A loss of pairs, or of single answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LossType {
    /// Of pairs, measured against a reference.
    Dpo(DpoLoss),
    /// Of pairs, measured against nothing.
    Cpo(CpoLoss),
    /// Of single answers.
    Kto(KtoLoss),
}

impl LossType {
    /// The task that it is of.
    pub fn task(self) -> Task {
        match self {
            LossType::Kto(_) => Task::Kto,
            LossType::Dpo(_) | LossType::Cpo(_) => Task::Dpo,
        }
    }

    /// Whether nothing is measured against a reference: such a loss stands alone.
    pub fn is_reference_free(self) -> bool {
        matches!(self, LossType::Cpo(_))
    }
}

/// One of the words of all of them.
impl FromNode for LossType {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let text = if let Shape::Scalar { text, .. } = &node.shape { text.as_str() } else { "" };
        let mut words = Vec::<&str>::new();
        let found = word(text).map(LossType::Dpo).map_err(|known| words.extend(known)).ok();
        let found = found.or_else(|| word(text).map(LossType::Cpo).map_err(|known| words.extend(known)).ok());
        let found = found.or_else(|| word(text).map(LossType::Kto).map_err(|known| words.extend(known)).ok());
        found.or_else(|| not_a_word(node, path, &words, diagnosis))
    }
}

impl JsonSchema for LossType {
    fn schema_name() -> Cow<'static, str> {
        "LossType".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = [DpoLoss::json_schema(generator), CpoLoss::json_schema(generator), KtoLoss::json_schema(generator)];
        let words = of.iter().filter_map(|schema| schema.get("oneOf")?.as_array()).flatten();
        let words: Vec<&Value> = words.collect();
        json_schema!({ "description": "A loss of pairs, or of single answers.", "oneOf": words })
    }
}

choices!(Task);

/// One or several losses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossTypes(pub Vec<LossType>);

impl LossTypes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is this.
    pub fn has(&self, loss: LossType) -> bool {
        self.0.contains(&loss)
    }
}

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
    pub(super) fn read(section: &mut Section<'_>, task: Task) -> Self {
        let usual = if task == Task::Kto { LossType::Kto(KtoLoss::Kto) } else { LossType::Dpo(DpoLoss::Sigmoid) };
        let all = Preference {
            beta: Some(section.key("beta").within((Excluded(0.0), Unbounded)).or(0.1)),
            loss_type: section.key("loss_type").or(LossTypes(vec![usual])),
            label_smoothing: Some(section.key("label_smoothing").within((Included(0.0), Excluded(0.5))).or(0.0)),
            loss_weights: Some(section.key("loss_weights").optional()),
            cpo_alpha: Some(section.key("cpo_alpha").within(0.0..).or(1.0)),
            simpo_gamma: Some(section.key("simpo_gamma").within(0.0..).or(0.5)),
            alpha: Some(section.key("alpha").or(0.0)),
            nll_on_prompt: Some(section.key("nll_on_prompt").or(true)),
            desirable_weight: Some(section.key("desirable_weight").within((Excluded(0.0), Unbounded)).or(1.0)),
            undesirable_weight: Some(section.key("undesirable_weight").within((Excluded(0.0), Unbounded)).or(1.0)),
            center_rewards_coefficient: Some(section.key("center_rewards_coefficient").within(0.0..).optional()),
        };
        all.of(task)
    }

    /// The same with the keys of a task, and of its loss, alone.
    fn of(self, task: Task) -> Self {
        let is_free = self.loss_type.0.iter().any(|loss| loss.is_reference_free());
        let is_simpo = self.loss_type.has(LossType::Cpo(CpoLoss::Simpo));
        let [is_dpo, is_orpo, is_kto, is_reward] =
            [Task::Dpo, Task::Orpo, Task::Kto, Task::Reward].map(|of| task == of);
        Preference {
            beta: self.beta.filter(|_| !is_reward),
            loss_type: if is_orpo || is_reward { LossTypes(Vec::new()) } else { self.loss_type },
            label_smoothing: self.label_smoothing.filter(|_| is_dpo),
            loss_weights: self.loss_weights.filter(|_| is_dpo && !is_free),
            cpo_alpha: self.cpo_alpha.filter(|_| is_dpo && is_free),
            simpo_gamma: self.simpo_gamma.filter(|_| is_dpo && is_simpo),
            alpha: self.alpha.filter(|_| is_dpo && is_simpo),
            nll_on_prompt: self.nll_on_prompt.filter(|_| is_orpo),
            desirable_weight: self.desirable_weight.filter(|_| is_kto),
            undesirable_weight: self.undesirable_weight.filter(|_| is_kto),
            center_rewards_coefficient: self.center_rewards_coefficient.filter(|_| is_reward),
        }
    }

    /// The losses, each with its weight.
    pub fn losses(&self) -> impl Iterator<Item = (LossType, f64)> + '_ {
        let weights = self.loss_weights.as_ref().and_then(Option::as_ref);
        let weight = move |at: usize| weights.and_then(|weights| weights.get(at)).copied().unwrap_or(1.0);
        self.loss_type.0.iter().enumerate().map(move |(at, loss)| (*loss, weight(at)))
    }

    /// Whether single answers are judged by how far the policy has gone on other ones of their micro-batch.
    pub fn estimates_divergence(&self) -> bool {
        self.loss_type.has(LossType::Kto(KtoLoss::Kto))
    }
}
