//! Loss and adapter gradients of one micro-batch, layer by layer.

use crate::adapter::{Adapter, Dropout};
use crate::model::Stage;
use crate::model::gemma3::{Gemma3, Layout};
use crate::nn::cross_entropy::{Loss, linear_cross_entropy};
use crate::nn::{Segments, SidePath};
use crate::text::IGNORE_INDEX;
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop that nobody has.
pub static NEVER: AtomicBool = AtomicBool::new(false);

/// The tokens of one micro-batch and which of them have a loss.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// `[n]`.
    pub input_ids: Vec<u32>,
    /// Which rows form a sequence.
    pub segments: Segments,
    /// Rows whose next token is supervised.
    pub rows: Vec<u32>,
    /// The next token of each of those rows.
    pub targets: Vec<u32>,
}

impl MicroBatch {
    /// Makes a micro-batch of sequences whose labels are aligned with their ids as in Hugging Face: the loss at row `i`
    /// is that of predicting `labels[i + 1]`, within a sequence.
    pub fn new(input_ids: Vec<u32>, labels: &[i32], segments: Segments) -> Self {
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for range in segments.ranges() {
            let next = range.start + 1..range.end;
            for (row, &label) in range.clone().zip(&labels[next]) {
                if label != IGNORE_INDEX {
                    rows.push(row as u32);
                    targets.push(label.cast_unsigned());
                }
            }
        }
        MicroBatch { input_ids, segments, rows, targets }
    }

    /// Its first `tokens` tokens.
    pub fn truncated(mut self, tokens: usize) -> Self {
        self.input_ids.truncate(tokens);
        let ranges = self.segments.ranges();
        let lengths = ranges.iter().map(|range| range.end.min(tokens).saturating_sub(range.start));
        self.segments = Segments::from_lengths(lengths);
        self.rows.retain(|&row| (row as usize) < tokens);
        self.targets.truncate(self.rows.len());
        self
    }

    /// Tokens with a loss.
    pub fn supervised(&self) -> usize {
        self.targets.len()
    }
}

/// How a micro-batch is run.
#[derive(Clone, Copy)]
pub struct BackpropSettings<'a> {
    /// Keep only each layer's input and run the layer again on the way back, instead of keeping what is inside it.
    pub activation_checkpointing: bool,
    /// The adapter's dropout.
    pub dropout: Option<&'a dyn Dropout>,
}

/// The summed loss of a micro-batch under `side`, in nats, without gradients.
pub fn loss(model: &Gemma3, side: &dyn SidePath, batch: &MicroBatch) -> f64 {
    loss_unless(&NEVER, model, side, batch).unwrap_or(f64::NAN)
}

/// [`loss`], left between two layers once `stop` is set: `None` then.
pub fn loss_unless(stop: &AtomicBool, model: &Gemma3, side: &dyn SidePath, batch: &MicroBatch) -> Option<f64> {
    let layout = model.layout(&batch.segments);
    let mut hidden = model.embed(&batch.input_ids);
    for layer in 0..model.layers.len() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        hidden = model.layer(layer, hidden, &layout, side);
    }
    let hidden = model.norm.forward(hidden.select(0, indices(&batch.rows, model)));
    (!stop.load(Ordering::Relaxed)).then(|| linear_cross_entropy(&hidden, &model.lm_head, &batch.targets, None).sum)
}

/// The summed loss of a micro-batch, in nats; adds `scale` times its gradient to `gradients`, which are in the order of
/// [`Adapter::parameters`].
///
/// Every layer is its own small gradient graph. The graphs are walked from the last to the first, each with the
/// gradient of the layer above; `activation_checkpointing` only decides whether a graph is kept or built again.
pub fn accumulate(
    model: &Gemma3,
    adapter: &Adapter,
    batch: &MicroBatch,
    scale: f64,
    settings: BackpropSettings,
    gradients: &mut [Option<Tensor<2>>],
) -> f64 {
    accumulate_unless(&NEVER, model, adapter, batch, scale, settings, gradients).unwrap_or(f64::NAN)
}

/// [`accumulate`], left between two layers once `stop` is set: `None` then, and `gradients` are those of no batch.
pub fn accumulate_unless(
    stop: &AtomicBool,
    model: &Gemma3,
    adapter: &Adapter,
    batch: &MicroBatch,
    scale: f64,
    settings: BackpropSettings,
    gradients: &mut [Option<Tensor<2>>],
) -> Option<f64> {
    let layout = model.layout(&batch.segments);
    // The first layer's input needs no gradient.
    let run = |layer: usize, input: &Tensor<2>| {
        LayerRun::new(model, adapter, layer, leaf(input, layer > 0), &layout, settings.dropout)
    };

    let mut x = model.embed(&batch.input_ids);
    let mut inputs = Vec::with_capacity(model.layers.len());
    let mut runs = Vec::new();
    for layer in 0..model.layers.len() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        inputs.push(x.clone());
        if settings.activation_checkpointing {
            x = LayerRun::output_only(model, adapter, layer, x, &layout, settings.dropout);
        } else {
            let run = run(layer, &x);
            x = run.output.clone().inner();
            runs.push(run);
        }
    }

    let (loss, mut upstream) = head(model, x, batch, scale);
    for layer in (0..model.layers.len()).rev() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let run = match runs.pop() {
            Some(run) => run,
            None => run(layer, &inputs[layer]),
        };
        inputs.truncate(layer);
        match run.backward(upstream, gradients) {
            Some(gradient) => upstream = gradient,
            None => break,
        }
    }
    Some(loss)
}

