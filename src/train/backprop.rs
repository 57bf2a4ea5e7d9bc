//! Loss and adapter gradients of one micro-batch, stage by stage.

use crate::adapter::{Adapter, Dropout, TrainedStage};
use crate::model::{Carry, LanguageModel, Layout, SCORE, Stage};
use crate::nn::cross_entropy::token_nll;
use crate::nn::{SidePath, scores};
use crate::ops::{backward_from, upload};
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::{Goal, Score, Scored, Seen};
use crate::train::recompute::Recompute;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop that nobody has.
pub static NEVER: AtomicBool = AtomicBool::new(false);

/// How a micro-batch is run.
#[derive(Clone, Copy)]
pub struct BackpropSettings<'a> {
    /// Of which layers only the input is kept.
    pub recompute: Recompute,
    /// The adapter's dropout.
    pub dropout: Option<&'a dyn Dropout>,
}

/// The summed loss of a micro-batch under `side`, in nats, without gradients.
pub fn loss(model: &dyn LanguageModel, side: &dyn SidePath, batch: &MicroBatch) -> f64 {
    score_unless(&NEVER, model, side, batch, Goal::sft(1.0)).map_or(f64::NAN, |score| score.loss)
}

/// What an objective says of a micro-batch under `side`, without gradients; left between two layers once `stop` is set:
/// `None` then.
pub fn score_unless(
    stop: &AtomicBool,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batch: &MicroBatch,
    goal: Goal,
) -> Option<Score> {
    let mut go_on = || !stop.load(Ordering::Relaxed);
    let mismatched = mismatched(&mut go_on, model, side, batch, goal)?;
    let hidden = looked_at(hidden(&mut go_on, model, side, batch)?, side, goal);
    let seen = Seen { hidden: &hidden, head: model.head(), mismatched: &mismatched };
    go_on().then(|| goal.objective.score(seen, batch, goal.scales, false).score)
}

/// The loss of each of a micro-batch's supervised tokens under `side`, in nats; their sum is [`loss`].
pub fn losses(model: &dyn LanguageModel, side: &dyn SidePath, batch: &MicroBatch) -> Vec<f64> {
    let hidden = hidden(&mut || true, model, side, batch);
    hidden.map_or_else(Vec::new, |hidden| token_nll(&hidden, model.head(), &batch.targets))
}

/// The log-probability of each of a micro-batch's targets under `side`, of logits that are divided by `temperature`; `None` once
/// `stop` is set.
pub fn log_probabilities(
    stop: &AtomicBool,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batch: &MicroBatch,
    temperature: f64,
) -> Option<Vec<f64>> {
    let hidden = hidden(&mut || !stop.load(Ordering::Relaxed), model, side, batch)?;
    let losses = match temperature {
        1.0 => token_nll(&hidden, model.head(), &batch.targets),
        _ => token_nll(&hidden.div_scalar(temperature), model.head().cooled(temperature), &batch.targets),
    };
    Some(losses.into_iter().map(|loss| -loss).collect())
}

/// The normalised hidden rows of a micro-batch's targets under `side`, without a graph; `None` once `go_on` says no.
fn hidden(
    go_on: &mut dyn FnMut() -> bool,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batch: &MicroBatch,
) -> Option<Tensor<2>> {
    let layout = model.layout(&batch.inputs);
    let mut carry = model.embed(&batch.inputs, side);
    for layer in 0..model.num_layers() {
        if !go_on() {
            return None;
        }
        carry = model.layer(layer, carry, &layout, side);
    }
    Some(model.norm().forward(model.last_hidden(carry.select(&indices(&batch.rows, model)), side)))
}

/// What an objective sees of normalised rows: they themselves, or what the head on the `side` makes of them where it asks for scores.
///
/// # Shapes
/// - `rows`: `[m, d]`
/// - output: the same, or `[m, 1]`
fn looked_at(rows: Tensor<2>, side: &dyn SidePath, goal: Goal) -> Tensor<2> {
    if !goal.objective.needs().scores {
        return rows;
    }
    match side.whole(SCORE) {
        Some(head) => scores(rows, head),
        // Without a head there are no numbers, and a run stops at that.
        None => rows.narrow(1, 0, 1).mul_scalar(f64::NAN),
    }
}

