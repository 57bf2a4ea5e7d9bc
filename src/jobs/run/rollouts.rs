//! A run's windows where a model learns from its own answers: prompts are drawn, answered and judged when a step comes to them.

mod answering;
mod draw;
mod exam;
mod journal;

pub use answering::Policies;
pub use draw::at_once;
pub use exam::Exam;
pub use journal::Line;

use crate::adapter::Adapter;
use crate::data::{Dataset, Epoch};
use crate::error::{Error, Kind, Result};
use crate::jobs::run::data::Data;
use crate::jobs::run::rewards::Rewards;
use crate::recipe::{Grpo, Recipe, ScaleRewards};
use crate::train::event::{Sample, Underway};
use crate::train::micro_batch::{MicroBatch, Rollout};
use crate::train::objective::{Spread, leave_one_out, mean_of, relative_to_group};
use crate::train::run::{Position, Window, Windows};
use crate::train::step::Watch;
use answering::{Answering, Asked, Draw};
use draw::Answer;
use journal::Journal;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The windows of a run that answers prompts.
pub struct Rollouts<'a> {
    data: &'a Data,
    recipe: &'a Recipe,
    keys: &'a Grpo,
    answering: Answering<'a>,
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

/// The answers of a step, from 0, as messages call them.
fn answers_of(step: u64) -> String {
    format!("the answers of step {}", step + 1)
}

impl<'a> Rollouts<'a> {
    /// Those of a recipe, whose next step is the one after `position`; `None` where its task is another.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn of(
        recipe: &'a Recipe,
        data: &'a Data,
        (policies, rewards): (&'a Policies<'a>, &'a Rewards),
        journal: &Path,
        position: &Position,
    ) -> Result<Option<Self>> {
        let Some(keys) = &recipe.grpo else { return Ok(None) };
        let drawn_for = position.step - position.window % keys.num_iterations as u64;
        let journal = Journal::open(journal, drawn_for + 1)?;
        let answering = Answering::of(recipe, (keys, keys.num_generations), data, policies, rewards);
        Ok(Some(Rollouts { data, recipe, keys, answering, journal, epoch: None, drawn: None }))
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

    /// Draws and judges the answers of a step, or takes what is known of them; `None` where `watch` stopped it first. `step` counts from 0.
    fn draw(
        &mut self,
        rows: Vec<u32>,
        step: u64,
        is_first: bool,
        adapter: &Adapter,
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Drawn>> {
        let asked = self.answering.asked(self.dataset(), rows.iter().map(|row| *row as usize))?;
        let lines = match is_first {
            true => {
                let draw = Draw { purpose: "answer", step, first: 0 };
                let drawn = self.answering.answers(&answers_of(step), adapter, &asked, draw, watch)?;
                let Some(answers) = drawn else { return Ok(None) };
                let Some(lines) = self.judged(step, &asked, &answers, adapter, watch)? else { return Ok(None) };
                lines
            }
            false => self.known(step, &asked)?,
        };
        self.journal.forget(step + 2);
        let (lines, asked) = (lines.as_slice(), asked.as_slice());
        let Some(reference) = self.reference(step, asked, lines, watch)? else { return Ok(None) };
        let rewards = self.answering.rewards_of(lines, &reference);
        let advantages = self.advantages(&rewards);
        let mut metrics = self.answering.metrics(lines, &rewards);
        if self.answering.going_away_costs_reward() {
            let apart = lines.iter().zip(&reference).flat_map(|(line, reference)| {
                line.old.iter().zip(reference).map(|(old, reference)| old - reference).collect::<Vec<_>>()
            });
            metrics.insert("kl".into(), mean_of(&apart.collect::<Vec<_>>()));
        }
        let samples = self.samples(asked, lines);
        let size = self.recipe.training.per_device_train_batch_size;
        let answers: Vec<usize> = (0..lines.len()).collect();
        let batches = answers.chunks(size).map(|answers| {
            let mut batch = self.answering.batch(asked, lines, answers);
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

    /// The answers of a step with what rewards say of them: what is in the journal, where these are the same answers.
    fn judged(
        &mut self,
        step: u64,
        asked: &[Asked],
        answers: &[Answer],
        adapter: &Adapter,
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Line>>> {
        if let Some(known) = self.answering.known(self.journal.of(step + 1), asked, answers, self.asks_old()) {
            return Ok(Some(known));
        }
        let Some(mut lines) = self.answering.judged(step + 1, asked, answers, watch)? else { return Ok(None) };
        if self.asks_old() {
            let old = self.answering.log_probabilities(&answers_of(step), asked, &lines, adapter, watch)?;
            let Some(old) = old else { return Ok(None) };
            lines.iter_mut().zip(old).for_each(|(line, old)| line.old = old);
        }
        self.journal.keep(step + 1, 0, &lines)?;
        Ok(Some(lines))
    }

    /// Whether it counts how likely an answer was when it was given.
    fn asks_old(&self) -> bool {
        self.keys.num_iterations > 1 || self.answering.going_away_costs_reward()
    }

    /// The answers of a step that was taken once already, for another update by them.
    fn known(&self, step: u64, asked: &[Asked]) -> Result<Vec<Line>> {
        let (group, known) = (self.keys.num_generations, self.journal.of(step + 1).unwrap_or_default());
        let is_right =
            |(at, line): (usize, &Line)| asked[at / group].origin == line.prompt && self.answering.is_whole(line, true);
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

    /// What the policy that the run starts from says of each answer's tokens, where that counts.
    fn reference(
        &self,
        step: u64,
        asked: &[Asked],
        lines: &[Line],
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        match self.keys.beta > 0.0 {
            true => {
                let start = self.answering.policies.start;
                self.answering.log_probabilities(&answers_of(step), asked, lines, start, watch)
            }
            false => Ok(Some(vec![Vec::new(); lines.len()])),
        }
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

    /// Answers that are to be shown, with what rewards said of them.
    fn samples(&self, asked: &[Asked], lines: &[Line]) -> Vec<Sample> {
        if !self.keys.log_completions {
            return Vec::new();
        }
        let most = self.keys.num_completions_to_print.unwrap_or(usize::MAX);
        let sample = |(at, line)| self.answering.sample(&asked[at / self.keys.num_generations], line);
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

    fn next(
        &mut self,
        position: &Position,
        adapter: &Adapter,
        tell: &mut dyn FnMut(Underway),
        stop: &AtomicBool,
    ) -> Result<Option<Window>> {
        let updates = self.keys.num_iterations as u64;
        let update = position.window % updates;
        let step = position.step - update.min(position.step);
        let known = self.drawn.take().filter(|(of, _)| *of == step);
        let drawn = match known {
            Some((_, drawn)) => drawn,
            None => {
                let rows = self.rows(position.epoch, position.window / updates)?;
                let mut watch = Watch { stop, on_progress: tell };
                let Some(drawn) = self.draw(rows, step, update == 0, adapter, &mut watch)? else { return Ok(None) };
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
