//! Reads typed values out of a section's nodes, and learns on the way what keys there are.
//!
//! A section asks for its keys one by one; what was asked for is what is known, so unknown keys fall out by themselves
//! and the schema learns defaults and ranges from the same calls:
//!
//! ```text
//! r: section.key("r").within(1..=4096).or(16),
//! ```

use super::diagnose::{Diagnosis, json};
use super::kinds::FromNode;
use super::known::Known;
use super::numbers;
use super::or_auto::OrAuto;
use super::raw::{Entry, Mark, Node, Shape};
use super::yaml;
use crate::error::Result;
use crate::paths;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

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
                let hint = match &node.shape {
                    Shape::Scalar { text, .. } if text.contains(':') => {
                        "each key needs `:` and a space after it".into()
                    }
                    _ => format!("write its keys indented below `{path}:`"),
                };
                diagnosis.wrong(&path, &node.mark, what, Some(hint));
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
                self.diagnosis.give(&path, entry.value.mark);
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
        for (i, entry) in self.entries.iter().enumerate().filter(|(_, e)| !self.keys.contains(e.key.as_str())) {
            let before = i.checked_sub(1).and_then(|before| self.entries.get(before));
            let hint = before.filter(|_| entry.value.is_null()).and_then(|before| decimal_comma(before, &entry.key));
            self.diagnosis.unknown(group(&self.path), &entry.key, entry.mark, hint);
        }
    }
}

/// What `{learning_rate: 0,0002}` was meant to be, in which YAML sees the key `0002` after the key `before`.
fn decimal_comma(before: &Entry, key: &str) -> Option<String> {
    let Shape::Scalar { text, plain: true } = &before.value.shape else { return None };
    let number = numbers::with_point(&format!("{text},{key}"))?;
    Some(format!("a comma begins the next key: write `{}: {number}`", before.key))
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

/// A path as the user wrote it.
pub(super) trait Expand: Sized {
    /// What it means.
    fn expand(&self) -> Result<Self>;
}

impl Expand for String {
    fn expand(&self) -> Result<Self> {
        paths::expand(self)
    }
}

impl Expand for PathBuf {
    fn expand(&self) -> Result<Self> {
        self.to_str().map_or_else(|| Ok(self.clone()), |text| paths::expand(text).map(PathBuf::from))
    }
}

/// How a key is switched `off`, where its value says so as other programs do: with 0, or with less.
fn off_hint(value: &impl Display, off: Option<&'static str>) -> Option<String> {
    let value = value.to_string();
    off.filter(|how| (value == "0" || value.starts_with('-')) && !how.starts_with("write `")).map(str::to_owned)
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
        let (must, off) = (self.limit(&bounds), numbers::off(&self.path));
        self.check(|value| (!bounds.contains(value)).then(|| (must, off_hint(value, off))))
    }

    /// Notes the limits for the schema, and says them: `must be at least 1`.
    fn limit<N: Display + Serialize>(&mut self, bounds: &impl RangeBounds<N>) -> String {
        let mut words = Vec::new();
        let mut limit = |bound: Bound<&N>, included: (&str, &'static str), excluded: (&str, &'static str)| {
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
        format!("must be {}", words.join(" and "))
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

    /// The value is a path, in which `~` and variables are expanded.
    pub fn expanded(mut self) -> Self
    where
        T: Expand,
    {
        if let (State::Value(value), Some(mark)) = (&self.state, self.mark) {
            self.state = match value.expand() {
                Ok(value) => State::Value(value),
                Err(error) => {
                    self.diagnosis.wrong(&self.path, &mark, error.what(), error.hint_text().map(Into::into));
                    State::Wrong
                }
            };
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
        self.diagnosis.learn(self.known);
        match self.state {
            State::Value(value) => value,
            _ => default,
        }
    }

    /// The value; `None` where the user gave none or `null`.
    pub fn optional(mut self) -> Option<T> {
        self.known.default = Some(Value::Null);
        self.diagnosis.learn(self.known);
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
        self.diagnosis.learn(self.known);
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

impl<T: Serialize + PartialOrd + Display> Key<'_, OrAuto<T>> {
    /// The value lies within `bounds` where it is not `auto`.
    pub fn auto_or_within(mut self, bounds: impl RangeBounds<T>) -> Self {
        let (must, off) = (self.limit(&bounds), numbers::off(&self.path));
        self.check(|value| match value {
            OrAuto::Value(value) if !bounds.contains(value) => Some((must, off_hint(value, off))),
            _ => None,
        })
    }
}

impl<T: Serialize> Key<'_, OrAuto<T>> {
    /// The value, or `default` where the user gave none; `meanwhile` for `auto`, which is noted.
    pub fn or_chosen(mut self, default: OrAuto<T>, meanwhile: T) -> T {
        self.known.default = Some(json(&default));
        let is_auto = match &self.state {
            State::Value(value) => matches!(value, OrAuto::Auto),
            _ => matches!(default, OrAuto::Auto),
        };
        if is_auto {
            self.diagnosis.autos.add(&self.path);
        }
        match self.or_derived(default) {
            OrAuto::Value(value) => value,
            OrAuto::Auto => meanwhile,
        }
    }

    /// The value; `None` where the user gave none or `null`, and for `auto`, which is noted.
    pub fn optional_or_chosen(self) -> Option<T> {
        if matches!(self.state, State::Value(OrAuto::Auto)) {
            self.diagnosis.autos.add(&self.path);
        }
        match self.optional() {
            Some(OrAuto::Value(value)) => Some(value),
            _ => None,
        }
    }
}
