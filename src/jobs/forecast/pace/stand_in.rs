//! One layer and a part of the vocabulary, of random numbers, in the place of a model.

use super::timed_run::TimedRun;
use super::trial::timed;
use crate::adapter::init::{self, LoraOptions};
use crate::adapter::{Adapter, Init, LoraModule};
use crate::error::{Error, Kind, Result};
use crate::jobs::forecast::memory::{self, Workload};
use crate::model::{self, Inputs, LanguageModel, ModelConfig, RandomModel, Site, Stage};
use crate::nn::{AttentionConfig, AttentionKind, AttentionPlan};
use crate::random::Rng;
use crate::report::text;
use crate::train::backprop::{self, BackpropSettings};
use crate::train::micro_batch::MicroBatch;
use crate::train::optimizer::Optimizer;
use crate::train::recompute::Recompute;
use crate::train::step::{self, Masks};
use crate::weights::names::TensorId;
use crate::weights::{Form, HostDtype};
use burn::tensor::{Device, Tensor};

/// A probe with fewer tokens measures nothing.
const FEWEST_TOKENS: usize = 64;

/// Words of the stand-in's vocabulary.
const WORDS: usize = 8192;

/// A layer of a run's model beside the adapter that it would have, with random numbers for weights, and a head for some
/// words.
pub struct StandIn<'a> {
    run: &'a TimedRun<'a>,
    device: &'a Device,
    model: Box<dyn LanguageModel>,
    adapter: Adapter,
}

impl<'a> StandIn<'a> {
    /// The stand-in of a run's model, on the device that the run would compute on.
    ///
    /// # Errors
    /// When a matrix cannot be held as the run would.
    pub fn new(run: &'a TimedRun, device: &'a Device) -> Result<Self> {
        let config = Self::config(run.frozen.config);
        let layer = Self::layer_of(run);
        let form = |id: &TensorId| Self::form(run, layer, id);
        let mut parts = RandomModel::new(&form, device);
        parts.compute_dtype = run.holding.compute_dtype;
        let model = model::assemble(config, &mut parts, device)?;
        let adapter = adapter(run, layer, model.as_ref());
        Ok(StandIn { run, device, model, adapter })
    }

    /// The shape of the stand-in of a model.
    pub fn config(whole: &ModelConfig) -> ModelConfig {
        whole.with_one_layer(AttentionKind::Full, WORDS)
    }

    /// Bytes of its frozen matrices.
    fn bytes(run: &TimedRun) -> u64 {
        let (config, layer) = (Self::config(run.frozen.config), Self::layer_of(run));
        let vocabulary = [config.vocab_size(), config.hidden_size()];
        let head = (!config.tie_word_embeddings()).then_some((TensorId::LmHead, vocabulary));
        let projections = config.sites().into_iter().map(|site| (site.weight, site.dims()));
        let matrices = projections.chain(head).chain([(TensorId::EmbedTokens, vocabulary)]);
        matrices.map(|(id, dims)| Self::form(run, layer, &id).bytes(dims)).sum()
    }

