//! Supervised fine-tuning, from a recipe to an adapter folder.

use crate::adapter::Adapter;
use crate::data::{self, Binning, DataSpec, Dataset, SourceSpec};
use crate::error::{Error, Kind, Place, Result};
use crate::hub;
use crate::jobs::adapter::AdapterPlan;
use crate::jobs::device::{self, Compute};
use crate::jobs::feed::{Feed, evaluation_batches, largest};
use crate::jobs::fit::{self, Sizes};
use crate::jobs::outputs::{self, Kept, RunFolder};
use crate::jobs::overview::{DryRun, Overview};
use crate::jobs::samples::{self, Prompts};
use crate::jobs::{Base, look, probe, provenance, publish, self_check};
use crate::model::gemma3::{Gemma3, TextConfig};
use crate::nn::{BaseOnly, SidePath};
use crate::random::Rng;
use crate::recipe::{self, ComputeDtype, Dtype, EmbeddingQuantization, Quantization, Recipe};
use crate::report::{ProgressBar, Summary};
use crate::text::Encoder;
use crate::train::backprop::{self, MicroBatch};
use crate::train::checkpoint::Fingerprint;
use crate::train::event::{Event, Sink};
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::resume;
use crate::train::run::{self, Ending, Plan, State};
use crate::train::schedule::{self, Schedule};
use crate::train::step::StepSettings;
use crate::weights::{Compression, Holding, HostDtype};
use burn::tensor::DType;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// How a run was asked for.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The device, as the user named it.
    pub device: &'a str,
    /// Continue the newest good checkpoint.
    pub resume: bool,
    /// Stop before the first step.
    pub dry_run: bool,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// A run, which is over or was interrupted.
    Ended(Ending),
    /// A dry run, which trained nothing.
    Planned(Box<DryRun>),
}

/// Rows that a dry run shows.
const PREVIEWED_ROWS: usize = 2;

/// Trains what a recipe describes and leaves everything under `output.dir`.
///
/// # Errors
/// Wrong input before anything is loaded; what goes wrong later leaves the checkpoints that are there.
pub fn train(recipe: &Recipe, options: &Options, screen: &ProgressBar, stop: &AtomicBool) -> Result<Outcome> {
    run(recipe, options, screen, stop).map_err(|error| recipe.places.locate(error))
}

