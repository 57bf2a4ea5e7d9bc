//! Answers to prompts, and what rewards say of them.

use super::draw::{Answer, Drawing, at_once};
use super::journal::Line;
use crate::data::Dataset;
use crate::error::Result;
use crate::fence::fenced;
use crate::jobs::media::{Features, inputs};
use crate::jobs::run::data::Data;
use crate::jobs::run::rewards::{Answered, Rewards, columns};
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use crate::random::Rng;
use crate::recipe::{Grpo, Recipe, ScaleRewards, Training};
use crate::text::{Encoder, IGNORE_INDEX};
use crate::train::backprop;
use crate::train::event::{Doing, Sample, Underway};
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::{deviation, mean_of};
use crate::train::step::Watch;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What answers are drawn with.
pub struct Policies<'a> {
    /// The model.
    pub model: &'a dyn LanguageModel,
    /// What stands beside it where the run starts.
    pub start: &'a dyn SidePath,
    /// Reads prompts and answers.
    pub encoder: Arc<Encoder>,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
}

/// A prompt that was drawn.
pub struct Asked {
    /// Its tokens.
    pub inputs: Inputs,
    /// The columns of its row.
    pub columns: Map<String, Value>,
    /// Where that is from, as `file, row`.
    pub origin: String,
}

/// Which answers are drawn, and by which of the random numbers.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// What they are for.
    pub purpose: &'static str,
    /// The step that they are for, from 0.
    pub step: u64,
    /// The number of the first of them.
    pub first: usize,
}

/// Draws answers, several to a prompt, and has them judged.
pub struct Answering<'a> {
    /// What the recipe says of answers.
    pub keys: &'a Grpo,
    /// Answers to a prompt.
    pub group: usize,
    training: &'a Training,
    features: Option<&'a Features>,
    /// The model.
    pub policies: &'a Policies<'a>,
    /// Who judges.
    pub rewards: &'a Rewards,
}

impl<'a> Answering<'a> {
    /// That of a recipe with `group` answers to a prompt.
    pub fn of(
        recipe: &'a Recipe,
        (keys, group): (&'a Grpo, usize),
        data: &'a Data,
        policies: &'a Policies<'a>,
        rewards: &'a Rewards,
    ) -> Self {
        let (training, features) = (&recipe.training, data.features.as_ref());
        Answering { keys, group, training, features, policies, rewards }
    }

    /// The prompts of these rows.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn asked(&self, dataset: &Dataset, rows: impl IntoIterator<Item = usize>) -> Result<Vec<Asked>> {
        let asked = |row: usize| {
            let tokens = dataset.get(row)?;
            Ok(Asked {
                columns: columns(tokens.columns.as_deref())?,
                inputs: inputs(tokens.input_ids, &tokens.media, self.features)?,
                origin: dataset.origin(row)?.to_string(),
            })
        };
        rows.into_iter().map(asked).collect()
    }

