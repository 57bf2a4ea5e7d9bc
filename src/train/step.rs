//! One optimiser step: accumulate, check, clip, update.

use crate::adapter::{Adapter, Dropout};
use crate::model::LanguageModel;
use crate::ops::{dropout, square_sums};
use crate::random::{Label, Rng};
use crate::train::backprop::{self, BackpropSettings};
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::{Counts, Goal, Metrics, Objective, Score};
use crate::train::optimizer::Optimizer;
use crate::train::recompute::Recompute;
use crate::weights::names::ModelPart;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every step of a run has in common.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// What is learnt.
    pub objective: Arc<dyn Objective>,
    /// Gradients are scaled down to this L2 norm over all of them; 0 leaves them alone.
    pub max_grad_norm: f64,
    /// The layers that are run again on the way back, instead of keeping what is inside them.
    pub recompute: Recompute,
    /// Probability that an input of an adapter is dropped.
    pub lora_dropout: f64,
    /// Decides dropout.
    pub rng: Rng,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Mean loss of the window before the update.
    pub loss: f64,
    /// L2 norm over all gradients before clipping.
    pub grad_norm: f64,
    /// The same of each part of the model, where more than one is trained.
    pub grad_norms: BTreeMap<ModelPart, f64>,
    /// Which number was not finite, so that the update was left out.
    pub skipped: Option<&'static str>,
}

/// What is computed of a window.
#[derive(Debug, Clone)]
pub struct Computed {
    /// Its mean loss.
    pub loss: f64,
    /// What else its objective says of it, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The gradients of the loss, in the order of [`Adapter::parameters`].
    pub gradients: Vec<Tensor<2>>,
}

/// Who waits for a step, or for something else that takes long.
pub struct Watch<'a, P = Passed> {
    /// Once it is set, what is going on is left: a step between two layers.
    pub stop: &'a AtomicBool,
    /// Is told of all that is done.
    pub on_progress: &'a mut dyn FnMut(P),
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

/// Where the gradients of a window are computed and summed: on one device ([`OneDevice`]), or on several of a machine
/// ([`crate::train::replicas::Replicas`]). Several machines would be one more: the loop around it knows no other way.
pub trait WindowGradients {
    /// The mean loss of a window and its gradients, where the adapter is; `None` if `watch` stopped it.
    ///
    /// The loss is normalised over the whole window, by its supervised tokens or by what else the objective takes means
    /// over, so that 8 micro-batches of 1 equal 1 of 8. The gradients of each micro-batch are added to the sum of those
    /// before it, whoever computes them and whenever, so that any number of devices of a kind gives the same bits.
    /// `step` counts from 0.
    fn gradients(
        &self,
        adapter: &Adapter,
        window: &[MicroBatch],
        step: u64,
        settings: &StepSettings,
        watch: Watch,
    ) -> Option<Computed>;
}

/// A model that computes every micro-batch itself, on the thread that asks.
#[derive(Debug, Clone, Copy)]
pub struct OneDevice<'a>(pub &'a dyn LanguageModel);

impl WindowGradients for OneDevice<'_> {
    fn gradients(
        &self,
        adapter: &Adapter,
        window: &[MicroBatch],
        step: u64,
        settings: &StepSettings,
        watch: Watch,
    ) -> Option<Computed> {
        let mut sum = Sum::new(adapter, window, settings);
        let pass = Pass { step, goal: sum.goal(), settings };
        for (micro, batch) in window.iter().enumerate() {
            let mut go_on = |part| {
                (watch.on_progress)(Passed::Part { micro_batch: micro + 1, part });
                !watch.stop.load(Ordering::Relaxed)
            };
            // A parameter gets one gradient of a micro-batch, so that this is the sum that `Sum::add` makes, without
            // holding all of them beside it.
            let score = pass.accumulate(&mut go_on, self.0, adapter, (micro, batch), &mut sum.gradients)?;
            (watch.on_progress)(sum.count(&score));
        }
        Some(sum.finish(adapter))
    }
}

/// What the passes of all micro-batches of a window have in common.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// The step, from 0.
    pub step: u64,
    /// What is learnt of the whole window.
    pub goal: Goal<'a>,
    /// What every step has in common.
    pub settings: &'a StepSettings,
}

