//! Finding everything that is wrong with a recipe at once, the files that it names included.

use crate::adapter::peft::{AdapterConfig, TENSORS_FILE};
use crate::adapter::target::TargetModules;
use crate::data::{self, Row, RowId};
use crate::error::{Error, Kind, Place, Result};
use crate::hub;
use crate::jobs::base::headers::Headers;
use crate::jobs::base::{adapter_folder, provenance};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::jobs::run::data::{check_rows, source_spec};
use crate::jobs::run::folder::RunFolder;
use crate::jobs::run::rewards::Rewards;
use crate::progress::Progress;
use crate::recipe::{self, Reading, Recipe, Task};
use crate::weights::safetensors_file::SafetensorsFile;
use std::path::Path;

/// What was looked at, beside the keys of a recipe, and what was not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Rows that were read and understood.
    pub rows: u64,
    /// What was not looked at, in words.
    pub not: Vec<String>,
}

/// Checks the recipe at `path` with `--set` options laid over it, and, `with_files`, that what it names is there and its
/// rows are what they are to be. Nothing is downloaded, and the Hub is not asked; what only it can know is said where it
/// looks like a slip.
///
/// # Errors
/// Every problem, each with its place and, where there is one, a hint.
pub fn check(path: &Path, overrides: &[String], with_files: bool, progress: &dyn Progress) -> Result<Looked> {
    let mut reading = Reading::open(path, overrides)?;
    let recipe = reading.recipe().filter(|_| with_files);
    let mut looked = Looked::default();
    let is_sound = reading.is_sound();
    // Of a task that nobody knows, nobody knows what its rows are.
    let is_known = !reading.is_wrong("task");
    let missing = recipe.map(|recipe| missing(recipe, is_sound, is_known, &mut looked, progress)).unwrap_or_default();
    missing.into_iter().for_each(|problem| reading.report(problem));
    reading.finish().map(|_| looked)
}

/// A problem for each key that names something which is not there. What is empty has been reported, and so have the names of
/// targets that no model has where the recipe is not sound by itself.
fn missing(
    recipe: &Recipe,
    is_sound: bool,
    is_known: bool,
    looked: &mut Looked,
    progress: &dyn Progress,
) -> Vec<Error> {
    let &Recipe { task, ref model, ref adapter, ref data, ref output, .. } = recipe;
    let (mut looked_at, mut in_rows, mut headers) = (Vec::new(), Vec::new(), None);
    if !model.base.is_empty() {
        let found = Headers::here(&model.base, "model.base", progress).map(|found| headers = found);
        if found.is_ok() && headers.is_none() {
            looked.not.push(format!("the model `{}`, which is not on this machine", model.base));
        }
        looked_at.push(("model.base".to_owned(), found));
    }
    if let Some(folder) = &adapter.init_from {
        let named = |error| provenance::name_bases(error, &model.base);
        looked_at.push((
            "adapter.init_from".into(),
            check_adapter(folder, (task, adapter), headers.as_ref()).map_err(named),
        ));
    } else if let Some(Headers { config, .. }) = &headers {
        let beside_text = || recipe::Adapter {
            target_modules: TargetModules::AllLinear,
            exclude_modules: Vec::new(),
            ..adapter.clone()
        };
        let planned = if is_sound {
            AdapterPlan::of(task, adapter, config)
        } else {
            AdapterPlan::of(task, &beside_text(), config)
        };
        looked_at.push(("adapter".into(), planned.map(drop)));
    }
    // A reward that is wrong by itself reads no rows.
    let judged = recipe.grpo.as_ref().and_then(|_| Rewards::that_read(&recipe.rewards));
    for (key, sources) in [("data.train", &data.train), ("data.eval", &data.eval)] {
        for (i, source) in sources.iter().enumerate().filter(|(_, source)| !source.path.is_empty()) {
            let found = check_source(source);
            let is_here = found.is_ok() && !source.path.starts_with("hf://");
            looked_at.push((format!("{key}[{i}].path"), found));
            if is_here
                && is_known
                && let Err(problem) = look_at_rows(data, key, source, judged.as_ref(), looked, progress)
            {
                // It was looked at by itself.
                in_rows.push(
                    problem.rename_keys(&|named| named.replacen(&format!("{key}[0]"), &format!("{key}[{i}]"), 1)),
                );
            }
            if !is_here {
                looked.not.push(format!("`{}`, which is on the Hub", source.path));
            }
        }
    }
    // As a dry run of a resumed run looks at it: a run that is there already is no mistake.
    let (resume, dry_run) = (true, true);
    looked_at.push(("output.dir".into(), RunFolder::open(&output.dir, resume, dry_run).map(|_| ())));
    let beside = Rewards::missing(&recipe.rewards, progress);
    let missing = looked_at.into_iter().filter_map(|(key, found)| Some(place(found.err()?, key)));
    missing.chain(beside).chain(in_rows).collect()
}

/// Reads the rows of a source, and notes what was seen of them.
fn look_at_rows(
    data: &recipe::Data,
    key: &'static str,
    source: &recipe::Source,
    rewards: Option<&Rewards>,
    looked: &mut Looked,
    progress: &dyn Progress,
) -> Result<()> {
    let mut unread = Ok(());
    let mut read = |row: &Row, origin: RowId| {
        if let (Ok(()), Some(rewards), Row::Prompt { columns, .. }) = (&unread, rewards, row) {
            unread = rewards.check_row(Some(columns), &origin);
        }
    };
    let checked = check_rows(data, key, source, &mut read, progress)?;
    unread?;
    looked.rows += checked.rows;
    looked.not.extend(checked.cut.iter().map(|path| format!("the rest of `{}`, which is large", path.display())));
    Ok(())
}

/// Whether an adapter to continue is whole, fits the model where that is here, and agrees with the recipe.
fn check_adapter(folder: &Path, (task, keys): (Task, &recipe::Adapter), model: Option<&Headers>) -> Result<()> {
    if let Some(headers) = model {
        return AdapterPlan::of(task, keys, &headers.config).map(|_| ());
    }
    let folder = adapter_folder::locate(folder)?;
    AdapterConfig::read(&folder)?;
    let tensors = folder.join(TENSORS_FILE);
    if !tensors.is_file() {
        return Err(Error::new(
            Kind::Adapter,
            format!("the adapter in `{}` has no `{TENSORS_FILE}`", folder.display()),
        ));
    }
    SafetensorsFile::open(&tensors).map(|_| ())
}

/// Whether a source names files that are there and can be read.
fn check_source(source: &recipe::Source) -> Result<()> {
    if source.path.starts_with("hf://") {
        return hub::check_data(&source.path);
    }
    data::check_source(&source_spec(source))
}

/// Puts a problem to the key that names what it is about, unless it is about another key.
fn place(error: Error, key: String) -> Error {
    if matches!(error.place(), Some(Place::Key(_))) { error } else { error.at(Place::Key(key)) }
}
