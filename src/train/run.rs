//! The training loop.

use crate::adapter::Adapter;
use crate::error::{Error, Kind, Place, Result};
use crate::fence::fenced;
use crate::train::event::{
    EvalEvent, Event, MicroBatchEvent, PartEvent, Sample, SampleEvent, Sink, StepEvent, Underway, UnderwayEvent,
};
use crate::train::micro_batch::MicroBatch;
use crate::train::optimizer::Optimizer;
use crate::train::schedule::Schedule;
use crate::train::step::{self, Computed, Passed, StepResult, StepSettings, Watch, WindowGradients};
use crate::train::tensors::Tensors;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Steps left out in a row, for numbers that are not finite, after which a run gives up.
pub const MAX_SKIPPED_IN_A_ROW: u64 = 5;

/// Where a run is. With the adapter and the optimiser's state, all that resuming needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Optimiser steps done (steps left out count).
    pub step: u64,
    /// The current pass over the data, from 0.
    pub epoch: u64,
    /// Windows of this pass that are done.
    pub window: u64,
    /// Steps left out because a number was not finite.
    pub skipped: u64,
    /// The same, since the last good step.
    pub skipped_in_a_row: u64,
    /// Loss of the frozen model, measured before the first step.
    pub base_loss: Option<f64>,
    /// The evaluation at this step is in the books.
    pub evaluated: Option<u64>,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_since_best: u64,
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimiser steps done.
    pub step: u64,
    /// What it is the best by.
    #[serde(alias = "eval_loss")]
    pub value: f64,
}

/// What tells which evaluation is the best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBy {
    /// What is compared, by the name that evaluations have it under: `eval_loss`.
    pub metric: String,
    /// Whether more of it is better.
    pub greater_is_better: bool,
}

impl Default for BestBy {
    fn default() -> Self {
        BestBy { metric: "eval_loss".into(), greater_is_better: false }
    }
}

impl BestBy {
    /// Whether an evaluation is better than the best one so far.
    fn is_better(&self, value: f64, best: Option<Best>) -> bool {
        let is_better = |best: Best| if self.greater_is_better { value > best.value } else { value < best.value };
        value.is_finite() && best.is_none_or(is_better)
    }
}

/// Everything that changes while training.
#[derive(Debug, Clone)]
pub struct State {
    /// The adapter.
    pub adapter: Adapter,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Where the run is.
    pub position: Position,
    /// The adapter at the best evaluation, where it is to be kept.
    pub best_adapter: Option<Tensors>,
}

impl State {
    /// The state before the first step.
    pub fn new(adapter: Adapter, optimizer: Optimizer) -> Self {
        State { adapter, optimizer, position: Position::default(), best_adapter: None }
    }

    /// Whether it is the state after a whole number of steps: an update that failed may have changed some tensors only.
    pub fn is_whole(&self) -> bool {
        self.optimizer.updates() + self.position.skipped == self.position.step
    }
}

/// The steps of a run.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// The learning rate of each.
    pub schedule: Schedule,
    /// What every step has in common.
    pub step: StepSettings,
    /// Evaluate every so many steps, and at the end.
    pub eval_steps: Option<u64>,
    /// Evaluate before the first step too.
    pub eval_on_start: bool,
    /// What tells which evaluation is the best.
    pub best_by: BestBy,
    /// Stop after this many evaluations without improvement.
    pub early_stopping_patience: Option<u64>,
    /// Keep the adapter of the best evaluation.
    pub keep_best: bool,
    /// Save every so many steps, and at the end; 0 saves only when interrupted.
    pub save_steps: u64,
}

/// The micro-batches of one optimiser step.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Its micro-batches.
    pub batches: Vec<MicroBatch>,
    /// The rows in it, by their numbers in the data.
    pub rows: Vec<u32>,
    /// What else there is to know of it, by name.
    pub metrics: BTreeMap<String, f64>,
    /// Answers in it that are to be shown.
    pub samples: Vec<Sample>,
}

/// Where windows come from.
pub trait Windows {
    /// Windows in a pass over the data.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn len(&mut self, epoch: u64) -> Result<u64>;

    /// A window of a pass.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn window(&mut self, epoch: u64, index: u64) -> Result<Window>;

