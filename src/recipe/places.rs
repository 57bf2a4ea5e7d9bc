//! Where the keys of a recipe were written, for problems that come up after it was read.

use super::Recipe;
use super::raw::{Mark, Origin};
use crate::error::{Error, Place};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the keys that the user gave were written.
#[derive(Debug, Clone, Default)]
pub struct Places {
    origins: Vec<Origin>,
    /// Full path of each key, and of each item of a list, with the place of its value.
    given: BTreeMap<String, Mark>,
    /// What to say of keys whose paths lead nowhere, but would from the folder of the recipe.
    beside: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn new(origins: Vec<Origin>, given: BTreeMap<String, Mark>) -> Self {
        Places { origins, given, beside: BTreeMap::new() }
    }

    /// Notes which of the paths of `recipe` lead nowhere, but would from the folder of its file at `path`.
    pub(super) fn look_beside(&mut self, path: &Path, recipe: &Recipe) {
        self.beside = beside(path, recipe);
    }

    /// What stands beside keys and entries of lists in the files that they were written in, by their paths: the comments at
    /// the ends of the lines that are theirs alone.
    pub fn comments(&self) -> Vec<(String, String)> {
        let mut of_lines: BTreeMap<(usize, usize), Vec<(&String, Mark)>> = BTreeMap::new();
        for (path, mark) in &self.given {
            if let Some(beside) = self.origins.get(mark.origin).and_then(|origin| origin.beside(path, mark)) {
                of_lines.entry((beside.origin, beside.line)).or_default().push((path, beside));
            }
        }
        let comment = |named: Vec<(&String, Mark)>| {
            // A line that names several is that one's which holds the others.
            let holds_all = |outer: &str| named.iter().all(|(path, _)| is_within(path, outer));
            let (path, beside) = named.iter().find(|(path, _)| holds_all(path))?;
            Some((path.to_string(), self.origins.get(beside.origin)?.comment(beside)?))
        };
        of_lines.into_values().filter_map(comment).collect()
    }

    /// Shows the line of each problem that names a key as its place ([`crate::error::Place::Key`]).
    ///
    /// What was not written by itself is where the key around it was: `data.train[0].path` may be all of `data.train`.
    pub fn locate(&self, error: Error) -> Error {
        hint_beside(error, &self.beside).locate(&|key| {
            let mark = nearest(&self.given, key)?;
            let origin = self.origins.get(mark.origin)?;
            Some((origin.place(mark), origin.excerpt(mark)))
        })
    }
}

/// Whether `path` is `outer`, or a key or an entry inside it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// For each key of `recipe` whose relative path leads nowhere, and would from the folder of the recipe at `path`: what to
/// do about it.
pub(super) fn beside(path: &Path, recipe: &Recipe) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return found };
    let mut look = |key: String, named: &Path| {
        let other = folder.join(named);
        if named.as_os_str().is_empty() || named.is_absolute() || named.exists() || !other.exists() {
            return;
        }
        let here = std::env::current_dir().map(|here| format!(" (`{}`)", here.display())).unwrap_or_default();
        let hint = format!(
            "relative paths start at the folder in which the program runs{here}, not at that of the recipe: `{}` is there; \
             name it so, or run the program in `{}`",
            other.display(),
            folder.display()
        );
        found.insert(key, hint);
    };
    look("model.base".into(), Path::new(&recipe.model.base));
    recipe.adapter.init_from.iter().for_each(|folder| look("adapter.init_from".into(), folder));
    look("output.dir".into(), &recipe.output.dir);
    for (list, sources) in [("data.train", &recipe.data.train), ("data.eval", &recipe.data.eval)] {
        for (i, source) in sources.iter().enumerate() {
            look(format!("{list}[{i}].path"), Path::new(&source.path));
        }
    }
    found
}

/// The error with what is said of the keys that it names as its places.
pub(super) fn hint_beside(error: Error, beside: &BTreeMap<String, String>) -> Error {
    error.hint_where(&|place| match place {
        Place::Key(key) => beside.get(key).cloned(),
        _ => None,
    })
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
