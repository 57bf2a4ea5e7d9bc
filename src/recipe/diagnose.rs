//! Reads typed values out of nodes and collects every problem on the way.
//!
//! A section asks for its keys one by one; what was asked for is what is known, so unknown keys fall out by themselves and
//! the schema learns defaults and ranges from the same calls:
//!
//! ```text
//! r: section.key("r").within(1..=4096).or(16),
//! ```

use super::kinds::FromNode;
use super::raw::{Entry, Mark, Node, Origin, Shape, brief};
use super::{suggest, yaml};
use crate::error::{Error, Kind};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

/// More problems than this help nobody.
const MAX_PROBLEMS: usize = 100;

/// All that is found out while a recipe is read.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    origins: Vec<Origin>,
    problems: Vec<(Option<Mark>, Error)>,
    left_out: usize,
    unknown: Vec<Unknown>,
    /// Every key that was asked for, by section.
    pub known: Vec<Known>,
    /// Full path of each key that the user gave, with the place of its value.
    given: BTreeMap<String, Mark>,
    /// Full paths of keys whose value has been reported.
    wrong: BTreeSet<String>,
}

/// A key that some section asked for.
#[derive(Debug)]
pub(super) struct Known {
    /// The section's name without positions: `adapter`, `data.train[]`, or nothing for the root.
    pub section: String,
    /// The key.
    pub key: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// What it is when not given; `None` where it must be, or where that depends on other keys.
    pub default: Option<Value>,
    /// What its JSON Schema must say besides its type: `minimum` and the like.
    pub limits: Vec<(&'static str, Value)>,
}

/// A key that nobody asked for; judged at the end, when all keys are known.
#[derive(Debug)]
struct Unknown {
    section: String,
    key: String,
    mark: Mark,
}

impl Diagnosis {
    /// Registers a text and returns its number for marks.
    pub fn add_origin(&mut self, origin: Origin) -> usize {
        self.origins.push(origin);
        self.origins.len() - 1
    }

    /// Notes a problem at `mark`.
    pub fn report(&mut self, mark: &Mark, what: impl Into<String>, hint: Option<String>) {
        let mut error = Error::new(Kind::Recipe, what);
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

    /// Notes a problem that has no place in a text, or brings its own.
    pub fn push(&mut self, mark: Option<Mark>, error: Error) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((mark, error));
        } else {
            self.left_out += 1;
        }
    }

    /// Notes that what stands at the key `path` is wrong.
    pub fn wrong(&mut self, path: &str, mark: &Mark, what: impl Into<String>, hint: Option<String>) {
        self.wrong.insert(path.to_owned());
        self.report(mark, what, hint);
    }

    /// Notes that the key `path` is missing; `mark` is its section, if that is there.
    fn missing(&mut self, path: &str, mark: Option<Mark>, example: &str) {
        let (what, hint) = (format!("`{path}` is missing"), format!("for example `{example}`"));
        if let Some(mark) = mark {
            return self.wrong(path, &mark, what, Some(hint));
        }
        self.wrong.insert(path.to_owned());
        let mut error = Error::new(Kind::Recipe, what).hint(hint);
        if let Some(Origin::File { path, .. }) = self.origins.first() {
            error = error.at_path(path);
        }
        self.push(None, error);
    }

    /// Where the value of the key `path` was written, if the user gave it and it has not been reported.
    pub fn given(&self, path: &str) -> Option<Mark> {
        self.given.get(path).copied().filter(|_| !self.is_wrong(path))
    }

    /// Whether the key `path`, anything inside it, or its section has been reported.
    pub fn is_wrong(&self, path: &str) -> bool {
        let inside = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.wrong.iter().any(|wrong| inside(wrong, path) || inside(path, wrong))
    }

    /// How many problems there are so far, unknown keys left out.
    pub fn count(&self) -> usize {
        self.problems.len() + self.left_out
    }

