//! A run with its weights loaded, from its first or its next step to its adapter folder.

use super::planned::Planned;
use crate::adapter::Adapter;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::media::blank;
use crate::jobs::run::batches::{Batches, Wanted, in_order};
use crate::jobs::run::folder::RunFolder;
use crate::jobs::run::outputs::{Kept, Outputs};
use crate::jobs::run::policy::Policy;
use crate::jobs::run::reference::Reference;
use crate::jobs::run::replicas::Models;
use crate::jobs::run::rewards::Rewards;
use crate::jobs::run::rollouts::{Exam, Policies, Rollouts};
use crate::jobs::run::samples::Prompts;
use crate::jobs::run::steady::Steady;
use crate::jobs::run::{evaluation, identity, probe, publish, verdict};
use crate::model::LanguageModel;
use crate::nn::{BaseOnly, SidePath};
use crate::ops::{Roundoff, cpu_bf16_products, cpu_multiplies_bf16, instruction_set};
use crate::recipe::{InitLoraWeights, Recipe, Task};
use crate::report::{ProgressBar, Summary, text};
use crate::train::event::{Event, RowEvent, Sink, Underway};
use crate::train::optimizer::Optimizer;
use crate::train::resume;
use crate::train::run::{self, Ending, Evaluate, State, Windows};
use crate::train::step::Watch;
use crate::weights::Compression;
use burn::tensor::FloatDType;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What training changes and what it leaves behind, beside what was planned.
pub struct Session<'a> {
    planned: &'a Planned,
    folder: &'a RunFolder,
    screen: &'a ProgressBar,
    models: Models,
    state: State,
    outputs: Outputs,
    /// What the policy that the run starts from says of its rows, and of those it is evaluated on, where that is needed.
    references: Option<References>,
    /// The adapter that the run starts from, where answers are measured against it.
    start: Option<Adapter>,
    /// [`Adapter::fingerprint`] before the first step.
    untrained: blake3::Hash,
}

struct References {
    train: Reference,
    eval: Option<Reference>,
}

impl<'a> Session<'a> {
    /// Loads the weights and goes to where the newest checkpoint is, or else before the first step.
    ///
    /// # Errors
    /// When the weights or the checkpoint cannot be read, or the checkpoint is of another run.
    pub fn begin(planned: &'a Planned, folder: &'a RunFolder, screen: &'a ProgressBar) -> Result<Self> {
        let Planned { recipe, settings, devices, base, data, .. } = planned;
        let compute = &devices.first;
        let for_media = data.features.is_some() || planned.adapter.is_beside_text();
        let in_graph = planned.adapter.trains_towers();
        let models = Models::load(devices, &|compute| match for_media {
            true => base.load_for_media(in_graph, &settings.holding, &compute.device, screen),
            false => base.load(&settings.holding, &compute.device, screen),
        })?;
        let model = models.first();
        if compute.is_cpu() && model.compute_dtype() == FloatDType::BF16 && !cpu_multiplies_bf16() {
            let how = cpu_bf16_products();
            screen.note(&format!(
                "warning: this processor has no products of bf16 numbers: they are {how}, as exact and no faster than those"
            ));
        }
        let adapter = planned.adapter.create(model, planned.steps.step.rng);
        let untrained = adapter.fingerprint();
        let references = references(planned, model, &adapter, screen)?;
        let is_measured_against = recipe.grpo.as_ref().is_some_and(|keys| keys.beta > 0.0) && !starts_as_base(recipe);
        let start = is_measured_against.then(|| adapter.clone());
        let run = identity::fingerprint(recipe, base, data, devices)?;
        let (mut state, kept) = match folder.latest(&run, screen)? {
            Some(checkpoint) => {
                let (state, kept) = resume::load(&checkpoint, adapter, settings.rule)?;
                let kept = Kept::read(kept)?;
                let other = if compute.is_cpu() { kept.other_instructions(instruction_set()) } else { None };
                other.into_iter().for_each(|what| screen.note(&format!("warning: {what}")));
                kept.other_devices(&devices.name()).iter().for_each(|what| screen.note(what));
                (state, kept)
            }
            None => (State::new(adapter, Optimizer::new(settings.rule)), Kept::default()),
        };
        let is_measured = state.position.base_loss.is_some();
        let base_loss = match state.position.base_loss {
            Some(loss) => loss,
            None => evaluation::first_loss(model, &BaseOnly, data)?,
        };
        state.position.base_loss = Some(base_loss);
        let words = base.config.vocab_size();
        let mut suspicions = Vec::from_iter(evaluation::suspicion(base_loss, words)?);
        if recipe.adapter.init_from.is_some() && !is_measured {
            let continued = evaluation::first_loss(model, &state.adapter, data)?;
            suspicions.extend(evaluation::suspicion_of_adapter(continued, base_loss, words));
        }
        suspicions.iter().for_each(|suspicion| screen.note(suspicion));
        if let Some(features) = data.features.as_ref().filter(|_| state.position.step == 0) {
            let counts = blank::prove(model, &state.adapter, &data.train, features)?;
            counts.iter().for_each(|counts| screen.note(&counts.describe()));
        }
        if says_base_loss(recipe) {
            let of = if recipe.task == Task::Sft { "" } else { ", by token as of `task: sft`" };
            screen.note(&format!("Loss of the base model on the first training rows{of}: {}", text::metric(base_loss)));
        }
        let outputs = Outputs::open(folder, recipe, state.position.step, kept, run, devices, screen)?;
        Ok(Session { planned, folder, screen, models, state, outputs, references, start, untrained })
    }