fn run(recipe: &Recipe, options: &Options, screen: &ProgressBar, stop: &AtomicBool) -> Result<Outcome> {
    let compute = device::open(options.device)?;
    compute.check(holding(recipe).compute_dtype)?;
    let folder = RunFolder::open(&recipe.output.dir, options.resume, options.dry_run)?;
    let begun = if options.resume { fit::begun(recipe, &folder)? } else { None };
    let recipe = begun.as_ref().unwrap_or(recipe);
    if folder.is_finished() && options.resume {
        check_finished(recipe, &folder)?;
        screen.note("This run is finished.");
        return Ok(Outcome::Ended(Ending::Done));
    }

    let named = Place::Key("model.base".into());
    let may_adapt = |config: &TextConfig| AdapterPlan::new(&recipe.adapter, config).map(|_| ());
    let mut base = Base::open(&recipe.model.base, named, screen, &may_adapt)?;
    screen.note(&base.describe());
    base.check(&holding(recipe))?;
    let adapter_plan = AdapterPlan::new(&recipe.adapter, &base.config)?;
    if let Some(folder) = &recipe.adapter.init_from {
        provenance::warn_of_another_base(folder, &base, screen);
    }
    let data = Data::prepare(recipe, &base.encoder, screen)?;
    let tokens = |batch_size, max_length| largest(&data.train, &data.plan, batch_size, max_length);
    let sizes = Sizes {
        frozen: base.frozen(),
        trainable: adapter_plan.trainable(),
        optimizer_slots: rule(&recipe.training).slots() as u64,
        tokens: &tokens,
        capacity: compute.capacity(),
    };
    let recipe = &fit::settle(recipe, &sizes, begun.is_some(), options.dry_run, screen)?;
    let need = sizes.need(&fit::Settings::of(recipe));
    let (plan, estimate) = (plan(recipe, &data, &adapter_plan, need.activation_checkpointing)?, need.memory);
    let overview = Overview::new(&adapter_plan, &data, &plan, estimate, &compute);
    if options.dry_run {
        let preview = look::first_rows(&data, &base.encoder, PREVIEWED_ROWS)?;
        return Ok(Outcome::Planned(Box::new(DryRun { plan: overview, preview })));
    }
    screen.note(&overview.to_string());
    let sample_rows = samples::rows(&data, &base)?;
    let prompts = data.eval.as_ref().map(|eval| Prompts::of(eval, recipe.evaluation.samples, &base));
    let prompts = prompts.transpose()?.flatten();
    base.release_encoder();

    if !compute.is_cpu() {
        self_check::compare(&compute)?;
        screen.note(&format!("{} computes what the CPU computes.", compute.describe()));
    }
    let model = base.load(&holding(recipe), &compute.device, screen)?;
    let adapter = adapter_plan.create(&model, plan.step.rng);
    let rule = rule(&recipe.training);
    let run = fingerprint(recipe, &base, &data, &compute)?;
    let (mut state, kept) = match folder.latest(&run, screen)? {
        Some(checkpoint) => {
            let (state, kept) = resume::load(&checkpoint, adapter, rule)?;
            (state, Kept::read(kept)?)
        }
        None => (State::new(adapter, Optimizer::new(rule)), Kept::default()),
    };
    let base_loss = match state.position.base_loss {
        Some(loss) => loss,
        None => data.base_loss(&model)?,
    };
    state.position.base_loss = Some(base_loss);
    screen.note(&format!("Loss of the base model on the first training rows: {base_loss:.4}"));

    let mut outputs = folder.begin(recipe, state.position.step, kept, run, screen)?;
    if state.position.step == 0 {
        sample_rows.into_iter().try_for_each(|row| outputs.event(&Event::Row(row)))?;
    }
    if state.position.step == 0 && probe::is_worthwhile(&plan, recipe.data.packing) {
        probe::run(&model, &state.adapter, data.feed(recipe).longest()?, &plan, screen);
    }
    let evaluate = |adapter: &Adapter| {
        let (loss, tokens) = data.evaluate(&model, adapter)?;
        let samples = prompts.as_ref().map(|prompts| prompts.answer(&model, adapter)).unwrap_or_default();
        Ok(run::Evaluation { loss, tokens, samples })
    };
    let evaluate = data.eval.as_ref().map(|_| &evaluate as &run::Evaluate);
    let ending = run::run(&model, &mut state, &plan, &mut data.feed(recipe), evaluate, &mut outputs, stop)?;
    if ending == Ending::Interrupted {
        return Ok(Outcome::Ended(ending));
    }
    if let Some(best) = state.best_adapter.take() {
        state.adapter.set_parameters(best.to_device(&compute.device));
    }

    let mut summary = Summary::new(&outputs.totals());
    summary.base_loss = Some(base_loss);
    summary.peak_device_bytes = compute.memory().map(|memory| memory.reserved_bytes);
    summary.set_estimate(estimate.total_bytes());
    summary.trainable_parameters = state.adapter.trainable();
    summary.total_parameters = model.parameters() + state.adapter.trainable();
    summary.seed = recipe.training.seed;
    summary.device = compute.name;
    summary.compute_dtype = DType::from(model.compute_dtype()).name().into();
    summary.threads = compute.threads;
    summary.data_hashes = data.hashes();
    summary.base_fingerprint = base.source.fingerprint();
    publish::adapter(recipe, &base, &adapter_plan, &state.adapter, &summary, &folder.path("adapter"), screen)?;
    summary.write(&folder.path("summary.json"))?;
    screen.note(&outputs::describe_result(&summary, &folder));
    Ok(Outcome::Ended(ending))
}

/// The prepared data of a run.
pub struct Data {
    /// What is trained on.
    pub train: Dataset,
    /// What is evaluated on.
    pub eval: Option<Dataset>,
    /// How rows become bins.
    pub plan: Binning,
}