/// The log-probability under `side` of each of the sequences that a micro-batch has beside its own, where the objective needs them;
/// `None` once `go_on` says no.
fn mismatched(
    go_on: &mut dyn FnMut() -> bool,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batch: &MicroBatch,
    goal: Goal,
) -> Option<Vec<f64>> {
    match batch.mismatched.as_deref().filter(|_| goal.objective.needs().mismatched) {
        None => Some(Vec::new()),
        Some(others) => {
            let hidden = hidden(go_on, model, side, others)?;
            Some(others.log_probabilities(&token_nll(&hidden, model.head(), &others.targets)))
        }
    }
}

/// The summed loss of a micro-batch's supervised tokens, in nats; adds `scale` times its gradient to `gradients`, which are
/// in the order of [`Adapter::parameters`].
pub fn accumulate(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    batch: &MicroBatch,
    scale: f64,
    settings: BackpropSettings,
    gradients: &mut [Option<Tensor<2>>],
) -> f64 {
    let score = accumulate_while(&mut |_| true, model, adapter, batch, Goal::sft(scale), settings, gradients);
    score.map_or(f64::NAN, |score| score.loss)
}

/// What an objective says of a micro-batch; adds the gradient of its share of the window's loss to `gradients`, which are in
/// the order of [`Adapter::parameters`]. Left between two layers once `go_on`, which is told the part that is done, from 0 to
/// 1, says no: `None` then, and `gradients` are those of no batch.
///
/// Every stage is its own small gradient graph. The graphs are walked from the last to the first, each with the
/// gradient of what it handed on; `recompute` only decides whether a layer's graph is kept or built again.
/// What is shared gets the gradients of all layers that read it, and gives them to the stage that made it.
pub fn accumulate_while(
    go_on: &mut dyn FnMut(f64) -> bool,
    model: &dyn LanguageModel,
    adapter: &Adapter,
    batch: &MicroBatch,
    goal: Goal,
    settings: BackpropSettings,
    gradients: &mut [Option<Tensor<2>>],
) -> Option<Score> {
    let BackpropSettings { recompute, dropout } = settings;
    let mismatched = mismatched(&mut || go_on(0.0), model, adapter, batch, goal)?;
    let layout = model.layout(&batch.inputs);
    let embedded = Embedded::new(model, adapter, batch, dropout);
    let run = |layer: usize, input: &Carry| {
        StageRun::layer(model, adapter, layer, embedded.leaves(layer, input), &layout, dropout)
    };

    // A layer takes about twice as long on the way back.
    let (layers, mut passed) = (model.num_layers(), 0);
    let part = |passed: usize| passed as f64 / (3 * layers.max(1)) as f64;
    let mut carry = embedded.carry.clone();
    let mut inputs = Vec::with_capacity(model.num_layers());
    let mut runs = Vec::new();
    for layer in 0..layers {
        if !go_on(part(passed)) {
            return None;
        }
        passed += 1;
        inputs.push(carry.clone());
        if recompute.has(layer) {
            carry = StageRun::output_only(model, adapter, layer, carry, &layout, dropout);
        } else {
            let run = run(layer, &carry);
            carry = run.handed_on(carry.shared);
            runs.push(run);
        }
    }

    let (score, mut upstream) = head(model, adapter, &carry, (batch, &mismatched), goal, dropout, gradients);
    drop(carry);
    for layer in (0..layers).rev() {
        if !go_on(part(passed)) {
            return None;
        }
        passed += 2;
        let run = match runs.pop() {
            Some(run) => run,
            None => run(layer, &inputs[layer]),
        };
        inputs.truncate(layer);
        upstream = run.backward(upstream, gradients);
        if upstream.is_nothing() {
            return Some(score);
        }
    }
    if let Some(run) = embedded.run {
        run.backward(upstream, gradients);
    }
    Some(score)
}

/// Runs what is outside the layers forwards and backwards, as [`accumulate`] does with a model that has none. Returns the
/// summed loss.
pub fn without_layers(model: &dyn LanguageModel, batch: &MicroBatch, scale: f64) -> f64 {
    let adapter = Adapter::new(Vec::new());
    let carry = model.embed(&batch.inputs, &adapter);
    head(model, &adapter, &carry, (batch, &[]), Goal::sft(scale), None, &mut []).0.loss
}

/// Runs one layer alone forwards and backwards, as [`accumulate`] does with a layer that has others below it; `upstream`
/// is the gradient of each stream that it hands on.
///
/// # Shapes
/// - `upstream`: `[n, d]`
pub fn layer(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    layer: usize,
    input: &Carry,
    upstream: &Tensor<2>,
    layout: &Layout,
    settings: BackpropSettings,
) {
    if settings.recompute.has(0) {
        drop(StageRun::output_only(model, adapter, layer, input.clone(), layout, settings.dropout));
    }
    drop(layer_gradients(model, adapter, layer, leaves(input, true), upstream, layout, settings.dropout));
}

