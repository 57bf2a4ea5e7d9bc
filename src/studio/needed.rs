//! What still needs what somebody wants to remove.

use super::Shared;
use crate::error::Result;
use crate::input;
use crate::paths::named;
use crate::queue::{Run, Status};
use crate::recipe;
use std::path::Path;

/// Why an upload cannot be removed; `None` where nothing needs it.
///
/// # Errors
/// Those of the queue.
pub fn file(shared: &Shared, file: &str) -> Result<Option<String>> {
    let reader = reader(shared, &shared.folder.data(file), None)?;
    let files = shared.folder.files();
    let called = files.iter().find(|known| known.file == file).map_or(file, |known| known.name.as_str());
    Ok(reader.map(|run| format!("`{called}` is read by {}: {}", described(&run), what_to_do(&run))))
}

/// The same of a run.
///
/// # Errors
/// Those of the queue.
pub fn run(shared: &Shared, run: &Run) -> Result<Option<String>> {
    let name = &run.model;
    if shared.jobs.reading(name) {
        return Ok(Some(format!("something is made of `{name}` on the page `Ship it`: let it end, or stop it first")));
    }
    if shared.talk.is_loading(name) {
        return Ok(Some(format!("`{name}` is being loaded to be talked to: wait a moment")));
    }
    let reader = reader(shared, &shared.folder.run(name), Some(&run.id))?;
    Ok(reader.map(|other| format!("`{name}` is what {} goes on from: {}", described(&other), what_to_do(&other))))
}

/// A run other than `but` that is not done, and whose recipe names a path.
fn reader(shared: &Shared, path: &Path, but: Option<&str>) -> Result<Option<Run>> {
    let path = named(path);
    let names = |run: &Run| {
        let recipe = input::read_to_string(&shared.runs.queue.folder(&run.id).join("recipe.yaml")).unwrap_or_default();
        recipe::texts(&recipe).iter().any(|(key, value)| key != "output.dir" && *value == path)
    };
    let needs = |run: &Run| but != Some(run.id.as_str()) && run.status != Status::Succeeded && names(run);
    Ok(shared.runs.all()?.into_iter().find(needs))
}

/// A run and how it stands.
fn described(run: &Run) -> String {
    let stands = match run.status {
        Status::Queued => "waits for its turn",
        Status::Running => "is being trained",
        Status::Failed => "failed and may go on",
        Status::Paused | Status::Cancelled | Status::Succeeded => "is stopped and may go on",
    };
    format!("the run `{}`, which {stands}", run.model)
}

fn what_to_do(run: &Run) -> &'static str {
    match run.status {
        Status::Running => "let it end, or stop and remove that run first",
        _ => "let it go on to its end, or remove that run first",
    }
}
