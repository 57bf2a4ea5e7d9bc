//! `gemma-tune data`

use super::args::{RecipeArgs, path, whole};
use crate::atomic::check_target;
use crate::error::Result;
use crate::jobs::preview::{self, Preview};
use crate::progress::counted;
use crate::report::{ProgressBar, style};
use crate::terminal::printable;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Rows as the model will see them; what is learnt is coloured, in a pipe between `⟦` and `⟧`
    Preview {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// How many rows
        #[arg(long, default_value_t = 3, allow_negative_numbers = true, value_parser = whole::<0, usize>)]
        rows: usize,
        /// One JSON object per row
        #[arg(long)]
        json: bool,
        /// Also save what the towers see of the rows' pictures, and hear of their sounds: `image.<row>.<i>`, `audio.<row>.<i>`
        #[arg(long, value_name = "FILE", value_parser = path())]
        media_tensors: Option<PathBuf>,
    },
    /// Rows, tokens, lengths, and what was left out
    Stats {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    /// Prints rows, or what the data is made of.
    pub fn run(self) -> Result<()> {
        let screen = ProgressBar::stderr();
        match self.verb {
            Verb::Preview { recipe, rows, json, media_tensors } => {
                let inputs = [recipe.recipe.as_path()];
                let claim = |path: &PathBuf| check_target("--media-tensors", path, &inputs);
                let _claim = media_tensors.as_ref().map(claim).transpose()?;
                let recipe = recipe.load()?;
                if let Some(path) = media_tensors {
                    preview::save_media(&recipe, rows, &path, &screen)?;
                }
                for preview in preview::preview(&recipe, rows, &screen)? {
                    if json {
                        super::print(&serde_json::to_string(&preview).unwrap_or_default())?;
                    } else {
                        show(&preview)?;
                    }
                }
                Ok(())
            }
            Verb::Stats { recipe, json } => {
                let stats = preview::stats(&recipe.load()?, &screen)?;
                if json { super::print_json(&stats) } else { super::print_text(&stats.to_string()) }
            }
        }
    }
}

/// Prints a row as the model will see it; what is learnt is coloured, or where there are no colours stands in `⟦..⟧`.
pub fn show(preview: &Preview) -> Result<()> {
    let (text, learnt) = preview.marked();
    let (origins, tokens) = (preview.origins.join(" + "), preview.input_ids.len());
    let head = format!("--- {} · {} · {}", printable(&origins), counted(tokens, "token"), preview.format);
    let text = if style::is_coloured() { style::spans(&text, &learnt) } else { style::brackets(&text, &learnt) };
    let mut out = style::stdout();
    super::printed(writeln!(out, "{head}\n{text}").and_then(|()| out.flush()))
}