    /// The window of the step that comes next, of which the adapter is what the steps before have made of it; `None` where `stop`
    /// was set before there was one. `tell` hears how far it has come.
    ///
    /// # Errors
    /// As [`Windows::window`], and what goes wrong where answers of the model itself are learnt from.
    fn next(
        &mut self,
        position: &Position,
        _adapter: &Adapter,
        _tell: &mut dyn FnMut(Underway),
        _stop: &AtomicBool,
    ) -> Result<Option<Window>> {
        self.window(position.epoch, position.window).map(Some)
    }

    /// Where rows came from, as `file, row`.
    ///
    /// # Errors
    /// When there is no such row.
    fn origins(&self, rows: &[u32]) -> Result<Vec<String>>;
}

/// Where a run leaves what it makes.
pub trait Outputs: Sink {
    /// Saves a checkpoint and returns its folder.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&mut self, state: &State) -> Result<PathBuf>;
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The mean loss over the evaluation data, by the run's objective; none where answers of the model itself are judged.
    pub loss: Option<f64>,
    /// Supervised tokens it was measured on, or those of the answers.
    pub tokens: u64,
    /// What else the objective says of it, by name.
    pub metrics: BTreeMap<String, f64>,
    /// Answers to prompts of the evaluation data.
    pub samples: Vec<Sample>,
}

/// Evaluates an adapter after so many optimiser steps and says how far that has come, or fails with [`Kind::Interrupted`] where
/// the run is to stop first.
pub type Evaluate<'a> = dyn Fn(&Adapter, u64, &mut dyn FnMut(Underway)) -> Result<Evaluation> + 'a;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// Evaluations stopped improving.
    StoppedEarly,
    /// The user asked to stop; a checkpoint was saved, if a step was done.
    Interrupted,
}

/// Trains on what `compute` makes of each window until the plan is done, `stop` is set, or evaluations no longer
/// improve. A step or an evaluation that is under way when `stop` is set is dropped, and done again from its beginning
/// by the run that resumes.
///
/// # Errors
/// [`Kind::NonFinite`] after [`MAX_SKIPPED_IN_A_ROW`] steps in a row with a loss or gradient that is not finite, or at the end
/// of a run of nothing else; [`Kind::OutOfMemory`] and [`Kind::Computing`] where the device fails and [`Kind::Reward`] where answers
/// cannot be judged, after what was done before is saved; errors of the data and of the outputs.
pub fn run(
    compute: &dyn WindowGradients,
    state: &mut State,
    plan: &StepPlan,
    data: &mut dyn Windows,
    evaluate: Option<&Evaluate>,
    outputs: &mut dyn Outputs,
    stop: &AtomicBool,
) -> Result<Ending> {
    let mut saved = Some(state.position.step).filter(|&step| step > 0);
    let ending = steps(compute, state, plan, data, evaluate, outputs, stop, &mut saved);
    if let Err(error) = &ending
        && [Kind::OutOfMemory, Kind::Computing, Kind::Reward].contains(&error.kind())
    {
        let step = state.position.step;
        // What the device still has is the more precious, and what it lost cannot be read.
        if step > 0
            && saved != Some(step)
            && state.is_whole()
            && let Err(error) = save(state, outputs)
        {
            outputs.event(&Event::NotSaved { step, why: error.what().to_owned() })?;
        }
    }
    ending
}

#[expect(clippy::too_many_arguments, reason = "those of `run`, and how far it is saved")]
fn steps(
    compute: &dyn WindowGradients,
    state: &mut State,
    plan: &StepPlan,
    data: &mut dyn Windows,
    evaluate: Option<&Evaluate>,
    outputs: &mut dyn Outputs,
    stop: &AtomicBool,
    saved: &mut Option<u64>,
) -> Result<Ending> {
    outputs.event(&Event::Started { step: state.position.step, total_steps: plan.total_steps })?;
    let ending = loop {
        let step = state.position.step;
        let evaluated = match evaluate.filter(|_| evaluation_is_due(&state.position, plan)) {
            Some(_) if stop.load(Ordering::SeqCst) => false,
            Some(evaluate) => match evaluation(state, plan, data, evaluate, outputs) {
                Err(error) if error.kind() == Kind::Interrupted => false,
                result => result.map(|()| true)?,
            },
            None => true,
        };
        if evaluated && is_out_of_patience(&state.position, plan) {
            break Ending::StoppedEarly;
        }
        if evaluated && step >= plan.total_steps {
            break Ending::Done;
        }
        let interrupted = stop.load(Ordering::SeqCst);
        let save_is_due = plan.save_steps > 0 && step.is_multiple_of(plan.save_steps);
        if step > 0 && *saved != Some(step) && (save_is_due || interrupted) {
            save(state, outputs)?;
            *saved = Some(step);
        }
        if interrupted {
            return Ok(Ending::Interrupted);
        }
        one_step(compute, state, plan, data, outputs, stop)?;
    };
    if state.position.skipped > 0 && state.optimizer.updates() == 0 {
        let what =
            format!("no step of {} was taken: the loss or a gradient was not finite in each", state.position.step);
        return Err(Error::new(Kind::NonFinite, what)
            .at(Place::Named(format!("step {}", state.position.step)))
            .hint("lower `training.learning_rate`, or look at the rows of these steps with `data preview`"));
    }
    let step = state.position.step;
    if plan.save_steps > 0
        && *saved != Some(step)
        && let Err(error) = save(state, outputs)
    {
        // The adapter is still to be written, and worth more than the way back to it.
        outputs.event(&Event::NotSaved { step, why: error.what().to_owned() })?;
    }
    outputs.event(&Event::Finished { step })?;
    Ok(ending)
}