impl Pass<'_> {
    /// What the objective says of a micro-batch, the `micro`th of its window from 0; adds its gradients to `gradients`. Left
    /// as [`backprop::accumulate_while`] is.
    pub fn accumulate(
        &self,
        go_on: &mut dyn FnMut(f64) -> bool,
        model: &dyn LanguageModel,
        adapter: &Adapter,
        (micro, batch): (usize, &MicroBatch),
        gradients: &mut [Option<Tensor<2>>],
    ) -> Option<Score> {
        let &StepSettings { lora_dropout: p, rng, recompute, .. } = self.settings;
        let masks = Masks { rng, step: self.step, micro: micro as u64, p };
        let dropout = (p > 0.0).then_some(&masks as &dyn Dropout);
        let settings = BackpropSettings { recompute, dropout };
        backprop::accumulate_while(go_on, model, adapter, batch, self.goal, settings, gradients)
    }
}

/// Losses and gradients of a window's micro-batches, added up in their order.
#[derive(Debug)]
pub struct Sum<'a> {
    window: &'a [MicroBatch],
    goal: Goal<'a>,
    /// Micro-batches that are in it.
    done: usize,
    loss: f64,
    token_loss: f64,
    metrics: Metrics,
    counts: Counts,
    /// Where the adapter is; `None` of one that has nothing to train.
    device: Option<Device>,
    gradients: Vec<Option<Tensor<2>>>,
}

impl<'a> Sum<'a> {
    /// The sum before the first micro-batch.
    pub fn new(adapter: &Adapter, window: &'a [MicroBatch], settings: &'a StepSettings) -> Self {
        let parameters = adapter.parameters();
        let device = parameters.first().map(Tensor::device);
        Sum {
            window,
            goal: Goal::of(settings.objective.as_ref(), window),
            done: 0,
            loss: 0.0,
            token_loss: 0.0,
            metrics: Metrics::default(),
            counts: Counts::default(),
            device,
            gradients: vec![None; parameters.len()],
        }
    }

    /// What each micro-batch is to be computed for, so that the sum is the mean of the window.
    pub fn goal(&self) -> Goal<'a> {
        self.goal
    }

    /// Micro-batches that are in it.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether all of them are.
    pub fn is_whole(&self) -> bool {
        self.done >= self.window.len()
    }

    /// Adds the next micro-batch: its score, and its gradients from whichever device they are on.
    pub fn add(&mut self, score: &Score, gradients: Vec<Option<Tensor<2>>>) -> Passed {
        for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
            let gradient = gradient.zip(self.device.as_ref()).map(|(gradient, device)| gradient.to_device(device));
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
        self.count(score)
    }

    /// Counts the next micro-batch, whose gradients are in the sum.
    fn count(&mut self, score: &Score) -> Passed {
        self.loss += score.loss;
        self.token_loss += score.token_loss;
        self.metrics.add(&score.metrics);
        let counts = self.window.get(self.done).map(|batch| self.goal.objective.counts(batch));
        self.counts = self.counts + counts.unwrap_or_default();
        self.done += 1;
        Passed::Batches { done: self.done, loss: self.counts.mean(self.loss, self.token_loss) }
    }

    /// The means, and the gradients, zero where there are none.
    pub fn finish(self, adapter: &Adapter) -> Computed {
        let all = self.gradients.into_iter().zip(adapter.parameters());
        let gradients = all.map(|(gradient, parameter)| gradient.unwrap_or_else(|| parameter.zeros_like())).collect();
        let loss = self.loss * self.goal.scales.units + self.token_loss * self.goal.scales.tokens;
        Computed { loss, metrics: self.metrics.means(), gradients }
    }
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
        let scale = clip_factor(grad_norm, max_grad_norm);
        let updated = optimizer.step_scaled(learning_rate, adapter.parameters(), gradients, scale);
        adapter.set_parameters(updated);
    }
    StepResult { loss, grad_norm, grad_norms, skipped }
}

/// The mean loss of a window and its gradients on one device, in the order of [`Adapter::parameters`].
pub fn gradients(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    window: &[MicroBatch],
    step: u64,
    settings: &StepSettings,
) -> (f64, Vec<Tensor<2>>) {
    let watch = Watch { stop: &backprop::NEVER, on_progress: &mut |_| {} };
    let computed = OneDevice(model).gradients(adapter, window, step, settings, watch);
    computed.map_or((f64::NAN, Vec::new()), |computed| (computed.loss, computed.gradients))
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

/// What all gradients are multiplied by so that their norm is at most `max`, as PyTorch's `clip_grad_norm_` does it.
fn clip_factor(norm: f64, max: f64) -> f64 {
    const TORCH_EPSILON: f64 = 1e-6;
    let factor = max / (norm + TORCH_EPSILON);
    if max <= 0.0 { 1.0 } else { factor.min(1.0) }
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
