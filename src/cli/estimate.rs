//! `gemma-tune estimate`

use super::args::RecipeArgs;
use super::relief::Relief;
use crate::error::Result;
use crate::jobs::estimate::{self, EstimateOptions};
use crate::report::ProgressBar;

/// Arguments of `estimate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]; several share out the micro-batches of each
    /// step: cuda:0,1, or cpu,cpu for two replicas on the CPU
    #[arg(long, default_value = "auto")]
    device: String,
    /// State the memory alone, and time nothing
    #[arg(long)]
    no_probe: bool,
}

impl Args {
    /// What helps where its device fails.
    pub fn relief(&self) -> Relief {
        Relief::on("estimating", &self.device).with("`--no-probe`")
    }

    /// Prints the memory and time that the recipe's run takes.
    pub fn run(self) -> Result<()> {
        let options = EstimateOptions { device: &self.device, probe: !self.no_probe };
        let forecast = estimate::estimate(&self.recipe.load()?, &options, &ProgressBar::stderr())?;
        if self.json { super::print_json(&forecast) } else { super::print_text(&forecast.to_string()) }
    }
}
