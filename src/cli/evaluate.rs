//! `gemma-tune evaluate`

use super::args::{RecipeArgs, path};
use crate::error::Result;
use crate::jobs::evaluate;
use crate::report::{ProgressBar, text};
use std::path::PathBuf;

/// Arguments of `evaluate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The adapter folder
    #[arg(long, value_parser = path())]
    adapter: PathBuf,
    /// auto, cpu, cuda[:i], rocm[:i], metal[:i], vulkan[:i] or wgpu[:i]
    #[arg(long, default_value = "auto")]
    device: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Prints the losses of the base and of the adapter on the recipe's evaluation data.
    pub fn run(self) -> Result<()> {
        let result = evaluate::evaluate(&self.recipe.load()?, &self.adapter, &self.device, &ProgressBar::stderr())?;
        if self.json {
            return super::print_json(&result);
        }
        super::print_text(&format!(
            "          loss  perplexity\nbase   {:>7.4}  {:>10.3}\ntuned  {:>7.4}  {:>10.3}\non {} supervised tokens",
            result.base_loss,
            result.base_perplexity,
            result.loss,
            result.perplexity,
            text::count(result.tokens)
        ))
    }
}