fn save(state: &State, outputs: &mut dyn Outputs) -> Result<()> {
    let step = state.position.step;
    let path = fenced(&format!("saving step {step}"), || outputs.save(state))??;
    outputs.event(&Event::Saved { step, path })
}

/// Whether the evaluation at this step was one too many without improvement.
fn is_out_of_patience(position: &Position, plan: &StepPlan) -> bool {
    let since_best = position.evaluations_since_best;
    since_best > 0
        && position.evaluated == Some(position.step)
        && plan.early_stopping_patience.is_some_and(|patience| since_best >= patience)
}

/// Takes a step, unless `stop` is set before it is done.
fn one_step(
    compute: &dyn WindowGradients,
    state: &mut State,
    plan: &StepPlan,
    data: &mut dyn Windows,
    outputs: &mut dyn Outputs,
    stop: &AtomicBool,
) -> Result<()> {
    let started = Instant::now();
    let State { adapter, optimizer, position, .. } = state;
    let mut told = Ok(());
    let window = data.next(position, adapter, &mut telling(outputs, &mut told, (position.step + 1, false)), stop);
    told?;
    let Some(window) = window? else { return Ok(()) };
    let tokens_in = |batches: &[MicroBatch]| batches.iter().map(|b| b.tokens() as u64).sum::<u64>();
    let tokens = tokens_in(&window.batches);
    let learning_rate = plan.schedule.at(position.step);
    let (step, mut told) = (position.step + 1, Ok(()));
    let of = window.batches.len();
    let mut on_progress = |passed: Passed| {
        let event = match passed {
            _ if told.is_err() => return,
            Passed::Part { micro_batch, part } => Event::Part(PartEvent { step, micro_batch, of, part }),
            Passed::Batches { done, .. } if done == of => return, // the step
            Passed::Batches { done, loss } => {
                let seconds = started.elapsed().as_secs_f64().max(1e-9);
                let tokens_per_second = tokens_in(&window.batches[..done]) as f64 / seconds;
                Event::MicroBatch(MicroBatchEvent { step, done, of, loss, step_tokens: tokens, tokens_per_second })
            }
        };
        told = outputs.event(&event);
    };
    let watch = Watch { stop, on_progress: &mut on_progress };
    let result = fenced(&format!("step {step}"), || {
        let computed = compute.gradients(adapter, &window.batches, position.step, &plan.step, watch)?;
        let Computed { loss, metrics, gradients } = computed;
        let max_grad_norm = plan.step.max_grad_norm;
        Some((step::update(adapter, optimizer, (loss, gradients), learning_rate, max_grad_norm), metrics))
    });
    told?;
    let Some((result, mut metrics)) = result? else { return Ok(()) };
    metrics.extend(window.metrics);
    let StepResult { loss, grad_norm, grad_norms, skipped } = result;
    let supervised_tokens: u64 = window.batches.iter().map(|b| b.supervised() as u64).sum();
    let seconds = started.elapsed().as_secs_f64();
    let windows = data.len(position.epoch)?;
    position.step += 1;
    position.window += 1;
    let epoch = position.epoch as f64 + position.window as f64 / windows.max(1) as f64;
    if position.window >= windows {
        (position.epoch, position.window) = (position.epoch + 1, 0);
    }
    if let Some(what) = skipped {
        position.skipped += 1;
        position.skipped_in_a_row += 1;
        let why = format!("{what} is not finite");
        let rows = data.origins(&window.rows)?;
        outputs.event(&Event::SkippedStep { step: position.step, why, rows: rows.clone() })?;
        if position.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW {
            let what = format!("{what} was not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row");
            return Err(Error::new(Kind::NonFinite, what)
                .at(Place::Named(format!("step {}: {}", position.step, rows.join("; "))))
                .hint("lower `training.learning_rate`, or look at the rows of these steps with `data preview`"));
        }
    } else {
        position.skipped_in_a_row = 0;
    }
    outputs.event(&Event::Step(StepEvent {
        step: position.step,
        epoch,
        loss,
        grad_norm,
        grad_norms,
        learning_rate,
        tokens,
        supervised_tokens,
        tokens_per_second: tokens as f64 / seconds.max(1e-9),
        skipped: position.skipped,
        metrics,
    }))?;
    let step = position.step;
    let mut samples = (1..).zip(window.samples);
    samples.try_for_each(|(number, sample)| outputs.event(&Event::Sample(SampleEvent { step, number, sample })))
}

