//! A run before its weights are read.

use crate::device::Devices;
use crate::error::{Error, Place, Result};
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::jobs::forecast::beside::Beside;
use crate::jobs::forecast::fit::{self, FitSettings, Sizes};
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::forecast::memory::Estimate;
use crate::jobs::forecast::overview::{DryRun, Overview};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::batches::{Largest, largest_tokens};
use crate::jobs::run::data::Data;
use crate::jobs::run::replicas;
use crate::jobs::run::rewards::Rewards;
use crate::jobs::run::settings::RunSettings;
use crate::jobs::run::steps;
use crate::jobs::run::suited;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use crate::train::run::StepPlan;

/// Rows that a dry run shows.
const PREVIEWED_ROWS: usize = 2;

/// What a run is made of, and what it will do.
pub struct Planned {
    /// Its recipe, made to fit.
    pub recipe: Recipe,
    /// What the recipe says of weights and optimiser.
    pub settings: RunSettings,
    /// Where it computes.
    pub devices: Devices,
    /// The model, not yet loaded.
    pub base: Base,
    /// What is trained.
    pub adapter: AdapterPlan,
    /// What it is trained on.
    pub data: Data,
    /// The steps.
    pub steps: StepPlan,
    /// The memory that they need.
    pub memory: Estimate,
}

/// What of a run was decided when it began, and stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What its products round their factors to.
    pub products: bool,
    /// The micro-batches, and what is recomputed, that `fit: auto` chose.
    pub sizes: bool,
}

impl Planned {
    /// Opens the parts of a run and plans its steps, but for what is decided.
    ///
    /// # Errors
    /// When a part cannot be read, or does not go with the others; when the run needs more memory than there is.
    pub fn new(
        recipe: &Recipe,
        settings: RunSettings,
        devices: Devices,
        decided: Decided,
        dry_run: bool,
        screen: &ProgressBar,
    ) -> Result<Self> {
        if let Some(missing) = Error::many(Rewards::missing(&recipe.rewards, screen)) {
            return Err(missing);
        }
        let named = Place::Key("model.base".into());
        let base = Base::open(&recipe.model.base, named, screen, &|config| {
            AdapterPlan::of(recipe.task, &recipe.adapter, config).map(|_| ())
        })?;
        screen.note(&base.describe());
        Frozen::of(&base).check(&settings.holding)?;
        let adapter = AdapterPlan::of(recipe.task, &recipe.adapter, &base.config)?;
        if let Some(folder) = &recipe.adapter.init_from {
            provenance::warn_of_another_base(&adapter_folder::find(folder, screen)?, &base, screen);
        }
        let prepare = |recipe: &Recipe| Data::prepare(recipe, &base, screen);
        let mut data = prepare(recipe)?;
        let suited = suited::choose(recipe, &mut data, &base.config, &prepare)?;
        let recipe = &suited;
        suited::few_steps(recipe, &data)?.into_iter().for_each(|warning| screen.note(&warning));
        data.warn_of_known_rows(screen);
        data.warn_of_preferences(recipe, screen)?;
        let rewards = Rewards::of(&recipe.rewards)?;
        std::iter::once(&data.train).chain(&data.eval).try_for_each(|rows| rewards.check(rows))?;
        if recipe.task.answers() {
            Rewards::remark(&data.train)?.into_iter().for_each(|remark| screen.note(&remark));
        }
        let longest = data.train.longest_sequence() as usize;
        base.warn_of_context([(longest, "the longest row of the data".to_owned())].into_iter(), screen);
        let sizes = Sizes {
            frozen: Frozen::of(&base),
            trainable: adapter.trainable(),
            beside: Beside::of(&adapter, recipe, &base.config),
            optimizer_slots: settings.rule.slots() as u64,
            largest: &|batch_size, max_length| {
                Largest::of_recipe(recipe, batch_size, max_length, |rows, most| {
                    largest_tokens(&data.train, &data.binning, rows, most)
                })
            },
            devices: devices.count(),
            capacity: devices.capacity(),
        };
        let held = suited::multiply(&suited::hold(recipe, &sizes), &sizes.frozen, &devices, decided.products);
        let (recipe, settings) = (&held, RunSettings::of(&held));
        let recipe = fit::settle(recipe, &sizes, decided.sizes, dry_run, screen)?;
        let micro_batches = recipe.training.gradient_accumulation_steps;
        replicas::remarks(&devices, micro_batches).iter().for_each(|remark| screen.note(remark));
        let need = sizes.need(&FitSettings::of(&recipe));
        let steps = steps::plan(&recipe, &data, need.recompute)?;
        Ok(Planned { recipe, settings, devices, base, adapter, data, steps, memory: need.memory })
    }

    /// Asks the towers about the pictures and sounds of the rows.
    ///
    /// # Errors
    /// As [`Data::encode_media`].
    pub fn encode_media(&mut self, screen: &ProgressBar) -> Result<()> {
        if self.adapter.is_beside_text() && !self.data.has_media() {
            screen.note(
                "warning: a tower or projector is to be trained, and no row has a picture or sound: it stays as it is",
            );
        }
        if self.adapter.trains_towers() && self.data.has_media() {
            screen.note("Towers are trained: they look and listen in every step.");
            self.data.leave_media(&self.devices.first);
            return Ok(());
        }
        self.data.encode_media(&self.base, &self.settings.holding, &self.devices.first, screen)
    }

    /// What the run will do, for the user.
    pub fn overview(&self) -> Overview {
        let layers = self.base.config.num_hidden_layers();
        Overview::new(&self.recipe, &self.adapter, &self.data, &self.steps, self.memory, layers, &self.devices)
    }

    /// The same with the first rows.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn dry_run(&self) -> Result<DryRun> {
        let preview = self.data.first_rows(&self.base.encoder, PREVIEWED_ROWS)?;
        Ok(DryRun { plan: self.overview(), preview })
    }
}
