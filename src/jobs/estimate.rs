//! The memory of a run and the time of its steps, from its recipe and the headers of its base: no weights and no data
//! are read.

use crate::error::Result;
use crate::jobs::base::outline::{Outline, SizesFrom};
use crate::jobs::base::provenance;
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::fit::{FitSettings, Sizes, Suggestion};
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::forecast::memory::{Activations, Estimate};
use crate::jobs::forecast::pace::{Pace, TimedRun};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::batches::Largest;
use crate::jobs::run::data::sequences;
use crate::jobs::run::replicas;
use crate::jobs::run::settings::RunSettings;
use crate::jobs::run::suited;
use crate::progress::Progress;
use crate::recipe::{AutoBool, Recipe};
use crate::report::text;
use serde::Serialize;
use std::fmt;

/// What a run will need.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The base, as the recipe names it.
    pub model: String,
    /// The device that would compute, or those that would share out each step, as `--device` takes them.
    pub device: String,
    /// Each of them.
    pub devices: Vec<String>,
    /// Where its sizes come from.
    pub sizes_from: SizesFrom,
    /// Values that are trained.
    pub trainable_parameters: u64,
    /// Sequences at once.
    pub batch_size: u64,
    /// The longest that a sequence may be.
    pub max_length: u64,
    /// Tokens in a micro-batch of that length.
    pub tokens: u64,
    /// What becomes of activations.
    #[serde(flatten)]
    pub activations: Activations,
    /// The estimated peak of memory: of all replicas on the CPU together, of several GPUs that of the one with the optimiser.
    pub memory_bytes: u64,
    /// What it is made of.
    pub memory: Estimate,
    /// The peak with layers recomputed.
    pub memory_bytes_recomputing: u64,
    /// The peak with everything kept.
    pub memory_bytes_keeping: u64,
    /// Memory that is free, where that can be asked; of several GPUs on the one that has the least.
    pub available_bytes: Option<u64>,
    /// Memory of the machine, or of the GPU that computes, where that can be asked.
    pub machine_bytes: Option<u64>,
    /// Whether the run fits into what is free; yes where that is not known.
    pub fits: bool,
    /// If it does not: what needs less.
    pub suggestions: Vec<Suggestion>,
    /// How long a step takes.
    #[serde(flatten)]
    pub pace: Pace,
}

/// How an estimate was asked for.
#[derive(Debug, Clone, Copy)]
pub struct EstimateOptions<'a> {
    /// The devices, as the user named them.
    pub device: &'a str,
    /// Measure the time of a step.
    pub probe: bool,
}

/// Estimates the memory of a recipe's run, and the time of its steps.
///
/// # Errors
/// When there is no such device, when the base cannot be found, or when the recipe does not fit it.
pub fn estimate(recipe: &Recipe, options: &EstimateOptions, progress: &dyn Progress) -> Result<Forecast> {
    let named = |error| recipe.places.locate(provenance::name_bases(error, &recipe.model.base));
    forecast(recipe, options, progress).map_err(named)
}

