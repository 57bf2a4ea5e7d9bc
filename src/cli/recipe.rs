//! `gemma-tune recipe`

use super::args::RecipeArgs;
use crate::error::{Error, Kind, Result};
use crate::jobs::check_recipe::{self, Looked};
use crate::jobs::draft;
use crate::recipe::{self, Recipe};
use crate::report::{ProgressBar, text};
use crate::terminal::shell_word;
use serde_json::Value;
use std::path::Path;

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
        /// The problems as a JSON list, each with its severity, file, line, column, key, what is wrong, and a hint
        #[arg(long)]
        json: bool,
    },
    /// Print the fully resolved recipe, with what its files say beside the keys and why `auto` means what it means
    Show {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// What differs from the defaults alone; `auto` stays, and no data is read
        #[arg(long)]
        brief: bool,
    },
    /// Print the JSON Schema for editors
    Schema {
        /// Of a preset, which other recipes extend: nothing must be in it
        #[arg(long)]
        preset: bool,
    },
}

impl Args {
    /// Checks a recipe, or prints it or its schema.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Check { recipe: RecipeArgs { recipe, set }, no_files, json } => {
                let screen = ProgressBar::stderr();
                let checked = check_recipe::check(&recipe, &set, !no_files, &screen);
                if json {
                    super::print_json(&problems(checked.as_ref().err(), &screen.warnings()))?;
                }
                let looked = checked?;
                screen.note(&format!("{}: no problems", recipe.display()));
                if !no_files {
                    screen.note(&seen(&looked, &recipe));
                }
                Ok(())
            }
            Verb::Show { recipe, json: true, brief: true } => super::print_json(&recipe.load()?.to_brief_json()),
            Verb::Show { recipe, json: false, brief: true } => {
                super::print(recipe.load()?.with_comments().to_brief_yaml(&[]).trim_end())
            }
            Verb::Show { recipe, json: true, .. } => super::print_json(&shown(&recipe.load()?).to_json()),
            Verb::Show { recipe, json: false, .. } => {
                super::print(shown(&recipe.load()?).with_comments().to_yaml().trim_end())
            }
            Verb::Schema { preset: true } => super::print_json(&recipe::preset_schema()),
            Verb::Schema { preset: false } => super::print_json(&recipe::schema()),
        }
    }
}

/// What is wrong, and what was warned of, for programs.
fn problems(error: Option<&Error>, warnings: &[String]) -> Value {
    let warning = |text: &String| {
        let what = text.split_once(": ").map_or(text.as_str(), |(_, what)| what);
        let mut list = Error::new(Kind::Recipe, what).to_json();
        list[0]["severity"] = "warning".into();
        list
    };
    let lists = error.map(Error::to_json).into_iter().chain(warnings.iter().map(warning));
    lists.flat_map(|list| list.as_array().cloned().unwrap_or_default()).collect()
}

/// What was looked at, and what was not.
fn seen(looked: &Looked, recipe: &Path) -> String {
    let not = looked.not.iter().map(|what| format!("; {what}")).collect::<String>();
    format!(
        "Looked at: its keys, the files that it names, {} of data. Not looked at: whether rows fit the model (`gemma-tune data \
         stats {}`), whether the run fits into memory (`gemma-tune estimate`){not}",
        text::counted(looked.rows, "row"),
        shell_word(&recipe.display().to_string()),
    )
}

/// The recipe with what the data decides, where it can be read.
fn shown(recipe: &Recipe) -> Recipe {
    // How often a run is saved is no reason to read its data.
    if recipe.auto.iter().all(|key| key == "output.save_steps") {
        return recipe.clone();
    }
    let screen = ProgressBar::stderr();
    draft::suited(recipe, &screen).unwrap_or_else(|error| {
        screen.note(&format!("warning: `auto` stays, for what it means here cannot be seen: {error}"));
        recipe.clone()
    })
}
