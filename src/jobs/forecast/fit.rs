//! How much memory a run needs with which settings, and which settings make it fit.

use crate::device::Capacity;
use crate::error::{Error, Kind, Place, Result};
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::forecast::memory::{self, Estimate, Workload};
use crate::jobs::run::batches::Largest;
use crate::jobs::run::settings::RunSettings;
use crate::jobs::run::{rollouts, samples};
use crate::progress::Progress;
use crate::recipe::{self, AutoBool, Fit, Recipe};
use crate::report::text;
use crate::train::recompute::Recompute;
use crate::weights::{Compression, Holding};
use serde::Serialize;
use std::path::Path;

/// Rows shorter than this are no advice.
const SHORTEST_ADVISED: usize = 128;

/// The settings of a recipe that its memory depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FitSettings {
    /// How frozen weights are held.
    pub holding: Holding,
    /// Sequences at once.
    pub batch_size: usize,
    /// Passes in a step.
    pub accumulation: usize,
    /// Tokens in a sequence.
    pub max_length: usize,
    /// Whether layers are recomputed on the way back.
    pub activation_checkpointing: AutoBool,
    /// Evaluation prompts that are answered between steps.
    pub samples: usize,
    /// Answers at once that are drawn for each step, and the most tokens of each with its prompt.
    pub drawn: Option<[usize; 2]>,
    /// Whether another number of sequences at once would learn something else.
    pub is_one_batch: bool,
}

impl FitSettings {
    /// Those of a recipe.
    pub fn of(recipe: &Recipe) -> Self {
        FitSettings {
            holding: RunSettings::of(recipe).holding,
            batch_size: recipe.training.per_device_train_batch_size,
            accumulation: recipe.training.gradient_accumulation_steps,
            max_length: recipe.data.max_length,
            activation_checkpointing: recipe.training.activation_checkpointing,
            // Of answers that are judged anyway some are shown.
            samples: if recipe.task.answers() { 0 } else { recipe.evaluation.samples },
            drawn: recipe.grpo.as_ref().map(|keys| {
                let at_once = rollouts::at_once(keys, &recipe.training);
                let has_rows = !recipe.data.eval.is_empty() || recipe.data.eval_fraction.holds_back();
                let of_evaluation = if has_rows { keys.generations_of_evaluation() } else { 0 };
                [at_once.max(of_evaluation), recipe.data.max_length]
            }),
            is_one_batch: recipe.estimates_divergence(),
        }
    }

    /// The recipe with the settings that change how a step is computed, but not what it computes.
    fn written_into(&self, recipe: &Recipe) -> Recipe {
        let mut recipe = recipe.clone();
        recipe.training.per_device_train_batch_size = self.batch_size;
        recipe.training.gradient_accumulation_steps = self.accumulation;
        recipe.training.activation_checkpointing = self.activation_checkpointing;
        recipe
    }

    /// Smaller and smaller micro-batches, this one first, with as many sequences in a step.
    fn smaller_batches(&self) -> impl Iterator<Item = FitSettings> {
        let (this, in_a_step) = (*self, self.batch_size.saturating_mul(self.accumulation));
        let least = if this.is_one_batch { this.batch_size } else { 1 };
        let sizes = (least..=this.batch_size).rev().filter(move |&size| in_a_step.is_multiple_of(size));
        sizes
            .map(move |batch_size| FitSettings { batch_size, accumulation: in_a_step / batch_size, ..this })
            .filter(|settings| settings.accumulation <= recipe::MAX_BATCH)
    }

    /// What differs from `before`, as `--set` takes it.
    fn changes(&self, before: &FitSettings) -> Vec<String> {
        let mut keys = Vec::new();
        if self.activation_checkpointing != before.activation_checkpointing {
            keys.push("training.activation_checkpointing=true".into());
        }
        if self.batch_size != before.batch_size {
            keys.push(format!("training.per_device_train_batch_size={}", self.batch_size));
            keys.push(format!("training.gradient_accumulation_steps={}", self.accumulation));
        }
        if self.holding.projections != before.holding.projections {
            let name = if self.holding.projections == Compression::AsStored { "as_stored" } else { "nf4_double" };
            keys.push(format!("model.quantization={name}"));
        }
        if self.holding.embedding_int8 != before.holding.embedding_int8 {
            keys.push("model.embedding_quantization=int8".into());
        }
        if self.max_length != before.max_length {
            keys.push(format!("data.max_length={}", self.max_length));
        }
        keys
    }
}

/// What a run needs.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Tokens in the largest micro-batch.
    pub tokens: u64,
    /// The layers that are recomputed on the way back.
    pub recompute: Recompute,
    /// Memory by component.
    pub memory: Estimate,
}

/// Settings that need less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// What to change, as `--set` takes it.
    pub set: Vec<String>,
    /// The estimate with these changes.
    pub memory_bytes: u64,
    /// Whether that is free.
    pub fits: bool,
}

