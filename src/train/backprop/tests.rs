//! A made-up model with everything that a stage may hand on: two streams, what the embedding shares, keys and values of
//! one layer that later ones read, and trained layers before and after the decoder's.

use super::*;
use crate::adapter::LoraModule;
use crate::model::{DecoderConfig, Inputs, ModelConfig, Rotations, Site};
use crate::nn::cross_entropy::{Loss, linear_cross_entropy};
use crate::nn::{AttentionPlan, KvCache, Linear, RmsNorm, Rope, Segments};
use crate::ops::{Input, Weight};
use crate::random::{Label, Rng};
use crate::train::step::Masks;
use crate::weights::names::{Projection, TensorId};
use burn::tensor::{Device, FloatDType};
use std::ops::Range;

const WORDS: usize = 23;
const WIDTH: usize = 6;
const LAYERS: usize = 4;
const R: usize = 2;

/// The sites: one before the layers, keys and values of the first layer, a query of each, what the second layer makes, one
/// after the layers.
const EMBED: usize = 0;
const KEYS: usize = 1;
const VALUES: usize = 2;
const MADE: usize = 3;
const QUERIES: usize = 4;
const LAST: usize = QUERIES + LAYERS;

#[derive(Debug)]
struct Toy {
    config: ModelConfig,
    linears: Vec<Linear>,
    table: Weight,
    norm: RmsNorm,
    device: Device,
    /// Whether layers read what is shared without a way back.
    is_cut: bool,
}

