//! `gemma-tune train`

use super::args::RecipeArgs;
use super::data;
use crate::error::{Error, Kind, Result};
use crate::jobs::sft::{self, Outcome, TrainOptions};
use crate::report::ProgressBar;
use crate::train::run::Ending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        let stop = stop_on_ctrl_c(&screen)?;
        let options = TrainOptions { device: &self.device, resume: self.resume, dry_run: self.dry_run };
        match sft::train(&recipe, &options, &screen, &stop)? {
            Outcome::Planned(found) if self.json => super::print_json(&found).map(|()| 0),
            Outcome::Planned(found) => {
                super::print(&found.plan.to_string())?;
                found.preview.iter().try_for_each(data::show)?;
                Ok(0)
            }
            Outcome::Ended(Ending::Interrupted) => {
                screen.note("Interrupted. The run is saved; `--resume` continues it.");
                Ok(Kind::Interrupted.exit_code())
            }
            Outcome::Ended(Ending::Done | Ending::StoppedEarly) => Ok(0),
        }
    }
}

/// The first Ctrl-C asks the run to save and stop; the second ends the program at once.
fn stop_on_ctrl_c(screen: &ProgressBar) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, screen) = (stop.clone(), screen.clone());
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Kind::Interrupted.exit_code()));
        }
        screen.note("Stopping after this step; Ctrl-C again stops at once.");
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::new(Kind::Run, format!("Ctrl-C cannot be handled: {e}")).caused_by(e))?;
    Ok(stop)
}
