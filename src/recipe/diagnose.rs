//! Collects every problem of a recipe, and all that is needed to explain them.

use super::auto::Autos;
use super::known::Known;
use super::places::{self, Places};
use super::raw::{Mark, Origin, brief};
use super::suggest;
use crate::error::{Error, Kind, Place};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// More problems than this help nobody, and no program either.
const MAX_PROBLEMS: usize = 10_000;

/// As many have hints that take long to find out.
const MAX_HINTS: usize = 200;

/// All that is found out while a recipe is read.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    /// What has the keys, where that is no recipe.
    owner: Option<&'static str>,
    origins: Vec<Origin>,
    problems: Vec<(Option<Mark>, Error)>,
    left_out: usize,
    unknown: Vec<Unknown>,
    /// Every key that was asked for, once, in order.
    pub known: Vec<Known>,
    /// The keys that say `auto`.
    pub autos: Autos,
    /// Full path of each key that the user gave, with the place of its value.
    given: BTreeMap<String, Mark>,
    /// Full paths of keys whose value has been reported.
    wrong: BTreeSet<String>,
}

/// A key that nobody asked for; judged at the end, when all keys are known.
#[derive(Debug)]
struct Unknown {
    section: String,
    key: String,
    mark: Mark,
    hint: Option<String>,
}

impl Diagnosis {
    /// Of what is no recipe: what messages call it.
    pub fn of(owner: &'static str) -> Self {
        Diagnosis { owner: Some(owner), ..Diagnosis::default() }
    }

    /// Registers a text and returns its number for marks.
    pub fn add_origin(&mut self, origin: Origin) -> usize {
        self.origins.push(origin);
        self.origins.len() - 1
    }

    /// Notes a problem at `mark`.
    pub fn report(&mut self, mark: &Mark, what: impl Into<String>, hint: Option<String>) {
        self.report_of(None, mark, what, hint);
    }

