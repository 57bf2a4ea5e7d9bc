//! How good a model's answers to evaluation prompts are.

use super::answering::{Answering, Asked, Draw, Policies};
use super::journal::{Journal, Line};
use crate::data::Dataset;
use crate::error::Result;
use crate::jobs::run::data::Data;
use crate::jobs::run::evaluation::interrupted;
use crate::jobs::run::rewards::Rewards;
use crate::nn::SidePath;
use crate::recipe::Recipe;
use crate::train::event::{Doing, Sample, Underway};
use crate::train::objective::mean_of;
use crate::train::run::Evaluation;
use crate::train::step::Watch;
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What is being done, as messages call it.
const DOING: &str = "the answers to the evaluation prompts";

/// Prompts that are answered again and again, by the same random numbers each time: what two models say differs by the models alone.
pub struct Exam<'a> {
    answering: Answering<'a>,
    prompts: &'a Dataset,
    /// Prompts that are answered at once.
    at_once: usize,
    /// Answers that are shown.
    samples: usize,
    /// What rewards have said, where that is kept.
    journal: Option<RefCell<Journal>>,
}

impl<'a> Exam<'a> {
    /// That of a recipe's evaluation prompts; `None` where it has none, or its task is another.
    pub fn of(recipe: &'a Recipe, data: &'a Data, policies: &'a Policies<'a>, rewards: &'a Rewards) -> Option<Self> {
        Exam::on(recipe, (data, data.eval.as_ref()?), policies, rewards)
    }

    /// The same of prompts among a run's data.
    pub fn on(
        recipe: &'a Recipe,
        (data, prompts): (&'a Data, &'a Dataset),
        policies: &'a Policies<'a>,
        rewards: &'a Rewards,
    ) -> Option<Self> {
        let keys = recipe.grpo.as_ref()?;
        let group = keys.generations_of_evaluation();
        let training = &recipe.training;
        let answers = training.per_device_train_batch_size.saturating_mul(training.gradient_accumulation_steps);
        Some(Exam {
            answering: Answering::of(recipe, (keys, group), data, policies, rewards),
            prompts,
            at_once: (answers / group).max(1),
            samples: recipe.evaluation.samples,
            journal: None,
        })
    }

    /// The same, which keeps what rewards say in a file, and does not ask them again of what is there: that of a run which has done
    /// `steps`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kept_in(self, path: &Path, steps: u64) -> Result<Self> {
        Ok(Exam { journal: Some(RefCell::new(Journal::open(path, steps)?)), ..self })
    }

    /// The prompts in parts, each of about as many answers as a step has: a program's time limit is for so many.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let (all, at_once) = (self.prompts.len(), self.at_once);
        (0..all).step_by(at_once).map(move |first| first..all.min(first + at_once))
    }

    /// Some prompts with the answers to them after `step` steps, as rewards judge these; `None` where `watch` stopped it first.
    fn part(
        &self,
        side: &dyn SidePath,
        rows: Range<usize>,
        step: u64,
        watch: &mut Watch<Underway>,
    ) -> Result<Option<(Vec<Asked>, Vec<Line>)>> {
        let first = rows.start * self.answering.group;
        let draw = Draw { purpose: "evaluation answer", step: 0, first };
        let asked = self.answering.asked(self.prompts, rows)?;
        let Some(answers) = self.answering.answers(DOING, side, &asked, draw, watch)? else { return Ok(None) };
        let mut journal = self.journal.as_ref().map(RefCell::borrow_mut);
        let kept = journal.as_ref().and_then(|journal| journal.of(step)?.get(first..first + answers.len()));
        if let Some(lines) = self.answering.known(kept, &asked, &answers, false) {
            return Ok(Some((asked, lines)));
        }
        let Some(lines) = self.answering.judged(step, &asked, &answers, watch)? else { return Ok(None) };
        if let Some(journal) = &mut journal {
            journal.keep(step, first, &lines)?;
        }
        Ok(Some((asked, lines)))
    }

    /// Answers that are given in an evaluation.
    pub fn answers_in_all(&self) -> usize {
        self.prompts.len() * self.answering.group
    }

    /// The answers to each prompt, as rewards judge them; `told` hears of how many answers were given since the last time.
    ///
    /// # Errors
    /// When a row cannot be read, an answer cannot be judged, or the model computes numbers that are not finite.
    pub fn answers(
        &self,
        side: &dyn SidePath,
        told: &dyn Fn(usize),
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Vec<Line>>>> {
        let mut all = Vec::with_capacity(self.prompts.len());
        for rows in self.parts() {
            let mut given = 0;
            let mut tell = |Underway { doing, done, .. }| {
                if doing == Doing::Answering {
                    told(done - given);
                    given = done;
                }
            };
            let mut watch = Watch { stop, on_progress: &mut tell };
            let Some((_, lines)) = self.part(side, rows, 0, &mut watch)? else { return Ok(None) };
            all.extend(lines.chunks(self.answering.group).map(<[Line]>::to_vec));
        }
        Ok(Some(all))
    }

    /// How good the answers are after `step` steps, by the names that a step has for it.
    ///
    /// # Errors
    /// As [`Exam::answers`]; [`Kind::Interrupted`](crate::error::Kind::Interrupted) where `watch` stops it.
    pub fn evaluate(&self, side: &dyn SidePath, step: u64, watch: Watch<Underway>) -> Result<Evaluation> {
        let Answering { keys, group, policies, .. } = &self.answering;
        let (mut all, mut rewards, mut apart) = (Vec::new(), Vec::new(), Vec::new());
        let mut samples: Vec<Sample> = Vec::new();
        let (of, mut tokens) = (self.answers_in_all(), 0);
        for rows in self.parts() {
            // What is said of a part is said of all prompts.
            let before = (rows.start * group, tokens);
            let mut tell = |Underway { doing, done, tokens, .. }| {
                (watch.on_progress)(Underway { doing, done: before.0 + done, of, tokens: before.1 + tokens });
            };
            let mut watch = Watch { stop: watch.stop, on_progress: &mut tell };
            let (asked, mut lines) = self.part(side, rows, step, &mut watch)?.ok_or_else(interrupted)?;
            tokens += lines.iter().map(|line| line.tokens.len() as u64).sum::<u64>();
            let mut reference = vec![Vec::new(); lines.len()];
            if keys.beta > 0.0 {
                let mut of = |side: &dyn SidePath| {
                    let measured = self.answering.log_probabilities(DOING, &asked, &lines, side, &mut watch)?;
                    measured.ok_or_else(interrupted)
                };
                let (own, start) = (of(side)?, of(policies.start)?);
                let tokens = own.iter().flatten().zip(start.iter().flatten());
                apart.extend(tokens.map(|(own, start)| self.answering.divergence(*own, *start)));
                lines.iter_mut().zip(own).for_each(|(line, own)| line.old = own);
                reference = start;
            }
            rewards.extend(self.answering.rewards_of(&lines, &reference));
            let shown = asked.iter().zip(lines.chunks(*group)).take(self.samples - samples.len());
            samples.extend(shown.map(|(asked, lines)| self.answering.sample(asked, &lines[0])));
            all.extend(lines);
        }
        let mut metrics = self.answering.metrics(&all, &rewards);
        if keys.beta > 0.0 {
            metrics.insert("kl".into(), mean_of(&apart));
        }
        if let Some(journal) = &self.journal {
            journal.borrow_mut().forget(step + 1);
        }
        Ok(Evaluation { loss: None, tokens, metrics, samples })
    }
}