    /// The answers to prompts, those to the first of them first; `None` where `watch` stopped it before they were all there. What is
    /// being done stands in messages.
    ///
    /// # Errors
    /// When the model computes numbers that are not finite.
    pub fn answers(
        &self,
        doing: &str,
        side: &dyn SidePath,
        asked: &[Asked],
        draw: Draw,
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Answer>>> {
        let prompts: Vec<Inputs> = asked.iter().map(|asked| asked.inputs.clone()).collect();
        let drawing = Drawing {
            keys: self.keys,
            group: self.group,
            at_once: at_once(self.keys, self.training),
            stop_ids: &self.policies.stop_ids,
            encoder: &self.policies.encoder,
            rng: Rng::new(self.training.seed),
        };
        let Draw { purpose, step, first } = draw;
        fenced(doing, || drawing.answers(self.policies.model, side, &prompts, (purpose, step, first), watch))?
    }

    /// What was kept of answers, where it is these that were judged: somebody may have edited it. `has_old` says whether it has how
    /// likely they were.
    pub fn known(
        &self,
        kept: Option<&[Line]>,
        asked: &[Asked],
        answers: &[Answer],
        has_old: bool,
    ) -> Option<Vec<Line>> {
        let is_same = |(at, line): (usize, &Line)| {
            line.tokens == answers[at].tokens
                && line.prompt == asked[at / self.group].origin
                && self.is_whole(line, has_old)
        };
        let kept = kept.filter(|kept| kept.len() == answers.len())?;
        kept.iter().enumerate().all(is_same).then(|| kept.to_vec())
    }

    /// Whether a line of the journal is an answer that this run can have given: somebody may have edited it.
    pub fn is_whole(&self, line: &Line, has_old: bool) -> bool {
        let words = self.policies.model.config().vocab_size();
        let said: Option<Vec<f64>> =
            self.rewards.names().map(|name| line.rewards.get(name).and_then(Value::as_f64)).collect();
        (1..=self.keys.max_completion_length).contains(&line.tokens.len())
            && line.tokens.iter().all(|&token| (token as usize) < words)
            && line.old.len() == if has_old { line.tokens.len() } else { 0 }
            && said.is_some_and(|said| self.rewards.sum(&said).to_bits() == line.reward.to_bits())
    }

    /// The answers of a step with what rewards say of them; `None` where `watch` stopped it first. `step` stands in the lines.
    ///
    /// # Errors
    /// When an answer cannot be judged.
    pub fn judged(
        &self,
        step: u64,
        asked: &[Asked],
        answers: &[Answer],
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Line>>> {
        let said = |answer: &Answer| self.policies.encoder.decode(&answer.tokens[..answer.said]);
        let texts: Vec<String> = answers.iter().map(said).collect();
        let answered = |at: usize| Answered {
            completion: &texts[at],
            tokens: answers[at].tokens.len(),
            columns: &asked[at / self.group].columns,
            origin: &asked[at / self.group].origin,
        };
        let answered: Vec<Answered> = (0..answers.len()).map(answered).collect();
        let judging = |done| Underway { doing: Doing::Judging, done, of: answers.len(), tokens: 0 };
        (watch.on_progress)(judging(0));
        let Some(said) = self.rewards.judge(&answered, watch.stop)? else { return Ok(None) };
        (watch.on_progress)(judging(answers.len()));
        let line = |(at, ((answer, said), completion)): (usize, ((&Answer, Vec<f64>), &String))| {
            let named = self.rewards.names().zip(&said).map(|(name, said)| (name.to_owned(), Value::from(*said)));
            Line {
                step,
                prompt: asked[at / self.group].origin.clone(),
                completion: completion.clone(),
                rewards: named.collect(),
                reward: self.rewards.sum(&said),
                is_cut: answer.is_cut,
                tokens: answer.tokens.clone(),
                old: Vec::new(),
            }
        };
        Ok(Some(answers.iter().zip(said).zip(&texts).enumerate().map(line).collect()))
    }

    /// The log-probabilities of each answer's tokens under `side`, in the batches that a step takes; `None` where `watch` stopped it
    /// first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn log_probabilities(
        &self,
        doing: &str,
        asked: &[Asked],
        lines: &[Line],
        side: &dyn SidePath,
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        let size = self.training.per_device_train_batch_size;
        let all: Vec<usize> = (0..lines.len()).collect();
        let mut each = Vec::with_capacity(lines.len());
        for answers in all.chunks(size) {
            let batch = self.batch(asked, lines, answers);
            (watch.on_progress)(Underway { doing: Doing::Measuring, done: each.len(), of: lines.len(), tokens: 0 });
            let measured =
                || backprop::log_probabilities(watch.stop, self.policies.model, side, &batch, self.keys.temperature);
            let Some(logps) = fenced(doing, measured)? else { return Ok(None) };
            each.extend(batch.sequences().into_iter().map(|tokens| logps[tokens].to_vec()));
        }
        Ok(Some(each))
    }

    /// The answers of these numbers, those to the same prompt after it.
    pub fn batch(&self, asked: &[Asked], lines: &[Line], answers: &[usize]) -> MicroBatch {
        let group = self.group;
        let mut labels = Vec::new();
        let of_prompts = answers.chunk_by(|one, next| one / group == next / group).map(|answers| {
            let prompt = &asked[answers[0] / group].inputs;
            let said = answers.iter().map(|&at| lines[at].tokens.as_slice());
            labels.extend(std::iter::repeat_n(IGNORE_INDEX, prompt.input_ids.len()));
            labels.extend(said.clone().flatten().map(|id| id.cast_signed()));
            prompt.answered(said)
        });
        MicroBatch::of(Inputs::joined(of_prompts.collect::<Vec<_>>()), &labels)
    }

    /// Whether how far the policy has gone from where the run starts is part of the reward, as of `rloo`, and not of the loss.
    pub fn going_away_costs_reward(&self) -> bool {
        self.keys.loss_type.is_none() && self.keys.beta > 0.0
    }

    /// How far a token's log-probability says that the policy has gone from the one that the run starts from, as the metric `kl` of the
    /// task's steps has it.
    pub fn divergence(&self, own: f64, start: f64) -> f64 {
        match self.going_away_costs_reward() {
            true => own - start,
            false => (start - own).exp() - (start - own) - 1.0,
        }
    }

    /// What each answer is worth: of `rloo` less the further the policy has gone with it from where the run starts.
    pub fn rewards_of(&self, lines: &[Line], reference: &[Vec<f64>]) -> Vec<f64> {
        let is_part = self.going_away_costs_reward();
        let of = |(line, reference): (&Line, &Vec<f64>)| {
            let is_out = self.keys.mask_truncated_completions && line.is_cut;
            let apart: f64 = match is_part && !is_out {
                true => line.old.iter().zip(reference).map(|(old, reference)| old - reference).sum(),
                false => 0.0,
            };
            line.reward - self.keys.beta * apart
        };
        lines.iter().zip(reference).map(of).collect()
    }

    /// What answers and rewards are like, by TRL's names.
    pub fn metrics(&self, lines: &[Line], rewards: &[f64]) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        let mut put = |name: &str, value: f64| {
            metrics.insert(name.to_owned(), value);
        };
        for name in self.rewards.names() {
            let said = lines.iter().filter_map(|line| line.rewards.get(name).and_then(Value::as_f64));
            let said: Vec<f64> = said.collect();
            put(&format!("rewards/{name}/mean"), mean_of(&said));
            put(&format!("rewards/{name}/std"), deviation(&said));
        }
        put("reward", mean_of(rewards));
        put("reward_std", deviation(rewards));
        let is_same = |rewards: &[f64]| f64::from(u8::from(deviation(rewards) <= 1e-8));
        let same: Vec<f64> = match self.keys.scale_rewards {
            Some(ScaleRewards::Batch) => vec![is_same(rewards)],
            _ => rewards.chunks(self.group).map(is_same).collect(),
        };
        put("frac_reward_zero_std", mean_of(&same));
        let lengths = |with_cut: bool| {
            let lines = lines.iter().filter(|line| with_cut || !line.is_cut);
            lines.map(|line| line.tokens.len() as f64).collect::<Vec<_>>()
        };
        let range = |lengths: &[f64]| {
            let least = lengths.iter().copied().reduce(f64::min).unwrap_or(0.0);
            [least, lengths.iter().copied().fold(0.0, f64::max)]
        };
        for (what, with_cut) in [("", true), ("terminated_", false)] {
            let lengths = lengths(with_cut);
            let [least, most] = range(&lengths);
            put(&format!("completions/mean_{what}length"), mean_of(&lengths));
            put(&format!("completions/min_{what}length"), least);
            put(&format!("completions/max_{what}length"), most);
        }
        let cut = lines.iter().map(|line| f64::from(u8::from(line.is_cut)));
        put("completions/clipped_ratio", mean_of(&cut.collect::<Vec<_>>()));
        metrics
    }

    /// An answer that is to be shown, with what rewards said of it.
    pub fn sample(&self, asked: &Asked, line: &Line) -> Sample {
        let each: Vec<String> = line.rewards.iter().map(|(name, said)| format!("{name} {said}")).collect();
        let rewards = format!("reward {} ({})", line.reward, each.join(", "));
        Sample {
            prompt: self.policies.encoder.decode(&asked.inputs.words()),
            completion: format!("{} [{rewards}]", line.completion),
            reference: rewards,
        }
    }
}