    /// Tokens that a stand-in may be run with so that it takes at most half of the free memory.
    ///
    /// # Errors
    /// When not even a few may.
    pub fn affordable_tokens(run: &TimedRun) -> Result<usize> {
        let config = Self::config(run.frozen.config);
        let base_bytes = Self::bytes(run);
        let gpu = run.capacity.gpu.map(|fastest| run.frozen.gpu_products(&run.holding, fastest));
        let recompute = Recompute::from(run.ways().all(|(way, _)| way == Recompute::ALL));
        let needed = |tokens: usize| {
            let work = Workload {
                base_bytes,
                trainable: run.adapter.trainable() / run.frozen.config.num_hidden_layers().max(1) as u64,
                optimizer_slots: run.rule.slots() as u64,
                tokens: tokens as u64,
                looked_at: run.looked_at(tokens) as u64,
                replicas: 1,
                recompute,
                accumulates: false,
                beside: run.beside.of_a_layer(),
                sampled: 0,
                sampled_tokens: 0,
                gpu,
            };
            memory::estimate(&config, &work).total_bytes()
        };
        let mut tokens = run.tokens();
        let Some(free) = run.capacity.available_bytes else { return Ok(tokens) };
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

    /// The layer that the stand-in has the forms and the adapter of: the one in the middle of those with an adapter.
    fn layer_of(run: &TimedRun) -> usize {
        let stage = run.adapter.sites.get(run.adapter.sites.len() / 2).map(|site| site.stage);
        if let Some(Stage::Layer(layer)) = stage { layer } else { 0 }
    }

    fn form(run: &TimedRun, layer: usize, id: &TensorId) -> Form {
        run.frozen.form(&id.in_layer(layer), &run.holding).unwrap_or(Form::Dense(HostDtype::BF16))
    }

    /// Words of its vocabulary.
    pub fn words(&self) -> usize {
        self.model.config().vocab_size()
    }

    /// The training of the layer on so many tokens, forwards and backwards, recomputed or not.
    pub fn layer(&self, tokens: usize, recompute: Recompute) -> impl Fn() -> Result<()> {
        let inputs = self.inputs(tokens);
        let (input, layout) = (self.model.embed(&inputs, &self.adapter), self.model.layout(&inputs));
        let upstream = self.tensor(tokens, self.model.config().hidden_size(), 1e-3);
        move || {
            let p = self.run.adapter.config.lora_dropout;
            let masks = Masks { rng: Rng::new(0), step: 0, micro: 0, p };
            let settings = BackpropSettings { recompute, dropout: if p > 0.0 { Some(&masks) } else { None } };
            backprop::layer(self.model.as_ref(), &self.adapter, 0, &input, &upstream, &layout, settings);
            self.finish()
        }
    }

    /// The way from so many tokens through embedding and head to the loss of each, and back to the head's input.
    pub fn head(&self, tokens: usize) -> impl Fn() -> Result<()> {
        let inputs = self.inputs(tokens);
        let labels: Vec<i32> = inputs.input_ids.iter().map(|&id| id.cast_signed()).collect();
        let batch = MicroBatch::of(inputs, &labels);
        move || {
            backprop::without_layers(self.model.as_ref(), &batch, 1e-3);
            self.finish()
        }
    }

    /// The attention of a layer of this kind among so many tokens, forwards and backwards.
    pub fn attention(&self, kind: AttentionKind, tokens: usize, recompute: Recompute) -> impl Fn() -> Result<()> {
        let shape = AttentionConfig { kind, ..self.model.config().attention(0) };
        let compute_dtype = self.model.compute_dtype();
        let AttentionConfig { num_attention_heads: h, num_key_value_heads: g, head_dim: e, .. } = shape;
        let plan = AttentionPlan::new(&self.run.segments(tokens), &[], shape.sliding_window);
        let [q, k, v] = [h, g, g].map(|heads| self.tensor(tokens, heads * e, 1.0).reshape([tokens, heads, e]));
        let upstream = self.tensor(tokens, h * e, 1e-3);
        move || {
            if recompute.has(0) {
                drop(shape.mix(q.clone(), k.clone(), v.clone(), &plan, compute_dtype));
            }
            let leaf = |heads: &Tensor<3>| heads.clone().autodiff().require_grad();
            let mixed = shape.mix(leaf(&q), leaf(&k), leaf(&v), &plan, compute_dtype);
            drop((mixed * upstream.clone()).sum().backward());
            self.finish()
        }
    }

    /// Seconds in which the optimiser updates the layer's adapter, when it has its state.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&self) -> Result<f64> {
        let mut optimizer = Optimizer::new(self.run.rule);
        let parameters = self.adapter.parameters();
        let gradients: Vec<Tensor<2>> = parameters.iter().map(|p| p.clone().mul_scalar(1e-3)).collect();
        let mut update = || {
            step::norm(&gradients);
            drop(optimizer.step(1e-4, parameters.clone(), gradients.clone()));
            self.finish()
        };
        update()?;
        timed(update)
    }

    /// Values of the layer's adapter.
    pub fn trainable(&self) -> u64 {
        self.adapter.trainable()
    }

    /// Words in sequences as those of the run.
    fn inputs(&self, tokens: usize) -> Inputs {
        let ids = (0..tokens).map(|i| (i * 37 % self.words()) as u32);
        Inputs::text(ids.collect(), self.run.segments(tokens))
    }

    fn tensor(&self, rows: usize, columns: usize, size: f32) -> Tensor<2> {
        RandomModel::new(&|_| Form::Dense(HostDtype::F32), self.device).tensor(rows, columns, size)
    }

    /// Waits for the device.
    fn finish(&self) -> Result<()> {
        self.device.sync().map_err(|e| Error::new(Kind::Device, format!("the device failed: {e}")))
    }
}

/// The adapter of a layer, with random numbers for whatever it would begin with.
fn adapter(run: &TimedRun, layer: usize, model: &dyn LanguageModel) -> Adapter {
    let plan = run.adapter;
    let here = plan.sites.iter().filter(|site| site.stage == Stage::Layer(layer));
    let here: Vec<TensorId> = here.map(|site| site.weight.in_layer(0)).collect();
    let sites: Vec<Site> = model.sites().into_iter().filter(|site| here.contains(&site.weight)).collect();
    let options = LoraOptions {
        r: plan.config.r,
        lora_alpha: plan.config.lora_alpha,
        use_rslora: plan.config.use_rslora,
        use_dora: plan.config.use_dora,
        init: Init::Gaussian,
    };
    let adapter = init::create(model, &sites, options, Rng::new(0));
    if plan.init != Init::Pissa {
        return adapter;
    }
    let module =
        |module: &LoraModule| LoraModule { subtracted: Some((module.a.clone(), module.b.clone())), ..module.clone() };
    Adapter::new(adapter.modules().iter().map(module).collect())
}
