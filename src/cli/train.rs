//! `gemma-tune train`

use super::args::RecipeArgs;
use super::{data, interrupt};
use crate::error::Result;
use crate::jobs::sft::{self, Outcome, TrainOptions};
use crate::report::ProgressBar;
use crate::train::run::Ending;

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Continue the newest good checkpoint in output.dir
    #[arg(long)]
    resume: bool,
    /// Do everything up to the first step: checks, plan, memory, a preview
    #[arg(long)]
    dry_run: bool,
    /// Print what a dry run found as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Args {
    /// Trains, and returns the exit code.
    pub fn run(self) -> Result<u8> {
        let recipe = self.recipe.load()?;
        let screen = ProgressBar::stderr();
        let stop = interrupt::stop_on_ctrl_c(&screen)?;
        let options = TrainOptions { device: &self.device, resume: self.resume, dry_run: self.dry_run };
        match sft::train(&recipe, &options, &screen, &stop)? {
            Outcome::Planned(found) if self.json => super::print_json(&found).map(|()| 0),
            Outcome::Planned(found) => {
                super::print(&found.plan.to_string())?;
                found.preview.iter().for_each(data::show);
                Ok(0)
            }
            Outcome::Ended(Ending::Interrupted) => {
                let standing = stop.standing();
                screen.note(&standing.text);
                Ok(interrupt::exit_code(&standing))
            }
            Outcome::Ended(Ending::Done | Ending::StoppedEarly) => Ok(0),
        }
    }
}
