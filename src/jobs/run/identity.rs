//! What makes a run the same run when it is resumed.

use crate::device::Compute;
use crate::error::{Error, Kind, Result};
use crate::jobs::base::Base;
use crate::jobs::run::data::Data;
use crate::jobs::run::folder::RunFolder;
use crate::recipe::{self, Recipe};
use crate::train::checkpoint::Fingerprint;

/// The keys of a recipe that decide what is trained: one part a key, so that a refusal can name it.
fn keys(recipe: &Recipe) -> Result<Fingerprint> {
    // Where results go and how often they are shown decides nothing about them; evaluation may stop a run early. What
    // `fit` chose stands in other keys.
    let decides_nothing = [("evaluation", "samples"), ("training", "fit")];
    let sections = recipe.to_json();
    let sections = sections.as_object().into_iter().flatten().filter(|(section, _)| *section != "output");
    let keys = sections
        .flat_map(|(section, keys)| keys.as_object().into_iter().flatten().map(move |key| (section, key)))
        .filter(|(section, (key, _))| !decides_nothing.contains(&(section.as_str(), key.as_str())));
    Ok(keys.fold(Fingerprint::new(), |run, (section, (key, value))| {
        run.with(format!("{section}.{key}"), blake3::hash(value.to_string().as_bytes()).to_hex().to_string())
    }))
}

/// What a run may not change when it is resumed.
///
/// # Errors
/// When the recipe cannot be written.
pub fn fingerprint(recipe: &Recipe, base: &Base, data: &Data, compute: &Compute) -> Result<Fingerprint> {
    let run = keys(recipe)?
        .with("base model", base.source.fingerprint())
        .with("training data", data.train.content_hash())
        .with("device", &compute.name)
        .with("threads", compute.threads.to_string());
    Ok(match &data.eval {
        Some(eval) => run.with("evaluation data", eval.content_hash()),
        None => run,
    })
}

/// Refuses to call a run finished whose recipe has changed since.
///
/// # Errors
/// When it has, or the recipe that was trained cannot be read.
pub fn check_finished(recipe: &Recipe, folder: &RunFolder) -> Result<()> {
    let path = folder.path("recipe.yaml");
    if !path.exists() {
        return Ok(());
    }
    let trained = keys(&recipe::load(&path, &[])?)?;
    let Some(difference) = keys(recipe)?.difference(&trained) else { return Ok(()) };
    let dir = recipe.output.dir.display();
    Err(Error::new(Kind::Recipe, format!("the run in `{dir}` is finished, and its recipe has changed: {difference}"))
        .at_path(path)
        .hint(format!(
            "to train further, start a new run with `adapter.init_from: {}` and another `output.dir`",
            folder.path("adapter").display()
        )))
}
