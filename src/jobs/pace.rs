//! How long a step will take: one layer of random numbers is timed in the place of the model.

mod stand_in;
mod trial;

use self::stand_in::StandIn;
use self::trial::{Line, Sample, samples};
use crate::data::RowFormat;
use crate::error::{Error, Kind, Result};
use crate::jobs::adapter::AdapterPlan;
use crate::jobs::device::{Compute, attempt};
use crate::jobs::model::Frozen;
use crate::jobs::sft;
use crate::model::gemma3::TextConfig;
use crate::nn::{AttentionKind, Segments};
use crate::progress::Progress;
use crate::recipe::{self, Recipe};
use crate::report::text;
use crate::text::TrainOn;
use crate::train::memory::{self, Workload};
use crate::train::optimizer::Rule;
use crate::weights::Holding;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How long the runs of a layer may take in all; the other runs take less.
const BUDGET: Duration = Duration::from_millis(1200);

/// Fewer tokens than this are no measure of anything.
const FEWEST_TOKENS: usize = 64;

/// What the time of a step depends on.
pub struct Run<'a> {
    /// The base.
    pub frozen: Frozen<'a>,
    /// How its weights are held.
    pub holding: Holding,
    /// What is trained.
    pub adapter: &'a AdapterPlan,
    /// The optimiser.
    pub rule: Rule,
    /// Sequences at once.
    pub batch_size: usize,
    /// Tokens in a sequence.
    pub max_length: usize,
    /// Passes in a step.
    pub accumulation: usize,
    /// Whether layers are recomputed on the way back.
    pub activation_checkpointing: bool,
    /// Steps, where the recipe says how many.
    pub max_steps: Option<u64>,
    /// Whether micro-batches may be shorter, or not all of their tokens have a loss.
    pub at_most: bool,
    /// Memory that is free, where that can be asked.
    pub available_bytes: Option<u64>,
}

/// How long the steps of a run take.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pace {
    /// Tokens of a step whose micro-batches are all full.
    pub tokens_per_step: u64,
    /// Whether steps may be shorter than what is stated here: without packing micro-batches are not full, and what is said by
    /// others than the one who is trained needs no head.
    pub at_most: bool,
    /// Seconds of a step whose micro-batches are full and whose tokens all have a loss, where that was measured.
    pub seconds_per_step: Option<f64>,
    /// Tokens a second in such steps.
    pub tokens_per_second: Option<f64>,
    /// Steps of the run, where `training.max_steps` says so.
    pub total_steps: Option<u64>,
    /// Seconds of all of them, without loading, evaluation and checkpoints.
    pub seconds_total: Option<f64>,
    /// Why nothing was measured.
    pub not_timed: Option<String>,
}

impl Pace {
    /// Measures the pace of a run on a device within some seconds. No weights are read: the time of a step does not depend on
    /// them. Where nothing can be measured, it says why.
    pub fn measure(run: &Run, compute: &Compute, progress: &dyn Progress) -> Self {
        let pace = Pace {
            tokens_per_step: run.tokens() as u64 * run.accumulation as u64,
            at_most: run.at_most,
            total_steps: run.max_steps,
            ..Pace::default()
        };
        match seconds_per_step(run, compute, progress) {
            Ok(seconds) => pace.with(seconds),
            Err(error) => Pace { not_timed: Some(error.what().into()), ..pace },
        }
    }

    fn with(self, seconds: f64) -> Self {
        Pace {
            seconds_per_step: Some(seconds),
            tokens_per_second: Some(self.tokens_per_step as f64 / seconds),
            seconds_total: self.total_steps.map(|steps| steps as f64 * seconds),
            ..self
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(seconds), Some(rate)) = (self.seconds_per_step, self.tokens_per_second) else {
            return write!(f, "not measured: {}", self.not_timed.as_deref().unwrap_or("not asked for"));
        };
        let about = if self.at_most { "at most" } else { "about" };
        let duration = |seconds: f64| text::duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let (tokens, rate) = (text::count(self.tokens_per_step), text::rate(rate));
        write!(f, "{about} {} a step of {tokens} tokens, {rate} tokens per second", duration(seconds))?;
        let (Some(steps), Some(total)) = (self.total_steps, self.seconds_total) else { return Ok(()) };
        write!(f, "; {about} {} for {} steps", duration(total), text::count(steps))
    }
}

/// Seconds of a full step.
fn seconds_per_step(run: &Run, compute: &Compute, progress: &dyn Progress) -> Result<f64> {
    let most = run.affordable_tokens()?;
    progress.start("Timing a layer", None, "runs");
    let costs = attempt(|| Costs::measure(run, compute, most, progress));
    progress.finish();
    let failed = |why: String| Error::new(Kind::Device, format!("`{}` fails: {why}", compute.describe()));
    costs.map_err(failed)?.map(|costs| costs.step(run))
}

impl<'a> Run<'a> {
    /// The run of a recipe that is otherwise planned.
    pub fn of(recipe: &Recipe, frozen: Frozen<'a>, adapter: &'a AdapterPlan, activation_checkpointing: bool) -> Self {
        let (data, training) = (&recipe.data, &recipe.training);
        let all_of_it = |source: &recipe::Source| matches!(source.format, RowFormat::Text | RowFormat::Tokens);
        let all_have_a_loss = data.train_on == TrainOn::All || data.train.iter().all(all_of_it);
        Run {
            frozen,
            holding: sft::holding(recipe),
            adapter,
            rule: sft::rule(training),
            batch_size: training.per_device_train_batch_size,
            max_length: data.max_length,
            accumulation: training.gradient_accumulation_steps,
            activation_checkpointing,
            max_steps: training.max_steps,
            at_most: !data.packing || !all_have_a_loss,
            available_bytes: memory::available_bytes(),
        }
    }

