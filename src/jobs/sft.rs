//! Supervised fine-tuning, from a recipe to an adapter folder.

mod planned;
mod session;
mod spare;

use self::planned::{Decided, Planned};
use self::session::Session;
use crate::device;
use crate::error::Result;
use crate::fence::fenced;
use crate::jobs::base::provenance;
use crate::jobs::forecast::fit;
use crate::jobs::forecast::overview::DryRun;
use crate::jobs::push::{Consent, Pushed};
use crate::jobs::run::folder::RunFolder;
use crate::jobs::run::interrupt::{Interrupt, Stage};
use crate::jobs::run::pushing::Pushing;
use crate::jobs::run::resuming::{self, Left};
use crate::jobs::run::samples::{self, Prompts};
use crate::jobs::run::settings::RunSettings;
use crate::jobs::run::suited;
use crate::jobs::run::verdict;
use crate::jobs::self_check;
use crate::recipe::{Recipe, Task};
use crate::report::ProgressBar;
use crate::train::run::Ending;

/// How a run was asked for.
#[derive(Clone)]
pub struct TrainOptions<'a> {
    /// The devices, as the user named them.
    pub device: &'a str,
    /// Continue the newest good checkpoint.
    pub resume: bool,
    /// Stop before the first step.
    pub dry_run: bool,
    /// The recipe is in no file: it is to be shown.
    pub is_made: bool,
    /// Asks whether files on the Hub may be replaced.
    pub consent: Consent<'a>,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// A run, which is over or was interrupted, and what was published of it.
    Ended(Ending, Option<Box<Pushed>>),
    /// A dry run, which trained nothing.
    Planned(Box<DryRun>),
}

/// Trains what a recipe describes and leaves everything under `output.dir`.
///
/// # Errors
/// Wrong input before anything is loaded; what goes wrong later leaves the checkpoints that are there.
pub fn train(recipe: &Recipe, options: &TrainOptions, screen: &ProgressBar, stop: &Interrupt) -> Result<Outcome> {
    let named = |error| recipe.places.locate(provenance::name_bases(error, &recipe.model.base));
    run(recipe, options, screen, stop).map_err(named)
}

fn run(recipe: &Recipe, options: &TrainOptions, screen: &ProgressBar, stop: &Interrupt) -> Result<Outcome> {
    let settings = RunSettings::of(recipe);
    let devices = settings.open_devices(options.device)?;
    if options.resume {
        resuming::find(&recipe.output.dir)?;
    }
    let folder = RunFolder::open(&recipe.output.dir, options.resume, options.dry_run)?;
    if let Some(problem) = folder.occupied().filter(|_| options.dry_run && !options.resume) {
        screen.note(&format!("Warning: {}, and this run would be refused", problem.what()));
    }
    if !options.dry_run {
        stop.works_in(&recipe.output.dir, options.device);
    }
    let saved = folder.path("recipe.yaml");
    let suited = if options.resume { Some(suited::begun(recipe, &saved)?) } else { None };
    let recipe = suited.as_ref().unwrap_or(recipe);
    let begun = if options.resume { fit::begun(recipe, &saved)? } else { None };
    let recipe = begun.as_ref().unwrap_or(recipe);
    if options.resume && resuming::look(recipe, &folder, screen)? == Left::Nothing {
        screen.note("This run is finished.");
        return Ok(Outcome::Ended(Ending::Done, None));
    }

    let pushing = Pushing::check(recipe, options.consent, screen)?;
    let is_begun = options.resume && saved.exists();
    let decided = Decided { products: is_begun, sizes: begun.is_some() };
    let mut planned = Planned::new(recipe, settings, devices, decided, options.dry_run, screen)?;
    if options.is_made {
        screen.note(
            &planned.recipe.to_brief_yaml(&["The recipe that was made; all of it is in the run's `recipe.yaml`."]),
        );
    }
    if options.dry_run {
        return Ok(Outcome::Planned(Box::new(planned.dry_run()?)));
    }
    screen.note(&planned.overview().to_string());
    let ending = loop {
        let error = match attempt(&mut planned, &folder, options, screen, stop) {
            Ok(ending) => break ending,
            Err(error) => error,
        };
        let what = error.what().to_owned();
        let (smaller, changes) = spare::smaller(error, &planned, &folder, options.device)?;
        screen.note(&format!("warning: {what}; going on with `{changes}`"));
        planned.devices.all().for_each(|compute| device::release(&compute.device));
        let settings = RunSettings::of(&smaller);
        let decided = Decided { products: true, sizes: true };
        planned = Planned::new(&smaller, settings, planned.devices.clone(), decided, false, screen)?;
    };
    if let Some(pushing) = pushing.filter(|_| ending != Ending::Interrupted) {
        let adapter = folder.path("adapter");
        stop.pushes(pushing.command(&adapter));
        return Ok(Outcome::Ended(ending, Some(Box::new(pushing.push(&adapter, screen)?))));
    }
    Ok(Outcome::Ended(ending, None))
}

/// Takes the steps that are left, and writes the adapter after the last.
///
/// # Errors
/// When a part of the run cannot be read or written; when its device fails.
fn attempt(
    planned: &mut Planned,
    folder: &RunFolder,
    options: &TrainOptions,
    screen: &ProgressBar,
    stop: &Interrupt,
) -> Result<Ending> {
    planned.encode_media(screen)?;
    let rows = samples::rows(&planned.data, &planned.base)?;
    let prompts = Prompts::of(&planned.data, planned.recipe.evaluation.samples, &planned.base)?;
    // What comes next runs on one device.
    let several = planned.devices.count() > 1;
    let device = if several { &planned.devices.first.name } else { options.device };
    let adapter = folder.path("adapter");
    let is_router = planned.recipe.task == Task::Reward && planned.data.train.get(0)?.is_judged_prompt();
    let next = planned.base.tokenizer().is_ok().then(|| verdict::next(&planned.recipe, &adapter, device, is_router));
    if planned.recipe.grpo.is_none() {
        planned.base.release_encoder();
    }

    for compute in planned.devices.all().filter(|compute| !compute.is_cpu()) {
        let agreement = self_check::compare(compute)?;
        agreement.warnings().iter().for_each(|what| screen.note(&format!("warning: {what}")));
        screen.note(&format!("{} computes what the CPU computes.", compute.describe()));
    }
    let mut session = fenced("loading the model", || Session::begin(planned, folder, screen))??;
    if session.is_new() {
        session.show(rows)?;
        fenced("the longest micro-batch", || session.probe())??;
    }
    stop.enter(Stage::Training);
    let ending = session.train(prompts.as_ref(), stop.flag())?;
    if ending != Ending::Interrupted {
        stop.enter(Stage::Publishing);
        fenced("writing the adapter", || session.publish(ending, next.as_deref()))??;
    }
    Ok(ending)
}

#[cfg(test)]
mod tests;