    /// Notes a problem at `mark`, of the key `path` if it is one of a key.
    fn report_of(&mut self, path: Option<&str>, mark: &Mark, what: impl Into<String>, hint: Option<String>) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        let mut error = Error::new(Kind::Recipe, what);
        if let Some(path) = path {
            error = error.at(Place::Key(path.to_owned())).about();
        }
        if let Some(origin) = self.origins.get(mark.origin) {
            error = error.at(origin.place(mark));
            if let Some(excerpt) = origin.excerpt(mark) {
                error = error.excerpt(excerpt);
            }
        }
        if let Some(hint) = hint {
            error = error.hint(hint);
        }
        self.push(Some(*mark), error);
    }

    /// Notes a problem that names a key as its place, at the line of that key.
    pub fn report_at_key(&mut self, error: Error) {
        let mark = match error.place() {
            Some(Place::Key(path)) => places::nearest(&self.given, path).copied(),
            _ => None,
        };
        let origin = mark.and_then(|mark| Some((self.origins.get(mark.origin)?, mark)));
        let error = error.locate(&|_| origin.map(|(origin, mark)| (origin.place(&mark), origin.excerpt(&mark))));
        // What the keys alone show, rows may show again.
        if mark.is_some() && self.problems.iter().any(|(at, known)| *at == mark && known.what() == error.what()) {
            return;
        }
        self.push(mark, error);
    }

    /// Notes a problem that has no place in a text, or brings its own.
    pub fn push(&mut self, mark: Option<Mark>, error: Error) {
        if self.is_full() {
            self.left_out += 1;
        } else {
            self.problems.push((mark, error));
        }
    }

    /// Whether further problems are only counted.
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Whether there are so many that what was meant is no longer looked for.
    pub fn is_long(&self) -> bool {
        self.problems.len() >= MAX_HINTS
    }

    /// Learns that there is a key.
    pub fn learn(&mut self, key: Known) {
        if !self.known.iter().any(|k| k.section == key.section && k.key == key.key) {
            self.known.push(key);
        }
    }

    /// Notes that what stands at the key `path` is wrong.
    pub fn wrong(&mut self, path: &str, mark: &Mark, what: impl Into<String>, hint: Option<String>) {
        self.wrong.insert(path.to_owned());
        self.report_of(Some(path), mark, what, hint);
    }

    /// Notes that the key `path` is missing; `mark` is its section, if that is there.
    pub fn missing(&mut self, path: &str, mark: Option<Mark>, example: &str) {
        let (what, hint) = (format!("`{path}` is missing"), format!("for example `{example}`"));
        if let Some(mark) = mark {
            return self.wrong(path, &mark, what, Some(hint));
        }
        self.wrong.insert(path.to_owned());
        let mut error = Error::new(Kind::Recipe, what).hint(hint).at(Place::Key(path.to_owned())).about();
        if let Some(Origin::File { path, .. }) = self.origins.first() {
            error = error.at_path(path);
        }
        self.push(None, error);
    }

    /// Notes that the user gave the key `path` a value at `mark`.
    pub fn give(&mut self, path: &str, mark: Mark) {
        self.given.insert(path.to_owned(), mark);
    }

    /// Notes a `key` at `mark` that `section` (its name without positions) did not ask for, with a hint if its place
    /// tells what it was meant to be.
    pub fn unknown(&mut self, section: String, key: &str, mark: Mark, hint: Option<String>) {
        self.unknown.push(Unknown { section, key: key.to_owned(), mark, hint });
    }

    /// Where the value of the key `path` was written, if the user gave it and it has not been reported.
    pub fn given(&self, path: &str) -> Option<Mark> {
        self.given.get(path).copied().filter(|_| !self.is_wrong(path))
    }

    /// Whether the key `path`, anything inside it, or anything around it has been reported.
    pub fn is_wrong(&self, path: &str) -> bool {
        let from_here = self.wrong.range::<str, _>((Bound::Included(path), Bound::Unbounded));
        let mut inside = from_here.map_while(|wrong| wrong.strip_prefix(path));
        let mut around = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
        inside.any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            || around.any(|outer| self.wrong.contains(outer))
    }

    /// How many problems there are so far, unknown keys left out.
    pub fn count(&self) -> usize {
        self.problems.len() + self.left_out
    }

    /// Whether there is no problem so far.
    pub fn is_sound(&self) -> bool {
        self.count() == 0 && self.unknown.is_empty()
    }

    /// Whether `key` has its default in `section`, which is called `name`.
    pub fn is_default(&self, section: &impl Serialize, name: &str, key: &str) -> bool {
        let known = self.known.iter().find(|k| k.section == name && k.key == key);
        known.and_then(|k| k.default.as_ref()) == json(section).get(key)
    }

    /// Where everything was written.
    ///
    /// # Errors
    /// Every problem, in the order of the text.
    pub fn finish(mut self) -> Result<Places, Error> {
        for Unknown { section, key, mark, hint } in std::mem::take(&mut self.unknown) {
            if self.is_full() {
                self.left_out += 1;
                continue;
            }
            let what = match section.as_str() {
                "" => format!("unknown section or key `{}`", brief(&key)),
                section => format!("unknown key `{}` in `{section}`", brief(&key)),
            };
            let found = || match self.owner {
                None => suggest::for_unknown_key(&self.known, &section, &key),
                Some(owner) => Some(suggest::among(&self.known, &section, &key, owner)),
            };
            let hint = if self.is_long() { hint } else { hint.or_else(found) };
            let path = if section.is_empty() { key } else { format!("{section}.{key}") };
            self.report_of(Some(&path), &mark, what, hint);
        }
        // Problems without a place (missing keys) come last; the sort is stable.
        self.problems.sort_by_key(|(mark, _)| (mark.is_none(), *mark));
        let mut errors: Vec<Error> = self.problems.into_iter().map(|(_, error)| error).collect();
        if self.left_out > 0 {
            errors.push(Error::new(Kind::Recipe, format!("{} more problems are not shown", self.left_out)));
        }
        match Error::many(errors) {
            Some(error) => Err(error),
            None => Ok(Places::new(self.origins, self.given)),
        }
    }
}

/// `value` as JSON; values of recipes always have a JSON form.
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