    /// Tokens of a micro-batch.
    fn tokens(&self) -> usize {
        self.batch_size.saturating_mul(self.max_length).max(1)
    }

    /// The sequences of the first `tokens` tokens of a micro-batch.
    fn segments(&self, tokens: usize) -> Segments {
        let (whole, rest) = (tokens / self.max_length.max(1), tokens % self.max_length.max(1));
        Segments::from_lengths(std::iter::repeat_n(self.max_length, whole).chain([rest]))
    }

    /// Pairs of tokens of which one sees the other, among the first `tokens` tokens of a micro-batch.
    fn pairs(&self, kind: AttentionKind, tokens: usize) -> f64 {
        let window = match kind {
            AttentionKind::Sliding => self.frozen.config.sliding_window as f64,
            AttentionKind::Full => f64::INFINITY,
        };
        let within = |length: usize| {
            let (length, near) = (length as f64, (length as f64).min(window));
            near * (near + 1.0) / 2.0 + (length - near) * near
        };
        let (whole, rest) = (tokens / self.max_length.max(1), tokens % self.max_length.max(1));
        whole as f64 * within(self.max_length) + within(rest)
    }

    /// Tokens that a stand-in may be run with so that it takes at most half of the free memory.
    fn affordable_tokens(&self) -> Result<usize> {
        let config = StandIn::config(self.frozen.config);
        let base_bytes = StandIn::bytes(self);
        let needed = |tokens: usize| {
            let work = Workload {
                base_bytes,
                trainable: self.adapter.trainable() / self.frozen.config.num_hidden_layers.max(1) as u64,
                optimizer_slots: self.rule.slots() as u64,
                tokens: tokens as u64,
                activation_checkpointing: self.activation_checkpointing,
                sampled: 0,
                sampled_tokens: 0,
                gpu: None,
            };
            memory::estimate(&config, &work).total_bytes()
        };
        let mut tokens = self.tokens();
        let Some(free) = self.available_bytes else { return Ok(tokens) };
        while needed(tokens) > free / 2 {
            if tokens <= FEWEST_TOKENS {
                let (needed, free) = (text::bytes(needed(tokens)), text::bytes(free));
                let what = format!("a probe of one layer takes {needed}, and {free} is free");
                return Err(Error::new(Kind::Device, what));
            }
            tokens /= 2;
        }
        Ok(tokens)
    }
}

/// Seconds of the parts of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Costs {
    /// A layer without attention, over a micro-batch.
    layer: f64,
    /// The attention of a sliding layer, over a micro-batch.
    sliding: f64,
    /// The attention of a full layer.
    full: f64,
    /// Embedding, head and loss with a vocabulary of `words`.
    head: f64,
    words: usize,
    /// The optimiser's update of the whole adapter.
    update: f64,
}

impl Costs {
    fn measure(run: &Run, compute: &Compute, most: usize, progress: &dyn Progress) -> Result<Self> {
        let stand_in = StandIn::new(run, &compute.device)?;
        let tokens = run.tokens();
        let attention = |kind| {
            let samples = samples(most, BUDGET / 4, |tokens| counted(stand_in.attention(kind, tokens), progress))?;
            let [less, more] = samples.map(|sample| (run.pairs(kind, sample.tokens), sample.seconds));
            Ok::<Line, Error>(Line::through(less, more))
        };
        let full = attention(AttentionKind::Full)?;
        let all_near = run.max_length <= run.frozen.config.sliding_window;
        let sliding = if all_near { full } else { attention(AttentionKind::Sliding)? };

        let layer = samples(most, BUDGET, |tokens| counted(stand_in.layer(tokens), progress))?;
        let [less, more] = layer.map(|Sample { tokens, seconds }| {
            let attention = full.at(run.pairs(AttentionKind::Full, tokens)); // the stand-in's layer is a full one
            (tokens as f64, (seconds - attention).max(0.0))
        });
        let layer = Line::through(less, more);
        let head = samples(most, BUDGET / 2, |tokens| counted(stand_in.head(tokens), progress))?;
        let [less, more] = head.map(|sample| (sample.tokens as f64, sample.seconds));
        let head = Line::through(less, more);
        let others = run.adapter.trainable() as f64 / stand_in.trainable().max(1) as f64;
        Ok(Costs {
            layer: layer.at(tokens as f64),
            sliding: sliding.at(run.pairs(AttentionKind::Sliding, tokens)),
            full: full.at(run.pairs(AttentionKind::Full, tokens)),
            head: head.at(tokens as f64),
            words: stand_in.words(),
            update: stand_in.update()? * others,
        })
    }

    /// Seconds of a micro-batch of a model of this shape.
    fn micro_batch(&self, config: &TextConfig) -> f64 {
        let attention = |kind: &AttentionKind| match kind {
            AttentionKind::Sliding => self.sliding,
            AttentionKind::Full => self.full,
        };
        let layers: f64 = config.layer_types.iter().map(|kind| self.layer + attention(kind)).sum();
        layers + self.head * config.vocab_size as f64 / self.words.max(1) as f64
    }

    /// Seconds of a step.
    fn step(&self, run: &Run) -> f64 {
        self.micro_batch(run.frozen.config) * run.accumulation as f64 + self.update
    }
}

/// Work that is counted each time it is done.
fn counted<'a>(work: impl Fn() -> Result<()> + 'a, progress: &'a dyn Progress) -> impl Fn() -> Result<()> + 'a {
    move || work().inspect(|()| progress.advance(1))
}

#[cfg(test)]
mod tests;
