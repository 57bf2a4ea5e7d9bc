//! `gemma-tune estimate`

use super::args::RecipeArgs;
use crate::error::Result;
use crate::jobs::estimate;
use crate::report::ProgressBar;

/// Arguments of `estimate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Estimates.
    pub fn run(self) -> Result<()> {
        let forecast = estimate::estimate(&self.recipe.load()?, &ProgressBar::stderr())?;
        if self.json { super::print_json(&forecast) } else { super::print(&forecast.to_string()) }
    }
}