fn forecast(recipe: &Recipe, options: &EstimateOptions, progress: &dyn Progress) -> Result<Forecast> {
    let settings = RunSettings::of(recipe);
    let devices = settings.open_devices(options.device)?;
    let outline = Outline::find(&recipe.model.base, progress)?;
    let frozen = Frozen { config: &outline.config, source: outline.source.as_ref() };
    frozen.check(&settings.holding)?;
    let recipe = &suited::multiply(recipe, &frozen, &devices, false);
    let settings = RunSettings::of(recipe);
    let adapter = AdapterPlan::of(recipe.task, &recipe.adapter, &outline.config)?;
    // Of a pair each answer with its prompt is a sequence.
    let sequences = sequences(recipe);
    let largest = |batch_size: usize, max_length: usize| {
        Largest::of_recipe(recipe, batch_size, max_length, |rows, most| (rows as u64).saturating_mul(most as u64))
    };
    let sizes = Sizes {
        frozen,
        trainable: adapter.trainable(),
        beside: Beside::of(&adapter, recipe, &outline.config),
        optimizer_slots: settings.rule.slots() as u64,
        largest: &largest,
        devices: devices.count(),
        capacity: devices.capacity(),
    };
    if recipe.auto.contains("data.max_length") {
        let most = text::count(recipe.data.max_length as u64);
        progress
            .note(&format!("`data.max_length: auto` is taken as {most}, the most it can be: no rows are read here"));
    }
    let mapped = frozen.mapped_bytes(&settings.holding);
    if mapped > 0 {
        let mapped = text::bytes(mapped);
        progress.note(&format!(
            "The per-layer embedding ({mapped}) stays in its file and is not counted: the system takes its pages back"
        ));
    }
    if recipe.grpo.is_some() {
        progress
            .note("Each step first draws its answers and has them judged: that is in the memory, and not in the time.");
    }
    let asked = FitSettings::of(recipe);
    replicas::remarks(&devices, asked.accumulation).iter().for_each(|remark| progress.note(remark));
    let need = sizes.need(&asked);
    let total =
        |activation_checkpointing| sizes.need(&FitSettings { activation_checkpointing, ..asked }).memory.total_bytes();
    let fits = sizes.fits(&asked);
    let run = TimedRun::of(recipe, settings, &sizes, &adapter, need.recompute);
    Ok(Forecast {
        model: recipe.model.base.clone(),
        device: devices.name(),
        devices: devices.names(),
        sizes_from: outline.sizes_from,
        trainable_parameters: sizes.trainable,
        batch_size: asked.batch_size.saturating_mul(sequences) as u64,
        max_length: asked.max_length as u64,
        tokens: need.tokens,
        activations: Activations::new(need.recompute, outline.config.num_hidden_layers()),
        memory_bytes: need.memory.total_bytes(),
        memory: need.memory,
        memory_bytes_recomputing: total(AutoBool::True),
        memory_bytes_keeping: total(AutoBool::False),
        available_bytes: sizes.capacity.available_bytes,
        machine_bytes: sizes.capacity.total_bytes,
        fits,
        suggestions: if fits { Vec::new() } else { sizes.suggestions(&asked) },
        pace: match options.probe {
            true => Pace::measure(&run, &devices.first, progress),
            false => Pace::unmeasured(&run, "not asked for"),
        },
    })
}

impl Forecast {
    /// Whether several GPUs would share out each step.
    fn is_on_gpus(&self) -> bool {
        self.devices.len() > 1 && self.devices.iter().any(|device| device != "cpu")
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.sizes_from {
            SizesFrom::Headers => "sizes from its headers",
            SizesFrom::Published => "sizes as published, in bf16; nothing was downloaded",
            SizesFrom::Config => "sizes from its config.json, taken to be in bf16",
        };
        let (count, bytes) = (text::count, text::bytes);
        writeln!(f, "Model: {}: {from}", self.model)?;
        writeln!(f, "Adapter: {} trainable parameters", count(self.trainable_parameters))?;
        let how = self.activations;
        writeln!(f, "Micro-batch: up to {} x {} tokens, {how}", count(self.batch_size), count(self.max_length))?;
        let first = if self.is_on_gpus() { " on the first GPU, less on the others" } else { "" };
        writeln!(f, "Memory: about {}{first} ({})", bytes(self.memory_bytes), self.memory)?;
        let (kept, recomputed) = (bytes(self.memory_bytes_keeping), bytes(self.memory_bytes_recomputing));
        write!(f, "Total: {kept} with all activations kept, {recomputed} with layers recomputed")?;
        write!(f, "\nTime on {}: {}", self.device, self.pace)?;
        let (Some(free), Some(machine)) = (self.available_bytes, self.machine_bytes) else { return Ok(()) };
        let fits = if self.fits { "fits" } else { "does not fit" };
        write!(f, "\nMachine: {} of {} free on {}; the run {fits}", bytes(free), bytes(machine), self.device)?;
        for suggestion in &self.suggestions {
            let fits = if suggestion.fits { "fits" } else { "" };
            let set: Vec<String> = suggestion.set.iter().map(|set| format!("--set {set}")).collect();
            write!(f, "\n  {:>8} {fits:<4}  {}", bytes(suggestion.memory_bytes), set.join(" "))?;
        }
        Ok(())
    }
}
