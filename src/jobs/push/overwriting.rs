//! When a push would put one model in the place of another.

use super::contents::Sort;
use super::files::Prepared;
use super::record::Record;
use crate::error::{Error, Kind, Place, Result};
use crate::hub::upload::{Outgoing, Remote};
use crate::progress::Progress;

/// Names that a question shows.
const SHOWN: usize = 8;

/// What to ask before `files` replace what the repository has; `None` where nothing of another's is at stake.
pub fn question(
    prepared: &Prepared,
    files: &[Outgoing],
    place: &str,
    record: &Record,
    remote: &Remote,
    progress: &dyn Progress,
) -> Result<Option<String>> {
    let mut replaced = Vec::new();
    for file in files {
        let Some(stored) = remote.files.get(&file.name) else { continue };
        if !record.has(place, &file.name, remote) && !file.is(stored, progress)? {
            replaced.push(file.name.as_str());
        }
    }
    let names = || remote.files.keys().map(String::as_str);
    let theirs = Sort::of(names());
    let is_weights = |name: &&str| Sort::of(std::iter::once(*name)).is_some();
    let is_ours = |name: &str| files.iter().any(|file| file.name == name);
    let beside: Vec<&str> =
        names().filter(is_weights).filter(|name| !is_ours(name) && !record.has(place, name, remote)).collect();
    let our_base = prepared.base.as_ref().map(|base| base.id.as_str());
    let is_of_our_base = our_base.is_some_and(|base| remote.base_models.iter().any(|theirs| theirs == base));
    let is_other_model = !beside.is_empty() && (theirs != Some(prepared.sort) || !is_of_our_base);
    if replaced.is_empty() && !is_other_model {
        return Ok(None);
    }
    let what = match theirs {
        Some(sort) => sort.name(),
        None => "files",
    };
    let of_base = match remote.base_models.as_slice() {
        [] => String::new(),
        bases => format!(" made from `{}`", bases.join("`, `")),
    };
    let mut text = format!("`{}` holds {what}{of_base}, not pushed from this folder", remote.id);
    if is_other_model {
        text.push_str(&format!("; beside {} would remain {}", prepared.sort.name(), listed(&beside)));
    }
    if !replaced.is_empty() {
        text.push_str(&format!("; these files would be replaced: {}", listed(&replaced)));
    }
    Ok(Some(text))
}

/// What to ask before a run begins whose files may replace what the repository has; `None` where that is next to nothing.
pub fn question_before(remote: &Remote) -> Option<String> {
    let names: Vec<&str> = remote.files.keys().map(String::as_str).filter(|name| !name.starts_with('.')).collect();
    (!names.is_empty()).then(|| {
        format!(
            "`{}` is not empty, and what this run pushes would replace files of the same names: {}",
            remote.id,
            listed(&names)
        )
    })
}

fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// The error of a repository that was taken to be private.
pub fn is_public(id: &str) -> Error {
    Error::new(Kind::Recipe, format!("`{id}` is there already, and everybody can see it"))
        .at(Place::Named("--private".into()))
        .hint("make it private in its settings on the Hub, leave `--private` out, or name another repository")
}