/// A layer's input in a new gradient graph: tracked, or (as that of the first layer) not, so that its adapters alone
/// are.
pub fn leaves(input: &Carry, tracked: bool) -> Carry {
    let shared = input.shared.iter().map(|shared| leaf(shared.clone(), tracked)).collect();
    Carry { shared, ..input.clone().map_streams(|stream| leaf(stream, tracked)) }
}

fn leaf(tensor: Tensor<2>, tracked: bool) -> Tensor<2> {
    let leaf = tensor.autodiff();
    if tracked { leaf.require_grad() } else { leaf }
}

/// The gradients that one layer gives, run alone on [`leaves`], given that of each stream which it hands on: of the
/// adapter's parameters, in the order of [`Adapter::parameters`] and `None` of other layers', and of the leaves' streams
/// where they are tracked.
///
/// # Shapes
/// - `upstream`: `[n, d]`
pub fn layer_gradients(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    layer: usize,
    input: Carry,
    upstream: &Tensor<2>,
    layout: &Layout,
    dropout: Option<&dyn Dropout>,
) -> (Vec<Option<Tensor<2>>>, Vec<Option<Tensor<2>>>) {
    let mut gradients = vec![None; adapter.parameters().len()];
    let streams = input.streams().map(|_| Some(upstream.clone())).collect();
    let run = StageRun::layer(model, adapter, layer, input, layout, dropout);
    let upstream = Upstream { streams, shared: vec![None; run.output.shared.len()] };
    let Upstream { streams, .. } = run.backward(upstream, &mut gradients);
    (gradients, streams)
}

/// What the objective says of a micro-batch and of the sequences beside it, and the gradient of its loss with respect to the last
/// layer's streams.
fn head(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    carry: &Carry,
    (batch, mismatched): (&MicroBatch, &[f64]),
    goal: Goal,
    dropout: Option<&dyn Dropout>,
    gradients: &mut [Option<Tensor<2>>],
) -> (Score, Upstream) {
    let at = indices(&batch.rows, model);
    let input = leaves(&carry.clone().select(&at), true); // [m, d] each
    let side = adapter.track(Stage::LastHidden, dropout);
    let rows = looked_at(model.norm().forward(model.last_hidden(input.clone(), &side)), &side, goal);
    let seen = Seen { hidden: &rows.clone().inner(), head: model.head(), mismatched };
    let Scored { score, gradient } = goal.objective.score(seen, batch, goal.scales, true);
    let mut upstream: Vec<Tensor<2>> = carry.streams().map(Tensor::zeros_like).collect();
    if let Some(gradient) = gradient {
        let mut tape = backward_from(rows, gradient).backward();
        add(side.take_gradients(&mut tape), gradients);
        for (upstream, leaf) in upstream.iter_mut().zip(input.streams()) {
            if let Some(gradient) = leaf.grad_remove(&mut tape) {
                *upstream = upstream.clone().select_assign(0, at.clone(), gradient, IndexingUpdateOp::Add);
            }
        }
    }
    let streams = upstream.into_iter().map(Some).collect();
    (score, Upstream { streams, shared: vec![None; carry.shared.len()] })
}

fn indices(rows: &[u32], model: &dyn LanguageModel) -> Tensor<1, Int> {
    let values: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
    upload(TensorData::new(values, [rows.len()]), model.device())
}

