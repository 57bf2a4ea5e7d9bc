//! A run's windows where a model learns from its own answers: prompts are drawn, answered and judged when a step comes to them.

mod draw;
mod journal;

pub use draw::at_once;

use crate::adapter::Adapter;
use crate::data::{Dataset, Epoch};
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::jobs::media::inputs;
use crate::jobs::run::data::Data;
use crate::jobs::run::rewards::{Answered, Rewards, columns};
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use crate::progress::Progress;
use crate::random::Rng;
use crate::recipe::{Grpo, Recipe, ScaleRewards};
use crate::text::{Encoder, IGNORE_INDEX};
use crate::train::backprop;
use crate::train::event::Sample;
use crate::train::micro_batch::{MicroBatch, Rollout};
use crate::train::objective::{Spread, deviation, leave_one_out, mean_of, relative_to_group};
use crate::train::run::{Position, Window, Windows};
use draw::{Answer, Drawing};
use journal::{Journal, Line};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
    /// The device that reward models are loaded on, and who hears of that.
    pub judges_on: (&'a str, &'a dyn Progress),
}

/// The windows of a run that answers prompts.
pub struct Rollouts<'a> {
    data: &'a Data,
    recipe: &'a Recipe,
    keys: &'a Grpo,
    policies: Policies<'a>,
    rewards: Rewards,
    journal: Journal,
    /// The prompts of the pass that was asked for last.
    epoch: Option<(u64, Epoch)>,
    /// The answers that were drawn last, by the step that they were drawn for.
    drawn: Option<(u64, Drawn)>,
}

/// The answers of a step.
struct Drawn {
    rows: Vec<u32>,
    batches: Vec<MicroBatch>,
    metrics: BTreeMap<String, f64>,
    samples: Vec<Sample>,
}

/// A prompt that was drawn.
struct Asked {
    inputs: Inputs,
    columns: Map<String, Value>,
    origin: String,
}

impl<'a> Rollouts<'a> {
    /// Those of a recipe, whose next step is the one after `step`; `None` where its task is another.
    ///
    /// # Errors
    /// When a row does not have what a reward reads, or the journal cannot be read.
    pub fn of(
        recipe: &'a Recipe,
        data: &'a Data,
        policies: Policies<'a>,
        journal: &Path,
        position: &Position,
    ) -> Result<Option<Self>> {
        let Some(keys) = &recipe.grpo else { return Ok(None) };
        let mut rewards = Rewards::of(&recipe.rewards)?;
        rewards.open(policies.judges_on.0, policies.judges_on.1)?;
        let drawn_for = position.step - position.window % keys.num_iterations as u64;
        let journal = Journal::open(journal, drawn_for + 1)?;
        let (epoch, drawn) = (None, None);
        Ok(Some(Rollouts { data, recipe, keys, policies, rewards, journal, epoch, drawn }))
    }

