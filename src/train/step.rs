//! One optimiser step: accumulate, check, clip, update.

use crate::adapter::{Adapter, Dropout};
use crate::model::LanguageModel;
use crate::ops::{dropout, square_sums};
use crate::random::{Label, Rng};
use crate::train::backprop::{self, BackpropSettings};
use crate::train::micro_batch::MicroBatch;
use crate::train::optimizer::Optimizer;
use crate::weights::names::ModelPart;
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every step of a run has in common.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Gradients are scaled down to this L2 norm over all of them; 0 leaves them alone.
    pub max_grad_norm: f64,
    /// Recompute layers on the way back instead of keeping their inside.
    pub activation_checkpointing: bool,
    /// Probability that an input of an adapter is dropped.
    pub lora_dropout: f64,
    /// Decides dropout.
    pub rng: Rng,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Mean negative log-likelihood over the window's supervised tokens before the update, in nats.
    pub loss: f64,
    /// L2 norm over all gradients before clipping.
    pub grad_norm: f64,
    /// The same of each part of the model, where more than one is trained.
    pub grad_norms: BTreeMap<ModelPart, f64>,
    /// Which number was not finite, so that the update was left out.
    pub skipped: Option<&'static str>,
}

/// Who waits for a step.
pub struct Watch<'a> {
    /// Once it is set, the step is left between two layers.
    pub stop: &'a AtomicBool,
    /// Is told of all that is done.
    pub on_progress: &'a mut dyn FnMut(Passed),
}

/// What of a step is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Passed {
    /// Part of a micro-batch, whose loss is not known yet.
    Part {
        /// Its number in the step, from 1.
        micro_batch: usize,
        /// How much of it, from 0 to 1.
        part: f64,
    },
    /// Micro-batches.
    Batches {
        /// How many.
        done: usize,
        /// Their mean loss.
        loss: f64,
    },
}

/// Runs one window of micro-batches and updates the adapter; `None` if `watch` stopped it before the update.
///
/// The loss is normalised by the supervised tokens of the whole window, so that 8 micro-batches of 1 equal 1 of 8. If
/// the loss or a gradient is not finite the adapter and the optimiser stay as they are. `step` counts from 0.
#[expect(clippy::too_many_arguments, reason = "what a step changes, reads, and is watched by")]
pub fn step(
    model: &dyn LanguageModel,
    adapter: &mut Adapter,
    optimizer: &mut Optimizer,
    window: &[MicroBatch],
    step: u64,
    learning_rate: f64,
    settings: &StepSettings,
    watch: Watch,
) -> Option<StepResult> {
    let gradients = watched_gradients(model, adapter, window, step, settings, watch)?;
    Some(update(adapter, optimizer, gradients, learning_rate, settings.max_grad_norm))
}

/// Updates the adapter with a window's mean loss and gradients, clipped to a norm of `max_grad_norm` (0: not at all),
/// unless one of them is not finite.
pub fn update(
    adapter: &mut Adapter,
    optimizer: &mut Optimizer,
    (loss, gradients): (f64, Vec<Tensor<2>>),
    learning_rate: f64,
    max_grad_norm: f64,
) -> StepResult {
    let squares = square_sums(&gradients);
    let (grad_norm, grad_norms) = (root_of_sum(&squares), norms(adapter, &squares));
    let skipped = match (loss.is_finite(), grad_norm.is_finite()) {
        (false, _) => Some("the loss"),
        (true, false) => Some("a gradient"),
        (true, true) => None,
    };
    if skipped.is_none() {
        let gradients = clip(gradients, grad_norm, max_grad_norm);
        let updated = optimizer.step(learning_rate, adapter.parameters(), gradients);
        adapter.set_parameters(updated);
    }
    StepResult { loss, grad_norm, grad_norms, skipped }
}