/// Adds gradients, each with its index.
fn add(new: Vec<(usize, Tensor<2>)>, gradients: &mut [Option<Tensor<2>>]) {
    for (index, gradient) in new {
        let slot = &mut gradients[index];
        *slot = Some(match slot.take() {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }
}

/// The gradient of what a stage handed on; `None` where there is none.
struct Upstream {
    streams: Vec<Option<Tensor<2>>>,
    shared: Vec<Option<Tensor<2>>>,
}

impl Upstream {
    fn is_nothing(&self) -> bool {
        self.streams.iter().chain(&self.shared).all(Option::is_none)
    }
}

/// What the first layer begins with, and its gradient graph where something before the layers is trained.
struct Embedded<'a> {
    carry: Carry,
    run: Option<StageRun<'a>>,
}

impl<'a> Embedded<'a> {
    fn new(
        model: &dyn LanguageModel,
        adapter: &'a Adapter,
        batch: &MicroBatch,
        dropout: Option<&'a dyn Dropout>,
    ) -> Self {
        if !adapter.has(Stage::Embed) {
            return Embedded { carry: model.embed(&batch.inputs, adapter), run: None };
        }
        let side = adapter.track(Stage::Embed, dropout);
        let output = model.embed(&batch.inputs, &side);
        let run = StageRun { side, streams: Vec::new(), shared: Vec::new(), output };
        Embedded { carry: run.handed_on(Vec::new()), run: Some(run) }
    }

    /// The input of a layer as leaves. What comes from before the layers is tracked only where something there is
    /// trained.
    fn leaves(&self, layer: usize, input: &Carry) -> Carry {
        let from_embedding = self.carry.shared.len();
        let shared = input.shared.iter().enumerate();
        let shared = shared.map(|(at, shared)| leaf(shared.clone(), self.run.is_some() || at >= from_embedding));
        let streams = leaves(&Carry { shared: Vec::new(), ..input.clone() }, self.run.is_some() || layer > 0);
        Carry { shared: shared.collect(), ..streams }
    }
}

/// The gradient graph of one stage.
struct StageRun<'a> {
    side: TrainedStage<'a>,
    /// The streams it begins with, as leaves.
    streams: Vec<Tensor<2>>,
    /// What earlier stages share, as leaves.
    shared: Vec<Tensor<2>>,
    output: Carry,
}

impl<'a> StageRun<'a> {
    fn layer(
        model: &dyn LanguageModel,
        adapter: &'a Adapter,
        layer: usize,
        input: Carry,
        layout: &Layout,
        dropout: Option<&'a dyn Dropout>,
    ) -> Self {
        let side = adapter.track(Stage::Layer(layer), dropout);
        let (streams, shared) = (input.streams().cloned().collect(), input.shared.clone());
        let output = model.layer(layer, input, layout, &side);
        StageRun { side, streams, shared, output }
    }

    /// What a layer hands on, without a graph.
    fn output_only(
        model: &dyn LanguageModel,
        adapter: &Adapter,
        layer: usize,
        input: Carry,
        layout: &Layout,
        dropout: Option<&dyn Dropout>,
    ) -> Carry {
        match dropout {
            None => model.layer(layer, input, layout, adapter),
            Some(_) => model.layer(layer, input, layout, &adapter.dropping(Stage::Layer(layer), dropout)),
        }
    }

    /// What the stage handed on, without a graph: of what it got as `shared`, that itself.
    fn handed_on(&self, mut shared: Vec<Tensor<2>>) -> Carry {
        let made = self.output.shared.iter().skip(self.shared.len());
        shared.extend(made.map(|made| made.clone().inner()));
        let streams = Carry { shared: Vec::new(), ..self.output.clone() };
        Carry { shared, ..streams.map_streams(Tensor::inner) }
    }

    /// Adds the gradients of the stage's parameters, given those of what it handed on; returns those of what it got.
    fn backward(self, upstream: Upstream, gradients: &mut [Option<Tensor<2>>]) -> Upstream {
        let StageRun { side, streams, shared, output } = self;
        let Upstream { streams: of_streams, shared: mut of_shared } = upstream;
        let of_made = of_shared.split_off(shared.len());
        let Carry { hidden, beside, shared: handed_on } = output;
        let outputs = std::iter::once(hidden).chain(beside).chain(handed_on.into_iter().skip(shared.len()));
        let tracked = outputs.zip(of_streams.into_iter().chain(of_made)).filter(|(output, _)| output.is_tracked());
        let starts = tracked.filter_map(|(output, gradient)| Some(backward_from(output, gradient?)));
        let Some(start) = starts.reduce(|all, start| all + start) else {
            return Upstream { streams: vec![None; streams.len()], shared: of_shared };
        };
        let mut tape = start.backward();
        add(side.take_gradients(&mut tape), gradients);
        let mut taken = |leaf: Tensor<2>| if leaf.is_require_grad() { leaf.grad_remove(&mut tape) } else { None };
        let streams = streams.into_iter().map(&mut taken).collect();
        for (sum, leaf) in of_shared.iter_mut().zip(shared) {
            *sum = match (sum.take(), taken(leaf)) {
                (Some(later), Some(own)) => Some(later + own),
                (later, own) => later.or(own),
            };
        }
        Upstream { streams, shared: of_shared }
    }
}

#[cfg(test)]
mod tests;