    fn dataset(&self) -> &'a Dataset {
        &self.data.train
    }

    fn epoch(&mut self, number: u64) -> Result<&Epoch> {
        let current = match self.epoch.take() {
            Some((at, epoch)) if at == number => epoch,
            _ => self.data.binning.epoch(self.dataset(), number)?,
        };
        Ok(&self.epoch.insert((number, current)).1)
    }

    /// The rows of a draw.
    fn rows(&mut self, epoch: u64, draw: u64) -> Result<Vec<u32>> {
        let prompts = self.keys.prompts_in_a_step(&self.recipe.training);
        let epoch = self.epoch(epoch)?;
        let first = (draw as usize).saturating_mul(prompts).min(epoch.len());
        Ok((first..epoch.len().min(first + prompts)).flat_map(|bin| epoch.bin(bin).to_vec()).collect())
    }

    fn asked(&self, row: u32) -> Result<Asked> {
        let tokens = self.dataset().get(row as usize)?;
        Ok(Asked {
            columns: columns(tokens.columns.as_deref())?,
            inputs: inputs(tokens.input_ids, &tokens.media, self.data.features.as_ref())?,
            origin: self.dataset().origin(row as usize)?.to_string(),
        })
    }

    /// Draws and judges the answers of a step, or takes what is known of them; `None` where `stop` was set first. `step` counts from 0.
    fn draw(
        &mut self,
        rows: Vec<u32>,
        step: u64,
        is_first: bool,
        adapter: &Adapter,
        stop: &AtomicBool,
    ) -> Result<Option<Drawn>> {
        let asked: Vec<Asked> = rows.iter().map(|row| self.asked(*row)).collect::<Result<_>>()?;
        let lines = match is_first {
            true => {
                let prompts: Vec<Inputs> = asked.iter().map(|asked| asked.inputs.clone()).collect();
                let drawn = fenced(&format!("the answers of step {}", step + 1), || {
                    self.drawing().answers(self.policies.model, adapter, &prompts, step, stop)
                })??;
                let Some(answers) = drawn else { return Ok(None) };
                let Some(lines) = self.judged(step, &asked, &answers, adapter, stop)? else { return Ok(None) };
                lines
            }
            false => self.known(step, &asked)?,
        };
        self.journal.forget(step + 2);
        let (lines, asked) = (lines.as_slice(), asked.as_slice());
        let Some(reference) = self.reference(step, asked, lines, stop)? else { return Ok(None) };
        let rewards = self.rewards_of(lines, &reference);
        let advantages = self.advantages(&rewards);
        let mut metrics = self.metrics(lines, &rewards);
        if self.going_away_costs_reward() {
            let apart = lines.iter().zip(&reference).flat_map(|(line, reference)| {
                line.old.iter().zip(reference).map(|(old, reference)| old - reference).collect::<Vec<_>>()
            });
            metrics.insert("kl".into(), mean_of(&apart.collect::<Vec<_>>()));
        }
        let samples = self.samples(asked, lines);
        let size = self.recipe.training.per_device_train_batch_size;
        let answers: Vec<usize> = (0..lines.len()).collect();
        let batches = answers.chunks(size).map(|answers| {
            let mut batch = self.batch(asked, lines, answers);
            let learnt = |answer: &usize| !(self.keys.mask_truncated_completions && lines[*answer].is_cut);
            let of = |numbers: &[Vec<f64>]| answers.iter().flat_map(|at| numbers[*at].clone()).collect::<Vec<f64>>();
            batch.rollout = Some(Box::new(Rollout {
                advantages: answers.iter().map(|at| advantages[*at]).collect(),
                is_learnt: answers.iter().map(learnt).collect(),
                old: match self.keys.num_iterations {
                    1 => Vec::new(), // the policy is the one that gave them
                    _ => answers.iter().flat_map(|at| lines[*at].old.clone()).collect(),
                },
                // Of `rloo` it is part of the reward.
                reference: if self.keys.loss_type.is_some() { of(&reference) } else { Vec::new() },
            }));
            batch
        });
        let batches = batches.collect();
        Ok(Some(Drawn { rows, batches, metrics, samples }))
    }

    fn drawing(&self) -> Drawing<'_> {
        Drawing {
            keys: self.keys,
            at_once: at_once(self.keys, &self.recipe.training),
            stop_ids: &self.policies.stop_ids,
            encoder: &self.policies.encoder,
            rng: Rng::new(self.recipe.training.seed),
        }
    }

    /// The answers of a step with what rewards say of them: what is in the journal, where these are the same answers.
    fn judged(
        &mut self,
        step: u64,
        asked: &[Asked],
        answers: &[Answer],
        adapter: &Adapter,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Line>>> {
        let group = self.keys.num_generations;
        if let Some(known) = self.journal.of(step + 1)
            && known.len() == answers.len()
            && known.iter().enumerate().all(|(at, line)| {
                line.tokens == answers[at].tokens
                    && line.prompt == asked[at / group].origin
                    && self.is_whole(line, self.asks_old())
            })
        {
            return Ok(Some(known.to_vec()));
        }
        let texts: Vec<String> =
            answers.iter().map(|answer| self.policies.encoder.decode(&answer.tokens[..answer.said])).collect();
        let answered: Vec<Answered> = (0..answers.len())
            .map(|at| Answered {
                completion: &texts[at],
                tokens: answers[at].tokens.len(),
                columns: &asked[at / group].columns,
                origin: &asked[at / group].origin,
            })
            .collect();
        let Some(said) = self.rewards.judge(&answered, stop)? else { return Ok(None) };
        let mut lines: Vec<Line> = Vec::with_capacity(answers.len());
        for (at, ((answer, said), completion)) in answers.iter().zip(said).zip(texts.iter()).enumerate() {
            let named = self.rewards.names().zip(&said).map(|(name, said)| (name.to_owned(), Value::from(*said)));
            lines.push(Line {
                step: step + 1,
                prompt: asked[at / group].origin.clone(),
                completion: completion.clone(),
                rewards: named.collect(),
                reward: self.rewards.sum(&said),
                is_cut: answer.is_cut,
                tokens: answer.tokens.clone(),
                old: Vec::new(),
            });
        }
        if self.asks_old() {
            let Some(old) = self.log_probabilities(step, asked, &lines, adapter, stop)? else { return Ok(None) };
            lines.iter_mut().zip(old).for_each(|(line, old)| line.old = old);
        }
        self.journal.keep(step + 1, &lines)?;
        Ok(Some(lines))
    }

    /// Whether it counts how likely an answer was when it was given.
    fn asks_old(&self) -> bool {
        self.keys.num_iterations > 1 || self.going_away_costs_reward()
    }

    /// Whether how far the policy has gone from where the run starts is part of the reward, as of `rloo`, and not of the loss.
    fn going_away_costs_reward(&self) -> bool {
        self.keys.loss_type.is_none() && self.keys.beta > 0.0
    }

    /// Whether a line of the journal is an answer that this run can have given: somebody may have edited it.
    fn is_whole(&self, line: &Line, has_old: bool) -> bool {
        let words = self.policies.model.config().vocab_size();
        let said: Option<Vec<f64>> =
            self.rewards.names().map(|name| line.rewards.get(name).and_then(Value::as_f64)).collect();
        (1..=self.keys.max_completion_length).contains(&line.tokens.len())
            && line.tokens.iter().all(|&token| (token as usize) < words)
            && line.old.len() == if has_old { line.tokens.len() } else { 0 }
            && said.is_some_and(|said| self.rewards.sum(&said).to_bits() == line.reward.to_bits())
    }

    /// The answers of a step that was taken once already, for another update by them.
    fn known(&self, step: u64, asked: &[Asked]) -> Result<Vec<Line>> {
        let (group, known) = (self.keys.num_generations, self.journal.of(step + 1).unwrap_or_default());
        let is_right =
            |(at, line): (usize, &Line)| asked[at / group].origin == line.prompt && self.is_whole(line, true);
        if known.len() != asked.len() * group || !known.iter().enumerate().all(is_right) {
            let what = format!(
                "`rewards.jsonl` does not have the answers of step {}, from which this run learns on",
                step + 1
            );
            return Err(Error::new(Kind::Checkpoint, what)
                .hint("put the file back as it was; or remove the newest checkpoint, and `--resume` goes on from the one before"));
        }
        Ok(known.to_vec())
    }

    /// The log-probabilities of each answer's tokens under `side`, in the batches that a step takes; `None` where `stop` was set first.
    fn log_probabilities(
        &self,
        step: u64,
        asked: &[Asked],
        lines: &[Line],
        side: &dyn SidePath,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        let size = self.recipe.training.per_device_train_batch_size;
        let all: Vec<usize> = (0..lines.len()).collect();
        let mut each = Vec::with_capacity(lines.len());
        for answers in all.chunks(size) {
            let batch = self.batch(asked, lines, answers);
            let asked = || backprop::log_probabilities(stop, self.policies.model, side, &batch, self.keys.temperature);
            let Some(logps) = fenced(&format!("the answers of step {}", step + 1), asked)? else { return Ok(None) };
            each.extend(batch.sequences().into_iter().map(|tokens| logps[tokens].to_vec()));
        }
        Ok(Some(each))
    }

    /// What the policy that the run starts from says of each answer's tokens, where that counts.
    fn reference(
        &self,
        step: u64,
        asked: &[Asked],
        lines: &[Line],
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        match self.keys.beta > 0.0 {
            true => self.log_probabilities(step, asked, lines, self.policies.start, stop),
            false => Ok(Some(vec![Vec::new(); lines.len()])),
        }
    }

    /// The answers of these numbers, those to the same prompt after it.
    fn batch(&self, asked: &[Asked], lines: &[Line], answers: &[usize]) -> MicroBatch {
        let group = self.keys.num_generations;
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

    /// What each answer is worth: of `rloo` less the further the policy has gone with it from where the run starts.
    fn rewards_of(&self, lines: &[Line], reference: &[Vec<f64>]) -> Vec<f64> {
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

    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let group = self.keys.num_generations;
        match self.keys.scale_rewards {
            None => leave_one_out(rewards, group, self.keys.normalize_advantages == Some(true)),
            Some(ScaleRewards::Group) => relative_to_group(rewards, group, Spread::Group),
            Some(ScaleRewards::Batch) => relative_to_group(rewards, group, Spread::Batch),
            Some(ScaleRewards::None) => relative_to_group(rewards, group, Spread::None),
        }
    }

    /// What answers and rewards are like, by TRL's names.
    fn metrics(&self, lines: &[Line], rewards: &[f64]) -> BTreeMap<String, f64> {
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
            _ => rewards.chunks(self.keys.num_generations).map(is_same).collect(),
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

    /// Answers that are to be shown, with what rewards said of them.
    fn samples(&self, asked: &[Asked], lines: &[Line]) -> Vec<Sample> {
        if !self.keys.log_completions {
            return Vec::new();
        }
        let most = self.keys.num_completions_to_print.unwrap_or(usize::MAX);
        let sample = |(at, line): (usize, &Line)| {
            let each: Vec<String> = line.rewards.iter().map(|(name, said)| format!("{name} {said}")).collect();
            let rewards = format!("reward {} ({})", line.reward, each.join(", "));
            Sample {
                prompt: self.policies.encoder.decode(&asked[at / self.keys.num_generations].inputs.words()),
                completion: format!("{} [{rewards}]", line.completion),
                reference: rewards,
            }
        };
        lines.iter().enumerate().take(most).map(sample).collect()
    }
}

impl Windows for Rollouts<'_> {
    fn len(&mut self, epoch: u64) -> Result<u64> {
        let prompts = self.keys.prompts_in_a_step(&self.recipe.training);
        Ok(self.epoch(epoch)?.steps(1, prompts) as u64 * self.keys.num_iterations as u64)
    }

    fn window(&mut self, _: u64, _: u64) -> Result<Window> {
        Err(Error::new(Kind::Run, "answers are drawn with an adapter, and there is none"))
    }

    fn next(&mut self, position: &Position, adapter: &Adapter, stop: &AtomicBool) -> Result<Option<Window>> {
        let updates = self.keys.num_iterations as u64;
        let update = position.window % updates;
        let step = position.step - update.min(position.step);
        let known = self.drawn.take().filter(|(of, _)| *of == step);
        let drawn = match known {
            Some((_, drawn)) => drawn,
            None => {
                let rows = self.rows(position.epoch, position.window / updates)?;
                let Some(drawn) = self.draw(rows, step, update == 0, adapter, stop)? else { return Ok(None) };
                drawn
            }
        };
        let samples = if update == 0 { drawn.samples.clone() } else { Vec::new() };
        let window = Window {
            batches: drawn.batches.clone(),
            rows: drawn.rows.clone(),
            metrics: drawn.metrics.clone(),
            samples,
        };
        self.drawn = Some((step, drawn)).filter(|_| update + 1 < updates);
        Ok(Some(window))
    }

    fn origins(&self, rows: &[u32]) -> Result<Vec<String>> {
        rows.iter().map(|&row| Ok(self.dataset().origin(row as usize)?.to_string())).collect()
    }
}