    /// Whether `key` has its default in `section`, which is called `name`.
    pub fn is_default(&self, section: &impl Serialize, name: &str, key: &str) -> bool {
        let known = self.known.iter().find(|k| k.section == name && k.key == key);
        known.and_then(|k| k.default.as_ref()) == json(section).get(key)
    }

    /// Every problem, in the order of the text; `None` when there is none.
    pub fn into_error(mut self) -> Option<Error> {
        for Unknown { section, key, mark } in std::mem::take(&mut self.unknown) {
            let what = match section.as_str() {
                "" => format!("unknown section or key `{}`", brief(&key)),
                section => format!("unknown key `{}` in `{section}`", brief(&key)),
            };
            let hint = suggest::for_unknown_key(&self.known, &section, &key);
            self.report(&mark, what, hint);
        }
        // Problems without a place (missing keys) come last; the sort is stable.
        self.problems.sort_by_key(|(mark, _)| (mark.is_none(), *mark));
        let mut errors: Vec<Error> = self.problems.into_iter().map(|(_, error)| error).collect();
        if self.left_out > 0 {
            errors.push(Error::new(Kind::Recipe, format!("{} more problems are not shown", self.left_out)));
        }
        Error::many(errors)
    }
}

/// A mapping from which known keys are read.
pub(super) struct Section<'a> {
    /// Its full path, with positions: `data.train[0]`.
    path: String,
    entries: &'a [Entry],
    mark: Option<Mark>,
    keys: BTreeSet<&'static str>,
    pub(super) diagnosis: &'a mut Diagnosis,
}

impl<'a> Section<'a> {
    /// Reads a mapping through `read` and reports the keys that `read` did not ask for.
    ///
    /// `node` is `None` where the user left the whole section out; `mark` is the place to show for missing keys.
    pub fn read<T>(
        node: Option<&'a Node>,
        mark: Option<Mark>,
        path: String,
        diagnosis: &'a mut Diagnosis,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let entries: &[Entry] = match node {
            Some(Node { shape: Shape::Map(entries), .. }) => entries,
            Some(node) if !node.is_null() => {
                let what = format!("`{path}` must be keys and values, found {}", node.describe());
                diagnosis.wrong(&path, &node.mark, what, Some(format!("write its keys indented below `{path}:`")));
                &[]
            }
            _ => &[],
        };
        let mut section = Section { path, entries, mark, keys: BTreeSet::new(), diagnosis };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    /// Reads the section `name` inside this one.
    pub fn section<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.keys.insert(name);
        let entry = self.entries.iter().find(|e| e.key == name);
        Section::read(entry.map(|e| &e.value), entry.map(|e| e.mark), self.path_of(name), self.diagnosis, read)
    }

    /// The key `name`, with its value if the user gave one.
    pub fn key<T: FromNode>(&mut self, name: &'static str) -> Key<'_, T> {
        self.keys.insert(name);
        let path = self.path_of(name);
        let entry = self.entries.iter().find(|e| e.key == name);
        let state = match entry {
            None => State::Absent,
            Some(entry) => {
                self.diagnosis.given.insert(path.clone(), entry.value.mark);
                if entry.value.is_null() {
                    State::Null
                } else {
                    T::from_node(&entry.value, &path, self.diagnosis).map_or(State::Wrong, State::Value)
                }
            }
        };
        let mark = entry.map(|e| e.value.mark);
        let found = entry.map(|e| e.value.describe()).unwrap_or_default();
        let known = Known { section: group(&self.path), key: name, required: false, default: None, limits: Vec::new() };
        Key { path, mark, section_mark: self.mark, found, state, known, diagnosis: self.diagnosis }
    }

    /// The keys that the user gave, known or not.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.key.as_str())
    }

    /// The full path of a key.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes the keys that were not asked for.
    fn report_unknown(&mut self) {
        for entry in self.entries.iter().filter(|e| !self.keys.contains(e.key.as_str())) {
            let unknown = Unknown { section: group(&self.path), key: entry.key.clone(), mark: entry.mark };
            self.diagnosis.unknown.push(unknown);
        }
    }
}

