//! Where the keys of a recipe were written, for problems that come up after it was read.

use super::raw::{Mark, Origin};
use crate::error::Error;
use std::collections::BTreeMap;

/// Where the keys that the user gave were written.
#[derive(Debug, Clone, Default)]
pub struct Places {
    origins: Vec<Origin>,
    /// Full path of each key, and of each item of a list, with the place of its value.
    given: BTreeMap<String, Mark>,
}

impl Places {
    pub(super) fn new(origins: Vec<Origin>, given: BTreeMap<String, Mark>) -> Self {
        Places { origins, given }
    }

    /// Shows the line of each problem that names a key as its place ([`crate::error::Place::Key`]).
    ///
    /// What was not written by itself is where the key around it was: `data.train[0].path` may be all of `data.train`.
    pub fn locate(&self, error: Error) -> Error {
        error.locate(&|key| {
            let mark = nearest(&self.given, key)?;
            let origin = self.origins.get(mark.origin)?;
            Some((origin.place(mark), origin.excerpt(mark)))
        })
    }
}

/// Where the key `path` was written, or else the innermost key around it. What a source does not say itself, the section
/// may say for all: `data.train[0].columns.prompt` as `data.columns.prompt`.
pub(super) fn nearest<'a>(given: &'a BTreeMap<String, Mark>, path: &str) -> Option<&'a Mark> {
    let around = || path.match_indices(['.', '[']).map(|(end, _)| &path[..end]).rev();
    let for_all =
        path.split_once('.').zip(path.split_once("].")).map(|((section, _), (_, key))| format!("{section}.{key}"));
    (given.get(path)).or_else(|| given.get(&for_all?)).or_else(|| around().find_map(|path| given.get(path)))
}

/// Two recipes that say the same are equal, wherever it was written.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
