//! Finding everything that is wrong with a recipe at once, the files that it names included.

use crate::adapter::peft::AdapterConfig;
use crate::data;
use crate::error::{Error, Place, Result};
use crate::hub::{self, Failure, HubSettings};
use crate::jobs::base::headers::Headers;
use crate::jobs::run::data::source_spec;
use crate::jobs::run::folder::RunFolder;
use crate::progress::Silent;
use crate::recipe::{self, Reading, Recipe};
use std::path::Path;

/// Checks the recipe at `path` with `--set` options laid over it, and, `with_files`, that what it names is there.
/// Nothing is downloaded, and the Hub is not asked.
///
/// # Errors
/// Every problem, each with its place and, where there is one, a hint.
pub fn check(path: &Path, overrides: &[String], with_files: bool) -> Result<()> {
    let mut reading = Reading::open(path, overrides)?;
    let missing = reading.recipe().filter(|_| with_files).map(missing).unwrap_or_default();
    missing.into_iter().for_each(|problem| reading.report(problem));
    reading.finish().map(|_| ())
}

/// A problem for each key that names something which is not there. What is empty has been reported.
fn missing(recipe: &Recipe) -> Vec<Error> {
    let Recipe { model, adapter, data, output, .. } = recipe;
    let mut looked_at = Vec::new();
    if !model.base.is_empty() {
        looked_at.push(("model.base".to_owned(), check_model(&model.base)));
    }
    if let Some(folder) = &adapter.init_from {
        looked_at.push(("adapter.init_from".into(), AdapterConfig::read(folder).map(|_| ())));
    }
    for (key, sources) in [("data.train", &data.train), ("data.eval", &data.eval)] {
        for (i, source) in sources.iter().enumerate().filter(|(_, source)| !source.path.is_empty()) {
            looked_at.push((format!("{key}[{i}].path"), check_source(source)));
        }
    }
    // As a dry run of a resumed run looks at it: a run that is there already is no mistake.
    let (resume, dry_run) = (true, true);
    looked_at.push(("output.dir".into(), RunFolder::open(&output.dir, resume, dry_run).map(|_| ())));
    looked_at.into_iter().filter_map(|(key, found)| Some(found.err()?.at(Place::Key(key)))).collect()
}

/// Whether a model's name means something, and where its files are on this machine, whether their headers can be read.
fn check_model(base: &str) -> Result<()> {
    hub::check_model(base)?;
    let offline = HubSettings { offline: true, ..HubSettings::from_env()? };
    match hub::find_model(base, &offline, &Silent, &|_| Ok(())) {
        Ok(files) => Headers::open(&files).map(|_| ()),
        Err(error) if Failure::of(&error).is_some() => Ok(()), // on the Hub, which is not asked
        Err(error) => Err(error),
    }
}

/// Whether a source names files that are there and can be read.
fn check_source(source: &recipe::Source) -> Result<()> {
    if source.path.starts_with("hf://") {
        return hub::check_data(&source.path);
    }
    data::check_source(&source_spec(source))
}