/// A path without positions: `data.train[3]` is in the group `data.train[]`.
fn group(path: &str) -> String {
    match path.split_once('[') {
        Some((list, _)) => format!("{list}[]"),
        None => path.to_owned(),
    }
}

/// A key on its way to a value: read, then checked, then given a default.
#[must_use]
pub(super) struct Key<'s, T> {
    path: String,
    mark: Option<Mark>,
    section_mark: Option<Mark>,
    found: String,
    state: State<T>,
    known: Known,
    diagnosis: &'s mut Diagnosis,
}

/// What the user gave for a key.
enum State<T> {
    Absent,
    Null,
    /// Something that has been reported.
    Wrong,
    Value(T),
}

impl<T: Serialize> Key<'_, T> {
    /// The value lies within `bounds`.
    pub fn within(mut self, bounds: impl RangeBounds<T>) -> Self
    where
        T: PartialOrd + Display,
    {
        let mut words = Vec::new();
        let mut limit = |bound: Bound<&T>, included: (&str, &'static str), excluded: (&str, &'static str)| {
            let (value, (word, key)) = match bound {
                Bound::Included(value) => (value, included),
                Bound::Excluded(value) => (value, excluded),
                Bound::Unbounded => return,
            };
            words.push(format!("{word} {value}"));
            self.known.limits.push((key, json(value)));
        };
        limit(bounds.start_bound(), ("at least", "minimum"), ("above", "exclusiveMinimum"));
        limit(bounds.end_bound(), ("at most", "maximum"), ("below", "exclusiveMaximum"));
        self.check(|value| (!bounds.contains(value)).then(|| (format!("must be {}", words.join(" and ")), None)))
    }

    /// The value passes `wrong`, which says what must hold instead (``the key `must be ..` ``) and how to get there.
    pub fn check(mut self, wrong: impl FnOnce(&T) -> Option<(String, Option<String>)>) -> Self {
        if let (State::Value(value), Some(mark)) = (&self.state, self.mark)
            && let Some((must, hint)) = wrong(value)
        {
            let what = format!("`{}` {must}, found {}", self.path, self.found);
            self.diagnosis.wrong(&self.path, &mark, what, hint);
            self.state = State::Wrong;
        }
        self
    }

    /// The value, or `default` where the user gave none.
    pub fn or(mut self, default: T) -> T {
        self.known.default = Some(json(&default));
        self.or_derived(default)
    }

    /// The value, or a `default` that depends on other keys where the user gave none.
    pub fn or_derived(self, default: T) -> T {
        if let (State::Null, Some(mark)) = (&self.state, self.mark) {
            let hint = format!("leave the key out for its default, `{}`", yaml::inline(&json(&default)));
            self.diagnosis.wrong(&self.path, &mark, format!("`{}` has no value", self.path), Some(hint));
        }
        self.diagnosis.known.push(self.known);
        match self.state {
            State::Value(value) => value,
            _ => default,
        }
    }

    /// The value; `None` where the user gave none or `null`.
    pub fn optional(mut self) -> Option<T> {
        self.known.default = Some(Value::Null);
        self.diagnosis.known.push(self.known);
        match self.state {
            State::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value, which the user must give; `example` is shown where it is missing.
    pub fn required(mut self, example: &str) -> T
    where
        T: Default,
    {
        self.known.required = true;
        self.diagnosis.known.push(self.known);
        match self.state {
            State::Value(value) => return value,
            State::Wrong => {}
            State::Absent | State::Null => {
                self.diagnosis.missing(&self.path, self.mark.or(self.section_mark), example);
            }
        }
        T::default()
    }
}

/// `value` as JSON; values of recipes always have a JSON form.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