fn random(seed: u64, rows: usize, columns: usize, size: f32) -> Tensor<2> {
    let values = Rng::new(seed).stream(&[Label::Purpose("toy")]).normal_f32(rows * columns);
    let values: Vec<f32> = values.into_iter().map(|x| x * size).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

impl Toy {
    fn new() -> Self {
        let linear = |site| Linear { site, weight: Weight::new(random(10 + site as u64, WIDTH, WIDTH, 0.5)) };
        Toy {
            config: ModelConfig::small(),
            linears: (0..=LAST).map(linear).collect(),
            table: Weight::new(random(1, WORDS, WIDTH, 1.0)),
            norm: RmsNorm::new(random(2, 1, WIDTH, 0.2).add_scalar(1.0).reshape([WIDTH]), 1e-6),
            device: Device::flex(),
            is_cut: false,
        }
    }

    fn project(&self, site: usize, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        self.linears[site].forward(x, side)
    }
}

impl LanguageModel for Toy {
    fn config(&self) -> &dyn DecoderConfig {
        &*self.config
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn layout(&self, inputs: &Inputs) -> Layout {
        let rope = Rope { theta: 1e4, factor: 1.0 }.table(&inputs.segments.positions(), 4, &self.device);
        Layout {
            rotations: Rotations { local: rope.clone(), global: rope },
            plan: AttentionPlan::new(&inputs.segments, &[], 8),
        }
    }

    fn embed(&self, inputs: &Inputs, side: &dyn SidePath) -> Carry {
        let hidden = self.table.select(&inputs.input_ids);
        let beside = self.project(EMBED, hidden.clone(), side);
        Carry { shared: vec![beside.clone().tanh()], beside: vec![beside], hidden }
    }

    fn layer(&self, index: usize, carry: Carry, _: &Layout, side: &dyn SidePath) -> Carry {
        let Carry { hidden, beside, mut shared } = carry;
        match index {
            0 => shared.extend([KEYS, VALUES].map(|site| self.project(site, hidden.clone(), side))),
            1 => shared.push(self.project(MADE, beside[0].clone(), side).tanh()),
            _ => {}
        }
        let read = |at: usize| match shared.get(at) {
            Some(shared) if self.is_cut => shared.clone().detach(),
            Some(shared) => shared.clone(),
            None => hidden.zeros_like(),
        };
        let query = self.project(QUERIES + index, hidden.clone(), side);
        let mixed = (query * read(1)).tanh() * read(2) + read(0) * beside[0].clone() + read(3);
        let beside = (beside[0].clone() + hidden.clone() * mixed.clone().mul_scalar(0.3)).tanh();
        Carry { hidden: (hidden + mixed).tanh() + beside.clone().mul_scalar(0.5), beside: vec![beside], shared }
    }

    fn last_hidden(&self, Carry { hidden, beside, .. }: Carry, side: &dyn SidePath) -> Tensor<2> {
        self.project(LAST, hidden.clone() + beside[0].clone() * hidden, side)
    }

    fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    fn lm_head(&self) -> &Weight {
        &self.table
    }

    fn linears(&self) -> Vec<&Linear> {
        self.linears.iter().collect()
    }

    fn sites(&self) -> Vec<Site> {
        let stage = |site| match site {
            EMBED => Stage::Embed,
            KEYS | VALUES => Stage::Layer(0),
            MADE => Stage::Layer(1),
            LAST => Stage::LastHidden,
            query => Stage::Layer(query - QUERIES),
        };
        let weight = |site| (TensorId::Projection(site, Projection::Q), stage(site), [WIDTH, WIDTH]);
        Site::numbered((0..=LAST).map(weight))
    }

    fn num_layers(&self) -> usize {
        LAYERS
    }

    fn cache(&self, sequences: usize) -> KvCache {
        KvCache { layers: Vec::new(), lengths: vec![0; sequences] }
    }

    fn next_hidden(
        &self,
        carry: Carry,
        _: &[Range<usize>],
        _: &[usize],
        _: &mut KvCache,
        _: &dyn SidePath,
    ) -> Tensor<2> {
        carry.hidden
    }

    fn parameters(&self) -> u64 {
        0
    }

    fn compute_dtype(&self) -> FloatDType {
        FloatDType::F32
    }
}

/// An adapter on these sites.
fn adapter(model: &Toy, on: impl Fn(usize) -> bool) -> Adapter {
    let module = |site: Site| LoraModule {
        site,
        a: random(100 + site.index as u64, R, WIDTH, 0.4),
        b: random(200 + site.index as u64, WIDTH, R, 0.4),
        magnitude: None,
        scaling: 0.7,
        subtracted: None,
    };
    Adapter::new(model.sites().into_iter().filter(|site| on(site.index)).map(module).collect())
}

fn batch() -> MicroBatch {
    let ids: Vec<u32> = (0..11).map(|i| i * 7 % WORDS as u32).collect();
    let labels: Vec<i32> = ids.iter().map(|&id| if id % 3 == 0 { -100 } else { id.cast_signed() }).collect();
    MicroBatch::new(ids, &labels, Segments::from_lengths([6, 5]))
}

fn masks(p: f64) -> Masks {
    Masks { rng: Rng::new(5), step: 0, micro: 0, p }
}

/// Every stage's modules in one graph.
struct All<'a> {
    sites: Vec<Site>,
    stages: Vec<(Stage, TrainedStage<'a>)>,
}

impl SidePath for All<'_> {
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2> {
        let stage = self.sites[site].stage;
        self.stages.iter().find(|(other, _)| *other == stage).unwrap().1.project(site, x, base)
    }
}

/// Loss and gradients in one graph over all stages.
fn at_once(model: &Toy, adapter: &Adapter, dropout: Option<&dyn Dropout>) -> (f64, Vec<Option<Tensor<2>>>) {
    let batch = batch();
    let stages = [Stage::Embed, Stage::LastHidden].into_iter().chain((0..LAYERS).map(Stage::Layer));
    let stages = stages.map(|stage| (stage, adapter.track(stage, dropout))).collect();
    let side = All { sites: model.sites(), stages };
    let layout = model.layout(&batch.inputs);
    let embedded = model.embed(&batch.inputs, &side);
    let carry = (0..LAYERS).fold(embedded, |carry, layer| model.layer(layer, carry, &layout, &side));
    // The same rows as in training, so that dropout's masks are the same.
    let rows = indices(&batch.rows, model);
    let normed = model.norm.forward(model.last_hidden(carry.select(&rows), &side));
    let Loss { sum, gradient } =
        linear_cross_entropy(&normed.clone().inner(), model.head(), &batch.targets, Some(0.25));
    let mut tape = (normed * gradient.unwrap()).sum().backward();
    let mut gradients = vec![None; adapter.parameters().len()];
    side.stages.iter().for_each(|(_, stage)| add(stage.take_gradients(&mut tape), &mut gradients));
    (sum, gradients)
}

/// Loss and gradients as training has them.
fn by_stages(
    model: &Toy,
    adapter: &Adapter,
    recompute: Recompute,
    dropout: Option<&dyn Dropout>,
) -> (f64, Vec<Option<Tensor<2>>>) {
    let mut gradients = vec![None; adapter.parameters().len()];
    let settings = BackpropSettings { recompute, dropout };
    let loss = accumulate(model, adapter, &batch(), 0.25, settings, &mut gradients);
    (loss, gradients)
}

/// `|got - want| / |want|` of each tensor.
fn distances(got: &[Option<Tensor<2>>], want: &[Option<Tensor<2>>]) -> Vec<f64> {
    let floats = |tensor: &Option<Tensor<2>>| tensor.clone().unwrap().into_data().iter::<f32>().collect::<Vec<_>>();
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let distance = |(got, want): (&Option<Tensor<2>>, &Option<Tensor<2>>)| {
        let (got, want) = (floats(got), floats(want));
        norm(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied())
    };
    got.iter().zip(want).map(distance).collect()
}

#[test]
fn gradients_by_stages_are_those_of_one_graph() {
    let model = Toy::new();
    let masks = masks(0.3);
    for dropout in [None, Some(&masks as &dyn Dropout)] {
        for (what, on) in [
            ("everything", (|_| true) as fn(usize) -> bool),
            ("layers", |site| site != EMBED && site != LAST),
            ("keys alone", |site| site == KEYS),
            ("what the second layer makes", |site| site == MADE),
            ("before the layers", |site| site == EMBED),
            ("after the layers", |site| site == LAST),
        ] {
            let adapter = adapter(&model, on);
            let (want_loss, want) = at_once(&model, &adapter, dropout);
            let (kept_loss, kept) = by_stages(&model, &adapter, Recompute::NOTHING, dropout);
            assert!((kept_loss - want_loss).abs() <= 1e-6 * want_loss, "{what}: {kept_loss} {want_loss}");
            let farthest = distances(&kept, &want).into_iter().fold(0.0, f64::max);
            assert!(farthest <= 1e-6, "{what}: {farthest:e}");
            for recompute in (1..LAYERS).map(Recompute::first).chain([Recompute::ALL]) {
                let (loss, got) = by_stages(&model, &adapter, recompute, dropout);
                let values = |of: &[Option<Tensor<2>>]| -> Vec<TensorData> {
                    of.iter().flatten().map(|gradient| gradient.clone().into_data()).collect()
                };
                assert!(loss == kept_loss && values(&got) == values(&kept), "{what}, {recompute:?}: to the bit");
            }
        }
    }
}

/// Without the gradient that comes back through what is shared, those who make it would learn something else: the test
/// above could not pass.
#[test]
fn what_is_shared_brings_most_of_the_gradient_of_its_makers() {
    let (model, cut) = (Toy::new(), Toy { is_cut: true, ..Toy::new() });
    let adapter = adapter(&model, |_| true);
    let (_, whole) = at_once(&model, &adapter, None);
    let (_, without) = at_once(&cut, &adapter, None);
    let missing: Vec<bool> = without.iter().map(Option::is_none).collect();
    for maker in [KEYS, VALUES, MADE] {
        assert!(missing[2 * maker] && missing[2 * maker + 1], "nothing else leads back to site {maker}");
    }
    let of_embedding = distances(&without[..2], &whole[..2]);
    assert!(of_embedding.iter().all(|&distance| distance > 1e-2), "{of_embedding:?}");
}

#[test]
fn the_loss_alone_is_that_of_training() {
    let model = Toy::new();
    let adapter = adapter(&model, |_| true);
    let (want, _) = by_stages(&model, &adapter, Recompute::NOTHING, None);
    assert!((loss(&model, &adapter, &batch()) - want).abs() <= 1e-6 * want);
}

#[test]
fn a_run_is_left_between_two_layers() {
    let model = Toy::new();
    let (adapter, stop) = (adapter(&model, |_| true), AtomicBool::new(true));
    assert!(score_unless(&stop, &model, &adapter, &batch(), Goal::sft(1.0)).is_none());
    let settings = BackpropSettings { recompute: Recompute::ALL, dropout: None };
    let mut gradients = vec![None; adapter.parameters().len()];
    let mut never = |_| false;
    assert!(
        accumulate_while(&mut never, &model, &adapter, &batch(), Goal::sft(1.0), settings, &mut gradients).is_none()
    );
    let mut parts = Vec::new();
    let mut always = |part| {
        parts.push(part);
        true
    };
    assert!(
        accumulate_while(&mut always, &model, &adapter, &batch(), Goal::sft(1.0), settings, &mut gradients).is_some()
    );
    assert!(parts[0] == 0.0 && parts.is_sorted() && parts.iter().all(|part| *part < 1.0), "{parts:?}");
}