/// Runs one layer alone forwards and backwards, as [`accumulate`] does with a layer that has others below it. Returns
/// the gradient of its input, given that of its output.
///
/// # Shapes
/// - `input`, `upstream`, output: `[n, d]`
pub fn layer(
    model: &Gemma3,
    adapter: &Adapter,
    layer: usize,
    input: &Tensor<2>,
    upstream: Tensor<2>,
    layout: &Layout,
    settings: BackpropSettings,
) -> Option<Tensor<2>> {
    if settings.activation_checkpointing {
        drop(LayerRun::output_only(model, adapter, layer, input.clone(), layout, settings.dropout));
    }
    layer_gradients(model, adapter, layer, leaf(input, true), upstream, layout, settings.dropout).1
}

/// A layer's input in a new gradient graph: tracked, or (as that of the first layer) not, so that its adapters alone
/// are.
pub fn leaf(input: &Tensor<2>, tracked: bool) -> Tensor<2> {
    let leaf = input.clone().autodiff();
    if tracked { leaf.require_grad() } else { leaf }
}

/// The gradients that one layer gives, run alone on a [`leaf`], given that of its output: of the adapter's parameters,
/// in the order of [`Adapter::parameters`] and `None` of other layers', and of the leaf where it is tracked.
///
/// # Shapes
/// - `input`, `upstream`, output: `[n, d]`
pub fn layer_gradients(
    model: &Gemma3,
    adapter: &Adapter,
    layer: usize,
    input: Tensor<2>,
    upstream: Tensor<2>,
    layout: &Layout,
    dropout: Option<&dyn Dropout>,
) -> (Vec<Option<Tensor<2>>>, Option<Tensor<2>>) {
    let mut gradients = vec![None; adapter.parameters().len()];
    let input = LayerRun::new(model, adapter, layer, input, layout, dropout).backward(upstream, &mut gradients);
    (gradients, input)
}

/// The loss, and its gradient with respect to the last layer's output `x` `[n, d]`.
fn head(model: &Gemma3, x: Tensor<2>, batch: &MicroBatch, scale: f64) -> (f64, Tensor<2>) {
    let rows = indices(&batch.rows, model);
    let leaf = x.clone().select(0, rows.clone()).autodiff().require_grad(); // [m, d]
    let normed = model.norm.forward(leaf.clone());
    let Loss { sum, gradient } =
        linear_cross_entropy(&normed.clone().inner(), &model.lm_head, &batch.targets, Some(scale));
    let upstream = x.zeros_like();
    let Some(gradient) = gradient else { return (sum, upstream) };
    let mut tape = (normed * gradient).sum().backward();
    match leaf.grad_remove(&mut tape) {
        Some(gradient) => (sum, upstream.select_assign(0, rows, gradient, burn::tensor::IndexingUpdateOp::Add)),
        None => (sum, upstream),
    }
}

fn indices(rows: &[u32], model: &Gemma3) -> Tensor<1, Int> {
    let values: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
    Tensor::from_data(TensorData::new(values, [rows.len()]), &model.device)
}

/// One layer's gradient graph.
struct LayerRun<'a> {
    side: crate::adapter::TrainedStage<'a>,
    /// The layer's input as a leaf.
    input: Tensor<2>,
    output: Tensor<2>,
}

impl<'a> LayerRun<'a> {
    fn new(
        model: &Gemma3,
        adapter: &'a Adapter,
        layer: usize,
        input: Tensor<2>,
        layout: &Layout,
        dropout: Option<&'a dyn Dropout>,
    ) -> Self {
        let side = adapter.track(Stage::Layer(layer), dropout);
        let output = model.layer(layer, input.clone(), layout, &side);
        LayerRun { side, input, output }
    }

    /// The layer's output without a graph.
    fn output_only(
        model: &Gemma3,
        adapter: &Adapter,
        layer: usize,
        input: Tensor<2>,
        layout: &Layout,
        dropout: Option<&dyn Dropout>,
    ) -> Tensor<2> {
        match dropout {
            None => model.layer(layer, input, layout, adapter),
            Some(_) => model.layer(layer, input, layout, &adapter.dropping(Stage::Layer(layer), dropout)),
        }
    }

    /// Adds the layer's parameter gradients, given the gradient of its output; returns the gradient of its input.
    fn backward(self, upstream: Tensor<2>, gradients: &mut [Option<Tensor<2>>]) -> Option<Tensor<2>> {
        if !self.output.is_tracked() {
            return None;
        }
        // d(sum(y * g)) / dx with a constant g is the vector-Jacobian product.
        let mut tape = (self.output * upstream).sum().backward();
        for (index, gradient) in self.side.take_gradients(&mut tape) {
            let slot = &mut gradients[index];
            *slot = Some(match slot.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
        if self.input.is_require_grad() { self.input.grad_remove(&mut tape) } else { None }
    }
}
