//! `gemma-tune recipe`

use super::args::RecipeArgs;
use crate::error::Result;
use crate::recipe;
use crate::report::ProgressBar;

/// Arguments of `recipe`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Report every problem of a recipe at once
    Check(RecipeArgs),
    /// Print the fully resolved recipe
    Show {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema for editors
    Schema,
}

impl Args {
    /// Runs the verb.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Check(args) => {
                args.load()?;
                ProgressBar::stderr().note(&format!("{}: no problems", args.recipe.display()));
                Ok(())
            }
            Verb::Show { recipe, json: true } => super::print_json(&recipe.load()?),
            Verb::Show { recipe, json: false } => super::print(recipe.load()?.to_yaml().trim_end()),
            Verb::Schema => super::print_json(&recipe::schema()),
        }
    }
}