impl Data {
    /// Prepares the data of a recipe for a model.
    ///
    /// # Errors
    /// When a source cannot be read, or its rows cannot be trained on.
    pub fn prepare(recipe: &Recipe, encoder: &Encoder, screen: &ProgressBar) -> Result<Self> {
        let keys = &recipe.data;
        let encoder = encoder.clone().with_train_on(keys.train_on).with_system(keys.system.clone());
        let find_hub = |id: &str, split: Option<&str>| hub::find_data(id, split, screen);
        let prepare = |key: &'static str, sources: &[recipe::Source]| {
            let source = |s: &recipe::Source| SourceSpec {
                path: s.path.clone(),
                format: s.format,
                split: s.split.clone(),
                weight: s.weight,
            };
            let spec = DataSpec {
                key,
                sources: sources.iter().map(source).collect(),
                max_length: keys.max_length,
                on_long: keys.on_long,
                on_bad_row: keys.on_bad_row,
            };
            data::prepare(&spec, &encoder, &outputs::cache_dir(), &find_hub, screen)
        };
        let seed = recipe.training.seed;
        let (train, eval) = match (prepare("data.train", &keys.train)?, keys.eval.as_slice()) {
            (train, []) if keys.eval_fraction > 0.0 => {
                let (train, eval) = train.split(keys.eval_fraction, seed)?;
                (train, Some(eval))
            }
            (train, []) => (train, None),
            (train, sources) => (train, Some(prepare("data.eval", sources)?)),
        };
        let plan = Binning { packing: keys.packing, max_length: keys.max_length, shuffle: keys.shuffle, seed };
        Ok(Data { train, eval, plan })
    }

    fn feed(&self, recipe: &Recipe) -> Feed<'_> {
        let keys = &recipe.training;
        Feed::new(&self.train, self.plan, keys.per_device_train_batch_size, keys.gradient_accumulation_steps)
    }

    /// Optimiser steps in `num_train_epochs` passes; a fraction of a pass counts up.
    fn steps(&self, keys: &recipe::Training) -> Result<u64> {
        let (batch, accumulation) = (keys.per_device_train_batch_size, keys.gradient_accumulation_steps);
        let whole = keys.num_train_epochs.floor();
        let steps = self.plan.steps(&self.train, whole as u64, batch, accumulation)?;
        let fraction = keys.num_train_epochs - whole;
        if fraction == 0.0 {
            return Ok(steps);
        }
        let last = self.plan.epoch(&self.train, whole as u64)?.steps(batch, accumulation);
        Ok(steps + (fraction * last as f64).ceil() as u64)
    }

    /// The frozen model's loss on the first training rows: other than expected, the model or the template is wrong.
    fn base_loss(&self, model: &Gemma3) -> Result<f64> {
        // Enough to tell a right model from a wrong one, little enough to wait for.
        const TOKENS: usize = 256;
        let first = evaluation_batches(&self.train, self.plan)?.take(1);
        Ok(mean_loss(model, &BaseOnly, first.map(|batch| Ok(batch?.truncated(TOKENS))))?.0)
    }

    /// The mean loss over the evaluation data, and its supervised tokens.
    fn evaluate(&self, model: &Gemma3, side: &dyn SidePath) -> Result<(f64, u64)> {
        let Some(eval) = &self.eval else { return Ok((f64::NAN, 0)) };
        mean_loss(model, side, evaluation_batches(eval, self.plan)?)
    }

    fn hashes(&self) -> BTreeMap<String, String> {
        let eval = self.eval.as_ref().map(|eval| ("eval".to_owned(), eval.content_hash()));
        [("train".to_owned(), self.train.content_hash())].into_iter().chain(eval).collect()
    }
}

/// The mean loss of some micro-batches, and their supervised tokens.
///
/// # Errors
/// When a row cannot be read.
pub fn mean_loss(
    model: &Gemma3,
    side: &dyn SidePath,
    batches: impl Iterator<Item = Result<MicroBatch>>,
) -> Result<(f64, u64)> {
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in batches {
        let batch = batch?;
        sum += backprop::loss(model, side, &batch);
        tokens += batch.supervised() as u64;
    }
    Ok((sum / (tokens as f64).max(1.0), tokens))
}

/// How frozen weights are held.
pub fn holding(recipe: &Recipe) -> Holding {
    Holding {
        dtype: match recipe.model.dtype {
            Dtype::Auto => None,
            Dtype::F32 => Some(HostDtype::F32),
            Dtype::Bf16 => Some(HostDtype::BF16),
            Dtype::F16 => Some(HostDtype::F16),
        },
        projections: match recipe.model.quantization {
            Quantization::None => Compression::None,
            Quantization::Int8 => Compression::Int8,
            Quantization::Nf4 => Compression::Nf4,
            Quantization::Nf4Double => Compression::Nf4Double,
            Quantization::AsStored => Compression::AsStored,
        },
        embedding_int8: recipe.model.embedding_quantization == EmbeddingQuantization::Int8,
        compute_dtype: match recipe.model.compute_dtype {
            ComputeDtype::Auto => None,
            ComputeDtype::F32 => Some(HostDtype::F32),
            ComputeDtype::Bf16 => Some(HostDtype::BF16),
            ComputeDtype::F16 => Some(HostDtype::F16),
        },
    }
}