/// Everything else that the memory of a run depends on.
pub struct Sizes<'a> {
    /// The base.
    pub frozen: Frozen<'a>,
    /// Values that are trained.
    pub trainable: u64,
    /// What the adapter takes beside the frozen model.
    pub beside: Beside,
    /// State tensors of the optimiser per trained value.
    pub optimizer_slots: u64,
    /// The largest micro-batch of so many sequences of at most so many tokens.
    pub largest: &'a dyn Fn(usize, usize) -> Largest,
    /// Devices that share out the micro-batches of a step.
    pub devices: usize,
    /// Where it will compute; of several GPUs, each.
    pub capacity: Capacity,
}

impl Sizes<'_> {
    /// What a run needs with these settings.
    pub fn need(&self, settings: &FitSettings) -> Need {
        let config = self.frozen.config;
        let Largest { tokens, looked_at } = (self.largest)(settings.batch_size, settings.max_length);
        let mut work = Workload {
            base_bytes: self.frozen.bytes(&settings.holding),
            trainable: self.trainable,
            optimizer_slots: self.optimizer_slots,
            tokens,
            looked_at,
            recompute: Recompute::NOTHING,
            accumulates: settings.accumulation > 1,
            replicas: self.devices.min(settings.accumulation) as u64,
            beside: self.beside,
            sampled: settings.drawn.map_or(settings.samples.min(samples::BATCH), |[answers, _]| answers) as u64,
            sampled_tokens: settings
                .drawn
                .map_or(settings.max_length.saturating_add(samples::ANSWER_TOKENS), |[_, tokens]| tokens)
                as u64,
            gpu: self.capacity.gpu.map(|fastest| self.frozen.gpu_products(&settings.holding, fastest)),
        };
        work.recompute = match settings.activation_checkpointing {
            AutoBool::True => Recompute::ALL,
            AutoBool::False => Recompute::NOTHING,
            AutoBool::Auto => memory::recompute(config, &work, self.capacity.budget_bytes()),
        };
        Need { tokens: work.tokens, recompute: work.recompute, memory: memory::estimate(config, &work) }
    }

    /// Whether a run fits with these settings; yes where the free memory is not known.
    pub fn fits(&self, settings: &FitSettings) -> bool {
        self.capacity.available_bytes.is_none_or(|free| self.need(settings).memory.total_bytes() <= free)
    }

    /// The settings nearest to those `asked` for that fit and train the same: smaller micro-batches, of which a step
    /// then has more, cost little; recomputing activations costs a forward pass, and comes last.
    fn fitting(&self, asked: &FitSettings) -> Option<FitSettings> {
        [asked.activation_checkpointing, AutoBool::True]
            .into_iter()
            .flat_map(|activation_checkpointing| {
                asked.smaller_batches().map(move |settings| FitSettings { activation_checkpointing, ..settings })
            })
            .find(|settings| self.fits(settings))
    }

    /// Each setting that lowers the need, by itself; and if none of them is enough, all that it takes together.
    pub fn suggestions(&self, asked: &FitSettings) -> Vec<Suggestion> {
        let mut suggestions: Vec<Suggestion> = Vec::new();
        let mut together = *asked;
        for change in
            [Self::recompute, Self::smaller_batch, Self::compress, Self::compress_embedding, Self::shorter_rows]
        {
            suggestions.extend(change(self, asked).and_then(|settings| self.suggestion(&settings, asked)));
            if !self.fits(&together) {
                together = change(self, &together).unwrap_or(together);
            }
        }
        if !suggestions.iter().any(|suggestion| suggestion.fits) && suggestions.len() > 1 {
            suggestions.extend(self.suggestion(&together, asked));
        }
        suggestions
    }

    fn suggestion(&self, settings: &FitSettings, asked: &FitSettings) -> Option<Suggestion> {
        let memory_bytes = self.need(settings).memory.total_bytes();
        let lower = memory_bytes < self.need(asked).memory.total_bytes();
        lower.then(|| Suggestion { set: settings.changes(asked), memory_bytes, fits: self.fits(settings) })
    }

    fn recompute(&self, settings: &FitSettings) -> Option<FitSettings> {
        let layers = self.frozen.config.num_hidden_layers();
        let keeps = self.need(settings).recompute.of(layers) < layers;
        keeps.then_some(FitSettings { activation_checkpointing: AutoBool::True, ..*settings })
    }

    /// The largest micro-batch that fits, or else one sequence.
    fn smaller_batch(&self, settings: &FitSettings) -> Option<FitSettings> {
        self.first_that_fits(settings.smaller_batches().skip(1))
    }

    /// The smallest form that these weights can be held in.
    fn compress(&self, settings: &FitSettings) -> Option<FitSettings> {
        let with = |projections| Holding { projections, ..settings.holding };
        let held = [Compression::Nf4Double, Compression::AsStored].map(with).into_iter();
        let held = held.filter(|holding| self.frozen.check(holding).is_ok());
        let held = held.min_by_key(|holding| self.frozen.bytes(holding))?;
        (held != settings.holding).then_some(FitSettings { holding: held, ..*settings })
    }

    fn compress_embedding(&self, settings: &FitSettings) -> Option<FitSettings> {
        let held = Holding { embedding_int8: true, ..settings.holding };
        (held != settings.holding).then_some(FitSettings { holding: held, ..*settings })
    }

    /// Half the length, and half of that, until it fits or is hardly worth training on.
    fn shorter_rows(&self, settings: &FitSettings) -> Option<FitSettings> {
        let halves = std::iter::successors(Some(settings.max_length / 2), |length| Some(length / 2));
        let lengths = halves.take_while(|&length| length >= SHORTEST_ADVISED);
        self.first_that_fits(lengths.map(|max_length| FitSettings { max_length, ..*settings }))
    }

    /// The first that fits, or else the last.
    fn first_that_fits(&self, candidates: impl Iterator<Item = FitSettings>) -> Option<FitSettings> {
        let mut last = None;
        candidates.inspect(|settings| last = Some(*settings)).find(|settings| self.fits(settings)).or(last)
    }
}

