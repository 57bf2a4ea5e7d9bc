//! What a step's time is made of.

use super::stand_in::StandIn;
use super::timed_run::TimedRun;
use super::trial::{Line, Sample, samples};
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::nn::AttentionKind;
use crate::progress::Progress;
use crate::train::recompute::Recompute;
use std::time::Duration;

/// How long the runs of a layer may take in all; the other runs take less.
const BUDGET: Duration = Duration::from_millis(1000);

/// Seconds of the parts of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A layer without attention, over a micro-batch.
    pub layer: f64,
    /// The attention of a sliding layer, over a micro-batch.
    pub sliding: f64,
    /// The attention of a full layer.
    pub full: f64,
    /// Embedding, head and loss with a vocabulary of `words`.
    pub head: f64,
    /// Words of the vocabulary that `head` is for.
    pub words: usize,
    /// The optimiser's update of the whole adapter.
    pub update: f64,
}

impl Costs {
    /// Measures them on a device, with runs of at most `most` tokens.
    ///
    /// # Errors
    /// When the device fails.
    pub fn measure(run: &TimedRun, compute: &Compute, most: usize, progress: &dyn Progress) -> Result<Self> {
        let stand_in = StandIn::new(run, &compute.device)?;
        let (tokens, compiles) = (run.tokens(), !compute.is_cpu());
        let mut of_layers = [0.0; 3];
        for (recompute, share) in run.ways() {
            let costs = Self::of_layers(run, &stand_in, recompute, (most, compiles), progress)?;
            of_layers.iter_mut().zip(costs).for_each(|(mean, cost)| *mean += share * cost);
        }
        let [layer, sliding, full] = of_layers;
        let head = samples(most, BUDGET / 3, compiles, |tokens| counted(stand_in.head(tokens), progress))?;
        let [less, more] = head.map(|sample| (sample.tokens as f64, sample.seconds));
        let head = Line::through(less, more);
        let others = run.adapter.trainable() as f64 / stand_in.trainable().max(1) as f64;
        let (head, words, update) = (head.at(tokens as f64), stand_in.words(), stand_in.update()? * others);
        Ok(Costs { layer, sliding, full, head, words, update })
    }

    /// Seconds of a layer without attention, of that of a sliding layer and of a full one, over a micro-batch.
    fn of_layers(
        run: &TimedRun,
        stand_in: &StandIn,
        recompute: Recompute,
        (most, compiles): (usize, bool),
        progress: &dyn Progress,
    ) -> Result<[f64; 3]> {
        let tokens = run.tokens();
        let attention = |kind| {
            let work = |tokens| counted(stand_in.attention(kind, tokens, recompute), progress);
            let samples = samples(most, BUDGET / 5, compiles, work)?;
            let [less, more] = samples.map(|sample| (run.pairs(kind, sample.tokens), sample.seconds));
            Ok::<Line, Error>(Line::through(less, more))
        };
        let full = attention(AttentionKind::Full)?;
        let all_near = run.max_length <= run.frozen.config.sliding_window();
        let sliding = if all_near { full } else { attention(AttentionKind::Sliding)? };

        let layer = samples(most, BUDGET, compiles, |tokens| counted(stand_in.layer(tokens, recompute), progress))?;
        let [less, more] = layer.map(|Sample { tokens, seconds }| {
            let attention = full.at(run.pairs(AttentionKind::Full, tokens)); // the stand-in's layer is a full one
            (tokens as f64, (seconds - attention).max(0.0))
        });
        let layer = Line::through(less, more);
        Ok([
            layer.at(tokens as f64),
            sliding.at(run.pairs(AttentionKind::Sliding, tokens)),
            full.at(run.pairs(AttentionKind::Full, tokens)),
        ])
    }

    /// Seconds of a micro-batch of a model of this shape.
    fn micro_batch(&self, config: &ModelConfig) -> f64 {
        let attention = |kind: &AttentionKind| match kind {
            AttentionKind::Sliding => self.sliding,
            AttentionKind::Full => self.full,
        };
        let layers: f64 = config.layer_types().iter().map(|kind| self.layer + attention(kind)).sum();
        layers + self.head * config.vocab_size() as f64 / self.words.max(1) as f64
    }

    /// Seconds of a step.
    pub fn step(&self, run: &TimedRun) -> f64 {
        self.micro_batch(run.frozen.config) * run.passes() + self.update
    }
}

/// Work that is counted each time it is done.
fn counted<'a>(work: impl Fn() -> Result<()> + 'a, progress: &'a dyn Progress) -> impl Fn() -> Result<()> + 'a {
    move || work().inspect(|()| progress.advance(1))
}
