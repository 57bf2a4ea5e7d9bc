//! `gemma-tune train`

use super::args::path;
use super::relief::Relief;
use super::{data, interrupt, push};
use crate::error::{Error, Kind, Result};
use crate::jobs::draft::Draft;
use crate::jobs::run::interrupt::Interrupt;
use crate::jobs::sft::{self, Outcome, TrainOptions};
use crate::recipe::{self, Recipe, as_options};
use crate::report::ProgressBar;
use crate::train::run::Ending;
use std::path::PathBuf;

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe, a YAML file; or name a model and data, and what suits them is chosen
    #[arg(value_parser = path())]
    recipe: Option<PathBuf>,
    /// Without a recipe: the base model, a Hub id[@revision], a folder, a .gguf file, or ollama:NAME[:TAG]
    #[arg(long)]
    model: Option<String>,
    /// Without a recipe: rows to train on, a file, a glob, a folder, or an hf:// data set; repeatable
    #[arg(long)]
    data: Vec<String>,
    /// Without a recipe: the folder for everything that the run leaves [default: out/<model>-<data>]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Change a key, as in `--set training.seed=7`; repeatable
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Continue the newest good checkpoint in output.dir
    #[arg(long)]
    resume: bool,
    /// Do everything up to the first step: checks, plan, memory, a preview
    #[arg(long)]
    dry_run: bool,
    /// Print what a dry run found as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]; several share out the micro-batches of each
    /// step: cuda:0,1, or cpu,cpu for two replicas on the CPU
    #[arg(long, default_value = "auto")]
    device: String,
}

/// What keys of a recipe are called where a model and data are options.
const OF_A_RUN: &[(&str, &str)] = &[("model.base", "--model"), ("data.train", "--data"), ("output.dir", "--output")];

impl Args {
    /// What helps where its device fails before a run has begun; then it knows better.
    pub fn relief(&self) -> Relief {
        Relief::on("training", &self.device)
    }

    /// Trains, and returns the exit code.
    pub fn run(self) -> Result<u8> {
        let screen = ProgressBar::stderr();
        let stop = interrupt::stop_on_ctrl_c(&screen)?;
        // Who has no recipe has no keys to change in it.
        let is_made = self.recipe.is_none();
        self.train(is_made, &screen, &stop).map_err(|error| match is_made {
            true => error.reword(&|hint| as_options(hint, OF_A_RUN)),
            false => error,
        })
    }

    fn train(&self, is_made: bool, screen: &ProgressBar, stop: &Interrupt) -> Result<u8> {
        let recipe = self.recipe(screen)?;
        let consent = |question: &str| {
            let hint = "name an empty repository, set `output.hub_overwrite: true` where these files may be replaced, or leave \
                        `output.push_to_hub` and the `hub_` keys beside it out and push the adapter later: `gemma-tune push` \
                        asks, or takes `--yes`";
            match self.dry_run {
                true => {
                    screen.note(&format!("Warning: {question}"));
                    Ok(())
                }
                false => push::ask(question, hint, screen),
            }
        };
        let options = TrainOptions {
            device: &self.device,
            resume: self.resume,
            dry_run: self.dry_run,
            is_made,
            consent: &consent,
        };
        match sft::train(&recipe, &options, screen, stop)? {
            Outcome::Planned(found) if self.json => super::print_json(&found).map(|()| 0),
            Outcome::Planned(found) => {
                super::print_text(&found.plan.to_string())?;
                found.preview.iter().try_for_each(data::show)?;
                Ok(0)
            }
            Outcome::Ended(Ending::Interrupted, _) => {
                let standing = stop.standing();
                screen.note(&standing.text);
                Ok(interrupt::exit_code(&standing))
            }
            Outcome::Ended(Ending::Done | Ending::StoppedEarly, pushed) => {
                pushed.iter().try_for_each(|pushed| push::report(pushed, screen))?;
                Ok(0)
            }
        }
    }

    /// The recipe: of a file, or made of what was named.
    fn recipe(&self, screen: &ProgressBar) -> Result<Recipe> {
        let wrong = |what: &str, hint: &str| Err(Error::new(Kind::Recipe, what).hint(hint));
        match (&self.recipe, &self.model, self.data.as_slice()) {
            (Some(recipe), None, []) if self.output.is_none() => recipe::load(recipe, &self.set),
            (Some(_), ..) => wrong(
                "a recipe says itself what `--model`, `--data` and `--output` say",
                "leave the recipe out, or change it with `--set model.base=..`, `--set data.train=..`, `--set output.dir=..`",
            ),
            (None, Some(model), data @ [_, ..]) => {
                let draft = Draft { model, data, output: self.output.as_deref(), set: &self.set };
                draft.recipe(self.resume, screen)
            }
            (None, Some(_), []) => {
                wrong("`--model` alone does not say what to train on", "name the rows with `--data`")
            }
            (None, None, [_, ..]) => wrong("`--data` alone does not say what to train", "name the base with `--model`"),
            (None, None, []) => wrong(
                "there is neither a recipe nor a model and data",
                "`gemma-tune train RECIPE`, or `gemma-tune train --model M --data FILE`",
            ),
        }
    }
}