/// Hands on how far something has come that a step waits for, or that an evaluation does, until an output fails.
fn telling<'a>(
    outputs: &'a mut dyn Outputs,
    told: &'a mut Result<()>,
    (step, is_evaluation): (u64, bool),
) -> impl FnMut(Underway) + 'a {
    move |underway| {
        if told.is_ok() {
            *told = outputs.event(&Event::Underway(UnderwayEvent { step, is_evaluation, underway }));
        }
    }
}

fn evaluation_is_due(position: &Position, plan: &StepPlan) -> bool {
    let step = position.step;
    if position.evaluated == Some(step) {
        return false;
    }
    match step {
        0 => plan.eval_on_start,
        _ => step >= plan.total_steps || plan.eval_steps.is_some_and(|every| step.is_multiple_of(every)),
    }
}

/// Evaluates, and notes whether it was the best so far.
fn evaluation(
    state: &mut State,
    plan: &StepPlan,
    data: &mut dyn Windows,
    evaluate: &Evaluate,
    outputs: &mut dyn Outputs,
) -> Result<()> {
    let step = state.position.step;
    let (doing, mut told) = (format!("the evaluation after step {step}"), Ok(()));
    let evaluated = {
        let mut tell = telling(outputs, &mut told, (step, true));
        fenced(&doing, || evaluate(&state.adapter, step, &mut tell))
    };
    told?;
    let Evaluation { loss: eval_loss, tokens: eval_tokens, metrics, samples } = evaluated??;
    let windows = data.len(state.position.epoch)?;
    let position = &mut state.position;
    let epoch = position.epoch as f64 + position.window as f64 / windows.max(1) as f64;
    let metrics = metrics.into_iter().map(|(name, mean)| (format!("eval_{name}"), mean)).collect();
    let best_by = plan.best_by.metric.clone();
    let mut event = EvalEvent { step, epoch, eval_loss, eval_tokens, metrics, best_by, is_best: false };
    let value = event.get(&plan.best_by.metric).ok_or_else(|| not_measured(&event))?;
    event.is_best = plan.best_by.is_better(value, position.best);
    if event.is_best {
        position.best = Some(Best { step, value });
        position.evaluations_since_best = 0;
        if plan.keep_best {
            state.best_adapter = Some(Tensors::from_device(&state.adapter.parameters()));
        }
    } else {
        position.evaluations_since_best += 1;
    }
    position.evaluated = Some(step);
    outputs.event(&Event::Eval(event))?;
    for (number, sample) in (1..).zip(samples) {
        outputs.event(&Event::Sample(SampleEvent { step, number, sample }))?;
    }
    Ok(())
}

/// Says that an evaluation does not have what the best is to be known by: rows of one kind may give less than others.
fn not_measured(event: &EvalEvent) -> Error {
    let given = event.eval_loss.map(|_| "eval_loss").into_iter().chain(event.metrics.keys().map(String::as_str));
    let given: Vec<String> = given.map(|name| format!("`{name}`")).collect();
    Error::new(Kind::Recipe, format!("the evaluation rows give no `{}`", event.best_by))
        .at(Place::Key("evaluation.metric_for_best_model".into()))
        .hint(format!("they give {}", given.join(", ")))
}

#[cfg(test)]
mod tests;
