//! Supervised fine-tuning, from a recipe to an adapter folder.

use crate::data::{self, DataSpec, Dataset, Plan as DataPlan, SourceSpec};
use crate::error::{Error, Kind, Result};
use crate::export::{AdapterFolder, Card, check};
use crate::hub::ModelFiles;
use crate::jobs::adapter::{AdapterPlan, to_peft};
use crate::jobs::device::{self, Compute};
use crate::jobs::feed::{Feed, evaluation_batches, largest};
use crate::jobs::outputs::{self, RunFolder};
use crate::jobs::{Base, text_source};
use crate::model::gemma3::Gemma3;
use crate::random::Rng;
use crate::recipe::{self, AutoBool, Recipe};
use crate::report::{ProgressBar, Summary, text};
use crate::train::checkpoint::Fingerprint;
use crate::train::memory::{self, Workload};
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::run::{self, Ending, Plan, Position, State};
use crate::train::schedule::{self, Schedule};
use crate::train::step::StepSettings;
use crate::train::{backprop, resume};
use crate::weights::HostDtype;
use std::path::Path;
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

/// Trains what a recipe describes and leaves everything under `output.dir`.
///
/// # Errors
/// Wrong input before anything is loaded; what goes wrong later leaves the checkpoints that are there.
pub fn train(recipe: &Recipe, options: &Options, screen: &ProgressBar, stop: &AtomicBool) -> Result<Option<Ending>> {
    let compute = device::open(options.device)?;
    let folder = RunFolder::open(Path::new(&recipe.output.dir), options.resume, options.dry_run)?;

    let base = Base::open(&recipe.model.base, screen)?;
    screen.note(&describe_model(&base));
    let adapter_plan = AdapterPlan::new(&recipe.adapter, &base.config)?;
    let data = Data::prepare(recipe, &base, screen)?;
    let plan = plan(recipe, &base, &adapter_plan, &data)?;
    let work = workload(recipe, &base, &adapter_plan, &plan, &data);
    let estimate = memory::estimate(&base.config, &work);
    screen.note(&describe_run(&adapter_plan, &data, &plan, &estimate, &compute));
    if options.dry_run {
        return Ok(None);
    }

    let model = base.load(held(recipe), &compute.device, screen)?;
    let fingerprint = fingerprint(recipe, &base, &data);
    let (mut state, metrics_bytes) = match folder.latest(&fingerprint, screen)? {
        Some(checkpoint) => {
            let fresh = adapter_plan.create(&model, recipe.adapter.init_from.as_deref(), plan.step.rng)?;
            resume::load(&checkpoint, fresh, rule(&recipe.training))?
        }
        None => {
            let adapter = adapter_plan.create(&model, recipe.adapter.init_from.as_deref(), plan.step.rng)?;
            let optimizer = Optimizer::new(rule(&recipe.training));
            (State { adapter, optimizer, position: Position::default(), best_adapter: None }, 0)
        }
    };
    let base_loss = state.position.base_loss.map_or_else(|| base_loss(&model, &data), Ok)?;
    state.position.base_loss = Some(base_loss);
    screen.note(&format!("Base model: loss {base_loss:.4} on the first {} training rows", data.first_rows()));

    let mut outputs = folder.begin(recipe, &state, metrics_bytes, fingerprint, screen)?;
    let mut feed = data.feed(recipe);
    let evaluate = |adapter: &_| data.evaluate(&model, adapter);
    let evaluate = data.eval.as_ref().map(|_| &evaluate as &run::Evaluate);
    let ending = run::run(&model, &mut state, &plan, &mut feed, evaluate, &mut outputs, stop)?;
    if ending == Ending::Interrupted {
        return Ok(Some(ending));
    }
    if let Some(best) = state.best_adapter.take() {
        state.adapter.set_parameters(best.to_device(&compute.device));
    }

    let mut summary = Summary::new(&outputs.totals());
    summary.estimated_bytes = Some(estimate.total_bytes());
    summary.trainable_parameters = state.adapter.trainable();
    summary.total_parameters = model.parameters() + state.adapter.trainable();
    summary.base_loss = Some(base_loss);
    summary.seed = recipe.training.seed;
    summary.device = compute.name;
    summary.threads = compute.threads;
    summary.data_hashes = data.hashes();
    write_adapter(recipe, &base, &adapter_plan, &state, &summary, &folder)?;
    summary.write(&folder.path("summary.json"))?;
    outputs.clean_up()?;
    screen.note(&outputs::describe_result(&summary, &folder));
    Ok(Some(ending))
}

/// The prepared data of a run.
struct Data {
    train: Dataset,
    eval: Option<Dataset>,
    plan: DataPlan,
}

impl Data {
    fn prepare(recipe: &Recipe, base: &Base, screen: &ProgressBar) -> Result<Self> {
        let keys = &recipe.data;
        let encoder = base.encoder.clone().with_train_on(keys.train_on).with_system(keys.system.clone());
        let prepare = |sources: &[recipe::Source]| -> Result<Dataset> {
            let spec = DataSpec {
                sources: sources.iter().map(|source| text_source(source, keys.format)).collect(),
                max_length: keys.max_length,
                on_long: keys.on_long,
                on_bad_row: keys.on_bad_row,
            };
            data::prepare(&spec, &encoder, &outputs::cache_dir(), &crate::hub::find_data_for(screen), screen)
        };
        let train = prepare(&keys.train)?;
        let seed = recipe.training.seed;
        let (train, eval) = match (keys.eval.is_empty(), keys.eval_fraction > 0.0) {
            (false, _) => (train, Some(prepare(&keys.eval)?)),
            (true, true) => {
                let (train, eval) = train.split(keys.eval_fraction, seed)?;
                (train, Some(eval))
            }
            (true, false) => (train, None),
        };
        let plan = DataPlan { packing: keys.packing, max_length: keys.max_length, shuffle: keys.shuffle, seed };
        Ok(Data { train, eval, plan })
    }

    fn feed(&self, recipe: &Recipe) -> Feed<'_> {
        let keys = &recipe.training;
        Feed::new(&self.train, self.plan, keys.per_device_train_batch_size, keys.gradient_accumulation_steps)
    }
}

impl Data {
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

/// Rows of the training data on which the base model's loss is measured before the first step.
const BASE_LOSS_BINS: usize = 4;

fn base_loss(model: &Gemma3, data: &Data) -> Result<f64> {
    let batches = evaluation_batches(&data.train, data.plan)?.take(BASE_LOSS_BINS);
    Ok(mean_loss(model, &BaseOnly, batches)?.0)
}

/// How frozen weights are held; `None` is as they are stored.
pub fn held(recipe: &Recipe) -> Option<HostDtype> {
    match recipe.model.dtype {
        Dtype::Auto => None,
        Dtype::F32 => Some(HostDtype::F32),
        Dtype::Bf16 => Some(HostDtype::BF16),
        Dtype::F16 => Some(HostDtype::F16),
    }
}

fn rule(keys: &recipe::Training) -> Rule {
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

fn plan(recipe: &Recipe, base: &Base, adapter: &AdapterPlan, data: &Data) -> Result<Plan> {
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
    let work = workload(recipe, base, adapter, data, false);
    let activation_checkpointing = match keys.activation_checkpointing {
        AutoBool::True => true,
        AutoBool::False => false,
        AutoBool::Auto => memory::checkpointing_is_needed(&base.config, &work, memory::available_bytes()),
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