/// Suggestions in a sentence.
fn advice(suggestions: &[Suggestion]) -> String {
    let with = |s: &Suggestion| format!("`{}` ({})", s.set.join(" "), text::bytes(s.memory_bytes));
    let enough: Vec<String> = suggestions.iter().filter(|s| s.fits).map(with).collect();
    match (enough.as_slice(), suggestions.last()) {
        ([], None) => "nothing in the recipe would lower that".into(),
        ([], Some(most)) => format!("not enough, but as low as it goes: {}", with(most)),
        (enough, _) => format!("any of these makes it fit: {}", enough.join(", ")),
    }
}

/// Makes a recipe fit where it asks for that, and says what does not fit, before any weights are read. `keep` leaves
/// the settings alone, as for a run that has begun with them.
///
/// # Errors
/// When the run needs more memory than the machine has, and is not just looked at.
pub fn settle(recipe: &Recipe, sizes: &Sizes, keep: bool, dry_run: bool, progress: &dyn Progress) -> Result<Recipe> {
    let asked = FitSettings::of(recipe);
    let Some(free) = sizes.capacity.available_bytes.filter(|_| !sizes.fits(&asked)) else { return Ok(recipe.clone()) };
    let need = sizes.need(&asked).memory;
    let needs = format!("this run needs about {}", text::bytes(need.total_bytes()));
    if recipe.training.fit == Fit::Auto
        && !keep
        && let Some(fitting) = sizes.fitting(&asked)
    {
        let total = text::bytes(sizes.need(&fitting).memory.total_bytes());
        let changes = fitting.changes(&asked).join(" ");
        progress.note(&format!("{needs}, and {} is free: with `{changes}` it needs {total}", text::bytes(free)));
        return Ok(fitting.written_into(recipe));
    }
    let advice = advice(&sizes.suggestions(&asked));
    // Pages of a mapped file can be given back and read again.
    let is_mapped = asked.holding.projections == Compression::AsStored && sizes.capacity.gpu.is_none();
    let mapped = if is_mapped { need.base_bytes } else { 0 };
    if let Some(all) = sizes.capacity.total_bytes.filter(|&all| need.total_bytes() - mapped > all)
        && !dry_run
    {
        let whose = if sizes.capacity.gpu.is_some() { "the device" } else { "this machine" };
        let what = format!("{needs}, and {whose} has {}", text::bytes(all));
        return Err(Error::new(Kind::Recipe, what).at(Place::Key("model.base".into())).hint(advice));
    }
    progress.note(&format!("warning: {needs}, and {} is free; {advice}", text::bytes(free)));
    Ok(recipe.clone())
}

/// The next smaller settings than those of a recipe that train the same, where the memory of its device has ended all the
/// same: the recipe with them, and what they change, as `--set` takes it. `None` where one sequence at once is recomputed
/// already.
pub fn next_smaller(recipe: &Recipe, is_recomputed: bool) -> Option<(Recipe, Vec<String>)> {
    let now = FitSettings::of(recipe);
    let recomputed = || FitSettings { activation_checkpointing: AutoBool::True, ..now };
    let smaller = now.smaller_batches().nth(1).or_else(|| (!is_recomputed).then(recomputed))?;
    Some((smaller.written_into(recipe), smaller.changes(&now)))
}

/// The recipe with the settings that `fit: auto` chose when the run began whose recipe was saved at `path`; `None` if
/// there is no such run, or the recipe has other ideas about them by now.
///
/// # Errors
/// When the recipe of that run cannot be read.
pub fn begun(recipe: &Recipe, path: &Path) -> Result<Option<Recipe>> {
    if recipe.training.fit == Fit::Off || !path.exists() {
        return Ok(None);
    }
    let begun = FitSettings::of(&recipe::load(path, &[])?);
    let asked = FitSettings::of(recipe);
    let same =
        asked.smaller_batches().any(|s| s.batch_size == begun.batch_size && s.accumulation == begun.accumulation);
    let checkpointing = [asked.activation_checkpointing, AutoBool::True].contains(&begun.activation_checkpointing);
    Ok((same && checkpointing).then(|| begun.written_into(recipe)))
}

#[cfg(test)]
mod tests;