/// The mean loss of a window and its gradients, in the order of [`Adapter::parameters`].
pub fn gradients(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    step: u64,
    settings: &StepSettings,
) -> (f64, Vec<Tensor<2>>) {
    let watch = Watch { stop: &backprop::NEVER, on_progress: &mut |_| {} };
    watched_gradients(model, adapter, window, step, settings, watch).unwrap_or((f64::NAN, Vec::new()))
}

fn watched_gradients(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    step: u64,
    settings: &StepSettings,
    watch: Watch,
) -> Option<(f64, Vec<Tensor<2>>)> {
    let supervised: usize = window.iter().map(MicroBatch::supervised).sum();
    let scale = 1.0 / supervised.max(1) as f64;
    let parameters = adapter.parameters();
    let mut gradients = vec![None; parameters.len()];
    let (mut loss, mut seen) = (0.0, 0);
    for (micro, batch) in (0..).zip(window) {
        let dropout = Masks { rng: settings.rng, step, micro, p: settings.lora_dropout };
        let dropout = (settings.lora_dropout > 0.0).then_some(&dropout as &dyn Dropout);
        let settings = BackpropSettings { activation_checkpointing: settings.activation_checkpointing, dropout };
        let micro_batch = micro as usize + 1;
        let mut go_on = |part| {
            (watch.on_progress)(Passed::Part { micro_batch, part });
            !watch.stop.load(Ordering::Relaxed)
        };
        loss += backprop::accumulate_while(&mut go_on, model, adapter, batch, scale, settings, &mut gradients)?;
        seen += batch.supervised();
        (watch.on_progress)(Passed::Batches { done: micro_batch, loss: loss / seen.max(1) as f64 });
    }
    let gradients = gradients.into_iter().zip(parameters).map(|(g, p)| g.unwrap_or_else(|| p.zeros_like())).collect();
    Some((loss * scale, gradients))
}

/// L2 norm over all tensors, the sum over tensors in f64.
pub fn norm(tensors: &[Tensor<2>]) -> f64 {
    root_of_sum(&square_sums(tensors))
}

fn root_of_sum(squares: &[f64]) -> f64 {
    squares.iter().sum::<f64>().sqrt()
}

/// The L2 norm of the gradients of each part of the model, whose squares these are the sums of; none where one part
/// alone is trained.
fn norms(adapter: &Adapter, squares: &[f64]) -> BTreeMap<ModelPart, f64> {
    let mut of_parts: BTreeMap<ModelPart, Vec<f64>> = BTreeMap::new();
    for (part, square) in adapter.parts().into_iter().zip(squares) {
        of_parts.entry(part).or_default().push(*square);
    }
    let are_several = of_parts.len() > 1;
    of_parts.into_iter().filter(|_| are_several).map(|(part, squares)| (part, root_of_sum(&squares))).collect()
}

/// Scales all gradients by one factor so that their norm is at most `max`, as PyTorch's `clip_grad_norm_` does.
fn clip(gradients: Vec<Tensor<2>>, norm: f64, max: f64) -> Vec<Tensor<2>> {
    const TORCH_EPSILON: f64 = 1e-6;
    let factor = max / (norm + TORCH_EPSILON);
    if max <= 0.0 || factor >= 1.0 {
        return gradients;
    }
    gradients.into_iter().map(|g| g.mul_scalar(factor)).collect()
}

/// Dropout masks of one micro-batch, a pure function of the seed and of where they are used.
#[derive(Debug, Clone, Copy)]
pub struct Masks {
    /// What they are drawn from.
    pub rng: Rng,
    /// The step, from 0.
    pub step: u64,
    /// The micro-batch within it, from 0.
    pub micro: u64,
    /// Probability that a value is dropped.
    pub p: f64,
}

impl Dropout for Masks {
    fn drop_from(&self, site: usize, x: &Tensor<2>) -> Tensor<2> {
        let labels =
            [Label::Purpose("dropout"), Label::Step(self.step), Label::Micro(self.micro), Label::Layer(site as u64)];
        dropout(x, &self.rng.mask(&labels, self.p))
    }
}