/// The optimiser of a recipe.
pub fn rule(keys: &recipe::Training) -> Rule {
    match keys.optimizer {
        recipe::Optimizer::Adamw => Rule::AdamW {
            beta1: keys.adam_beta1,
            beta2: keys.adam_beta2,
            epsilon: keys.adam_epsilon,
            weight_decay: keys.weight_decay,
        },
        recipe::Optimizer::Sgd => Rule::Sgd { momentum: keys.sgd_momentum, weight_decay: keys.weight_decay },
    }
}

/// The steps of the run.
fn plan(recipe: &Recipe, data: &Data, adapter: &AdapterPlan, activation_checkpointing: bool) -> Result<Plan> {
    let Recipe { training: keys, evaluation, output, .. } = recipe;
    let total_steps = match keys.max_steps {
        Some(steps) => steps,
        None => data.steps(keys)?,
    };
    let warmup_steps = keys.warmup_steps.unwrap_or_else(|| schedule::warmup_steps(total_steps, keys.warmup_ratio));
    let kind = match keys.lr_scheduler_type {
        recipe::Scheduler::Constant => schedule::Kind::Constant,
        recipe::Scheduler::Linear => schedule::Kind::Linear,
        recipe::Scheduler::Cosine => schedule::Kind::Cosine,
    };
    Ok(Plan {
        total_steps,
        schedule: Schedule::new(kind, keys.learning_rate, warmup_steps, total_steps),
        step: StepSettings {
            max_grad_norm: keys.max_grad_norm,
            activation_checkpointing,
            lora_dropout: adapter.config.lora_dropout,
            rng: Rng::new(keys.seed),
        },
        eval_steps: evaluation.eval_steps,
        eval_on_start: evaluation.eval_on_start,
        early_stopping_patience: evaluation.early_stopping_patience,
        keep_best: evaluation.load_best_model_at_end,
        save_steps: output.save_steps,
    })
}

/// Refuses to call a run finished whose recipe has changed since.
fn check_finished(recipe: &Recipe, folder: &RunFolder) -> Result<()> {
    let path = folder.path("recipe.yaml");
    if !path.exists() {
        return Ok(());
    }
    let trained = keys(&recipe::load(&path, &[])?)?;
    let Some(difference) = keys(recipe)?.difference(&trained) else { return Ok(()) };
    let dir = recipe.output.dir.display();
    Err(Error::new(Kind::Recipe, format!("the run in `{dir}` is finished, and its recipe has changed: {difference}"))
        .at_path(path)
        .hint(format!(
            "to train further, start a new run with `adapter.init_from: {}` and another `output.dir`",
            folder.path("adapter").display()
        )))
}

/// The keys of a recipe that decide what is trained: one part a key, so that a refusal can name it.
fn keys(recipe: &Recipe) -> Result<Fingerprint> {
    // Where results go and how often they are shown decides nothing about them; evaluation may stop a run early. What
    // `fit` chose stands in other keys.
    let decides_nothing = [("evaluation", "samples"), ("training", "fit")];
    let sections = serde_json::to_value(recipe)
        .map_err(|e| Error::new(Kind::Run, format!("the recipe cannot be written: {e}")).caused_by(e))?;
    let sections = sections.as_object().into_iter().flatten().filter(|(section, _)| *section != "output");
    let keys = sections
        .flat_map(|(section, keys)| keys.as_object().into_iter().flatten().map(move |key| (section, key)))
        .filter(|(section, (key, _))| !decides_nothing.contains(&(section.as_str(), key.as_str())));
    // One entry a key, so that a refusal can name it.
    Ok(keys.fold(Fingerprint::new(), |run, (section, (key, value))| {
        run.with(format!("{section}.{key}"), blake3::hash(value.to_string().as_bytes()).to_hex().to_string())
    }))
}

/// What a run may not change when it is resumed.
fn fingerprint(recipe: &Recipe, base: &Base, data: &Data, compute: &Compute) -> Result<Fingerprint> {
    let run = keys(recipe)?
        .with("base model", base.source.fingerprint())
        .with("training data", data.train.content_hash())
        .with("device", &compute.name)
        .with("threads", compute.threads.to_string());
    Ok(match &data.eval {
        Some(eval) => run.with("evaluation data", eval.content_hash()),
        None => run,
    })
}
