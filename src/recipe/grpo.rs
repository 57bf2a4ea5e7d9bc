//! `grpo`: how a model learns from its own answers.

use super::kinds::choices;
use super::preference::Task;
use super::section::Section;
use super::training::Training;
use crate::train::objective::GrpoLoss;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included, Unbounded};

/// The most answers to a prompt, and updates by the same answers.
const MOST: usize = 1 << 10;
/// The longest answer.
const LONGEST: usize = 1 << 20;

/// How a model learns from its own answers; for `task: grpo` and `rloo`. The words and the defaults are TRL's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Grpo {
    /// Answers to each prompt that is drawn, which are judged against each other; of `rloo` 2 where nothing is said.
    pub num_generations: usize,
    /// Answers to each evaluation prompt; as many where nothing is said.
    pub num_generations_eval: Option<usize>,
    /// The most tokens of an answer.
    pub max_completion_length: usize,
    /// Logits are divided by this where answers are drawn, and where they are learnt.
    pub temperature: f64,
    /// Answers are drawn from the most likely tokens that together have this probability.
    pub top_p: f64,
    /// Answers are drawn from so many of the most likely tokens; 0: from all.
    pub top_k: usize,
    /// Texts that end an answer, beside the tokens that do.
    pub stop: Vec<String>,
    /// Updates by the same answers.
    pub num_iterations: usize,
    /// How much less likely than when it was said a token (of `rloo` an answer) may become before nothing more is gained.
    pub epsilon: f64,
    /// How much more likely it may become; as `epsilon` where nothing is said. Of `loss_type: cispo` how many times as likely.
    pub epsilon_high: Option<f64>,
    /// How much it costs to go away from the policy that the run starts from; of `rloo` 0.05 where nothing is said.
    pub beta: f64,
    /// What tokens are averaged over; of `grpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GrpoLoss")]
    pub loss_type: Option<GrpoLoss>,
    /// What rewards are divided by, beside their group's mean that is taken from them; of `grpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ScaleRewards")]
    pub scale_rewards: Option<ScaleRewards>,
    /// Whether advantages are brought to a mean of 0 and a spread of 1 in each step; of `rloo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub normalize_advantages: Option<bool>,
    /// Leaves answers out that were cut off at `max_completion_length`.
    pub mask_truncated_completions: bool,
    /// Shows answers with their rewards in all logs; `rewards.jsonl` has all of them anyway.
    pub log_completions: bool,
    /// How many of a step are shown; without it all of them.
    pub num_completions_to_print: Option<usize>,
}

/// What rewards are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// Their spread in the group of answers to a prompt.
    Group,
    /// Their spread in the step.
    Batch,
    /// Nothing.
    None,
}

choices!(GrpoLoss, ScaleRewards);

impl Grpo {
    pub(super) fn read(section: &mut Section<'_>, task: Task) -> Self {
        let is_rloo = task == Task::Rloo;
        let (generations, beta) = if is_rloo { (2, 0.05) } else { (8, 0.0) };
        let above_0 = || (Excluded(0.0), Unbounded);
        let all = Grpo {
            num_generations: section.key("num_generations").within(2..=MOST).or(generations),
            num_generations_eval: section.key("num_generations_eval").within(1..=MOST).optional(),
            max_completion_length: section.key("max_completion_length").within(1..=LONGEST).or(512),
            temperature: section.key("temperature").within(above_0()).or(1.0),
            top_p: section.key("top_p").within((Excluded(0.0), Included(1.0))).or(1.0),
            top_k: section.key("top_k").or(0),
            stop: section.key("stop").check(|stop: &Vec<String>| no_blank(stop)).or(Vec::new()),
            num_iterations: section.key("num_iterations").within(1..=MOST).or(1),
            epsilon: section.key("epsilon").within((Excluded(0.0), Included(1.0))).or(0.2),
            epsilon_high: section.key("epsilon_high").within(above_0()).optional(),
            beta: section.key("beta").within(0.0..).or(beta),
            loss_type: Some(section.key("loss_type").or(GrpoLoss::Dapo)),
            scale_rewards: Some(section.key("scale_rewards").or(ScaleRewards::Group)),
            normalize_advantages: Some(section.key("normalize_advantages").or(false)),
            mask_truncated_completions: section.key("mask_truncated_completions").or(false),
            log_completions: section.key("log_completions").or(false),
            num_completions_to_print: section.key("num_completions_to_print").within(1..).optional(),
        };
        Grpo {
            loss_type: all.loss_type.filter(|_| !is_rloo),
            scale_rewards: all.scale_rewards.filter(|_| !is_rloo),
            normalize_advantages: all.normalize_advantages.filter(|_| is_rloo),
            ..all
        }
    }

    /// Prompts that a step draws: answers are what a batch counts.
    pub fn prompts_in_a_step(&self, training: &Training) -> usize {
        let answers = training.per_device_train_batch_size.saturating_mul(training.gradient_accumulation_steps);
        (answers / self.num_generations).max(1)
    }

    /// The most prompts that `answers` of a step, one after the other from a multiple of their number on, are given to.
    pub fn prompts_of(&self, answers: usize) -> usize {
        let group = self.num_generations.max(1);
        let (mut step, mut rest) = (answers, group); // their greatest common divisor: where such answers may begin within a group
        while rest > 0 {
            (step, rest) = (rest, step % rest);
        }
        answers.saturating_add(group - step.min(group)).div_ceil(group)
    }

    /// Answers to each evaluation prompt.
    pub fn generations_of_evaluation(&self) -> usize {
        self.num_generations_eval.unwrap_or(self.num_generations)
    }

    /// How much more likely than when it was said a token may become.
    pub fn upper_epsilon(&self) -> f64 {
        self.epsilon_high.unwrap_or(self.epsilon)
    }
}

fn no_blank(stop: &[String]) -> super::rules::Verdict {
    stop.iter().any(String::is_empty).then(|| ("must hold no empty text".into(), None))
}