    /// Whether no step is done yet.
    pub fn is_new(&self) -> bool {
        self.state.position.step == 0
    }

    /// Shows rows as the model sees them.
    ///
    /// # Errors
    /// When an output cannot be written.
    pub fn show(&mut self, rows: Vec<RowEvent>) -> Result<()> {
        rows.into_iter().try_for_each(|row| self.outputs.event(&Event::Row(row)))
    }

    /// Tries the largest micro-batch where that is worthwhile.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn probe(&self) -> Result<()> {
        let Planned { recipe, steps, devices, .. } = self.planned;
        // How long answers are is not known before.
        if recipe.grpo.is_none() && probe::is_worthwhile(steps, recipe.data.packing) {
            let compute = self.models.computing(devices)?;
            let at_once = devices.count().min(recipe.training.gradient_accumulation_steps);
            let largest = vec![batches(self.planned, self.references.as_ref()).longest()?; at_once];
            probe::run(compute.as_ref(), &self.state.adapter, &largest, steps, self.screen);
        }
        Ok(())
    }

    /// Takes the steps that are left, answering `prompts` at each evaluation.
    ///
    /// # Errors
    /// As [`run::run`].
    pub fn train(&mut self, prompts: Option<&Prompts>, stop: &AtomicBool) -> Result<Ending> {
        let (model, data) = (self.models.first(), &self.planned.data);
        let objective = self.planned.steps.step.objective.as_ref();
        let reference = self.references.as_ref().and_then(|references| references.eval.as_ref());
        let Planned { base, settings, devices, recipe, .. } = self.planned;
        let stays_in_file = Frozen::of(base).mapped_bytes(&settings.holding) > 0;
        let is_as_stored = settings.holding.projections == Compression::AsStored || base.source.is_packed();
        let is_in_use = stays_in_file || is_as_stored;
        let policies = Policies {
            model,
            start: self.start.as_ref().map_or(&BaseOnly as &dyn SidePath, |start| start),
            encoder: Arc::new(base.encoder.clone()),
            stop_ids: base.stop_ids(),
        };
        let rewards = Rewards::open(&recipe.rewards, &devices.first.name, self.screen)?;
        let steps = self.state.position.step;
        let exam = Exam::of(recipe, data, &policies, &rewards)
            .map(|exam| exam.kept_in(&self.folder.path("eval_rewards.jsonl"), steps))
            .transpose()?;
        let evaluate = |adapter: &Adapter, step: u64, tell: &mut dyn FnMut(Underway)| {
            let watch = Watch { stop, on_progress: tell };
            match &exam {
                Some(exam) => exam.evaluate(adapter, step, watch),
                None => evaluation::evaluate(model, adapter, data, (objective, reference), prompts, watch),
            }
        };
        let evaluate = data.eval.as_ref().map(|_| &evaluate as &Evaluate);
        let journal = self.folder.path("rewards.jsonl");
        let rollouts = Rollouts::of(recipe, data, (&policies, &rewards), &journal, &self.state.position)?;
        let windows: Box<dyn Windows + '_> = match rollouts {
            Some(rollouts) => Box::new(rollouts),
            None => Box::new(batches(self.planned, self.references.as_ref())),
        };
        let mut batches = Steady::new(windows, &base.source, &base.fingerprint, is_in_use);
        let compute = self.models.computing(devices)?;
        run::run(
            compute.as_ref(),
            &mut self.state,
            &self.planned.steps,
            &mut batches,
            evaluate,
            &mut self.outputs,
            stop,
        )
    }

    /// Writes `adapter/`, of the best evaluation where that was kept, and `summary.json`, and says how the run went and
    /// what to do `next`.
    ///
    /// # Errors
    /// As [`publish::adapter`]; training that changed nothing.
    pub fn publish(mut self, ending: Ending, next: Option<&str>) -> Result<()> {
        let Planned { recipe, devices, base, adapter: plan, .. } = self.planned;
        // A run may stop early before the warm-up has let it learn anything: then the base is what was best.
        if ending != Ending::StoppedEarly && self.state.adapter.fingerprint() == self.untrained {
            let what = format!(
                "{} changed nothing: the adapter is what it was before the first",
                text::counted(self.state.position.step, "step")
            );
            let hint = verdict::why_unchanged(recipe, &self.folder.path("metrics.jsonl"));
            return Err(Error::new(Kind::Run, what).at_path(&recipe.output.dir).hint(hint));
        }
        let mut adapter_step = self.state.position.step;
        if let Some(best) = self.state.best_adapter.take() {
            self.state.adapter.set_parameters(best.to_device(&devices.first.device));
            adapter_step = self.state.position.best.map_or(adapter_step, |best| best.step);
        }
        let mut summary = self.summary();
        summary.stop_reason = verdict::stop_reason(ending, recipe);
        summary.adapter_step = Some(adapter_step);
        let mut verdict = verdict::verdict(&summary, recipe, self.planned.steps.total_steps);
        let judged = self.planned.data.eval.as_ref().map(Dataset::judged).transpose()?.unwrap_or_default();
        verdict.extend(verdict::chance(&summary, recipe, judged));
        verdict.extend(verdict::cut_off(recipe, &self.folder.path("metrics.jsonl")));
        publish::adapter(recipe, base, plan, &self.state.adapter, &summary, &self.folder.path("adapter"), self.screen)?;
        let result = self.folder.describe_result(&summary);
        std::iter::once(&result).chain(&verdict).for_each(|line| self.screen.note(line));
        let said = self.screen.warnings().into_iter().filter(|said| !summary.warnings.contains(said));
        summary.warnings.extend(said.collect::<Vec<_>>());
        summary.write(&self.folder.path("summary.json"))?;
        next.into_iter().for_each(|line| self.screen.note(line));
        Ok(())
    }

    /// The run in numbers.
    fn summary(&self) -> Summary {
        let Planned { recipe, devices, base, data, memory, .. } = self.planned;
        let (model, state) = (self.models.first(), &self.state);
        let mut summary = Summary::new(&self.outputs.totals());
        summary.base_loss = state.position.base_loss.filter(|_| says_base_loss(recipe));
        summary.peak_device_bytes = self.outputs.peak_device_bytes();
        summary.set_estimate(memory.total_bytes());
        summary.trainable_parameters = state.adapter.trainable();
        summary.total_parameters = model.parameters() + state.adapter.trainable();
        summary.seed = recipe.training.seed;
        summary.device = devices.name();
        summary.devices = devices.names();
        summary.compute_dtype = Roundoff::of(&devices.first.device, model.compute_dtype()).name().into();
        summary.threads = devices.threads();
        summary.instruction_sets = self.outputs.instruction_sets().to_vec();
        summary.data_hashes = data.hashes();
        summary.left_out = data.left_out();
        if let Some(base_loss) = state.position.base_loss {
            let words = base.config.vocab_size();
            // What was refused before the first step does not come here.
            summary.warnings.extend(evaluation::suspicion(base_loss, words).ok().flatten());
            let continued = summary.totals.first_loss.filter(|_| recipe.adapter.init_from.is_some());
            let suspicion = continued.and_then(|loss| evaluation::suspicion_of_adapter(loss, base_loss, words));
            summary.warnings.extend(suspicion);
        }
        summary.base_fingerprint.clone_from(&base.fingerprint);
        summary
    }
}

