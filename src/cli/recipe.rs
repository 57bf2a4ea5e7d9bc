//! `gemma-tune recipe`

use super::args::RecipeArgs;
use crate::error::Result;
use crate::jobs::check_recipe;
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
    /// Report every problem of a recipe at once, also of the files that it names
    Check {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// Leave out what is on this disk: model, adapter and data files, the output folder
        #[arg(long)]
        no_files: bool,
    },
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
    /// Checks a recipe, or prints it or its schema.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Check { recipe: RecipeArgs { recipe, set }, no_files } => {
                check_recipe::check(&recipe, &set, !no_files, &ProgressBar::stderr())?;
                ProgressBar::stderr().note(&format!("{}: no problems", recipe.display()));
                Ok(())
            }
            Verb::Show { recipe, json: true } => super::print_json(&recipe.load()?),
            Verb::Show { recipe, json: false } => super::print(recipe.load()?.to_yaml().trim_end()),
            Verb::Schema => super::print_json(&recipe::schema()),
        }
    }
}