/// The training data in batches, with what the policy that the run starts from says of them.
fn batches<'s>(planned: &'s Planned, references: Option<&'s References>) -> Batches<'s> {
    let reference = references.map(|references| &references.train);
    let needs = planned.steps.step.objective.needs();
    Batches::of(&planned.data, &planned.recipe.training).with(Wanted { needs, reference, shares: true })
}

/// Whether the loss of the base says something of what the run learns: how well prompts are known says nothing of answers to them, and
/// how well texts are known nothing of the numbers that a head gives them.
fn says_base_loss(recipe: &Recipe) -> bool {
    !recipe.task.answers() && recipe.task != Task::Reward
}

/// Whether a run's adapter starts as nothing.
fn starts_as_base(recipe: &Recipe) -> bool {
    let keys = &recipe.adapter;
    keys.init_from.is_none() && keys.init_lora_weights != InitLoraWeights::Pissa
}

/// What the policy that a run starts from says of its rows, where its objective asks for that. It is the base where the adapter
/// starts as nothing, and else the base with the adapter that is continued, without dropout.
fn references(
    planned: &Planned,
    model: &dyn LanguageModel,
    adapter: &Adapter,
    screen: &ProgressBar,
) -> Result<Option<References>> {
    let Planned { recipe, settings, devices, base, data, steps, .. } = planned;
    let needs = steps.step.objective.needs();
    if !needs.reference {
        return Ok(None);
    }
    let (side, of_adapter) = match starts_as_base(recipe) {
        true => (&BaseOnly as &dyn SidePath, "base".to_owned()),
        false => (adapter as &dyn SidePath, adapter.fingerprint().to_hex().to_string()),
    };
    let compute = &devices.first;
    let how = (&compute.name, compute.threads, instruction_set(), settings.holding);
    let policy = Policy { model, side, fingerprint: format!("{}\n{of_adapter}\n{how:?}", base.fingerprint) };
    let of =
        |dataset: &Dataset, binning| policy.of((dataset, binning), needs, data.features.as_ref(), data.cache(), screen);
    let eval = data.eval.as_ref().map(|eval| of(eval, in_order(data.binning)));
    Ok(Some(References { train: of(&data.train, data.binning)?, eval: eval.transpose()? }))
}
