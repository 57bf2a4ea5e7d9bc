//! A JSON object that remembers which keys were read and what was wrong with them.

use crate::error::{Error, Kind, Place};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

pub(in crate::model) struct Table<'a> {
    map: &'a Map<String, Value>,
    /// What stands before a key in messages: empty, or a path such as `text_config.`.
    prefix: String,
    text: &'a str,
    path: &'a Path,
    used: BTreeSet<String>,
    wrong: BTreeSet<String>,
    problems: Vec<Error>,
}

impl<'a> Table<'a> {
    pub fn new(map: &'a Map<String, Value>, prefix: impl Into<String>, text: &'a str, path: &'a Path) -> Self {
        Table {
            map,
            prefix: prefix.into(),
            text,
            path,
            used: BTreeSet::new(),
            wrong: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// The value of `key`, which now counts as used.
    pub fn take(&mut self, key: &str) -> Option<&'a Value> {
        self.used.insert(key.to_string());
        self.map.get(key)
    }

    /// Whether this is the `text_config` of a multimodal file.
    pub fn is_nested(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// All keys with their values.
    pub fn keys(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// Adds a problem with `key` (a path such as `rope_scaling.factor` is fine).
    pub fn problem(&mut self, key: &str, what: &str, supported: &str) {
        let error = Error::new(Kind::Config, format!("`{}{key}`: {what}; supported: {supported}", self.prefix));
        self.problems.push(error.at(locate(self.text, self.path, key)));
        self.wrong.insert(key.to_string());
    }

    /// A whole number from 1 to `max`; `default` when absent.
    pub fn size(&mut self, key: &str, default: usize, max: u64) -> usize {
        match self.take(key) {
            None => default,
            Some(value) => match value.as_u64().filter(|n| (1..=max).contains(n)).map(usize::try_from) {
                Some(Ok(n)) => n,
                _ => {
                    self.problem(key, &format!("it is {}", brief(value)), &format!("a whole number from 1 to {max}"));
                    default
                }
            },
        }
    }

    /// As [`Table::size`]; `None` when absent or null.
    pub fn size_or_null(&mut self, key: &str, max: u64) -> Option<usize> {
        self.take(key).filter(|v| !v.is_null())?;
        Some(self.size(key, 1, max))
    }

    /// As [`Table::size`], for the sizes that every published file states: their defaults fit no published model.
    pub fn required_size(&mut self, key: &str, max: u64) -> usize {
        if !self.map.contains_key(key) {
            self.problem(key, "it is missing", &format!("a whole number from 1 to {max}"));
            self.used.insert(key.to_string());
            return 1;
        }
        self.size(key, 1, max)
    }

    /// Whether the key `key` has a problem so far.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.wrong.contains(key)
    }

    /// A number of this range, which is above 0; `default` when absent.
    pub fn positive(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = self.take(key) else { return default };
        self.positive_value(key, value, default, range)
    }

    /// As [`Table::positive`], of a value at hand.
    pub fn positive_value(&mut self, key: &str, value: &Value, default: f64, range: RangeInclusive<f64>) -> f64 {
        match value.as_f64() {
            Some(n) if range.contains(&n) => n,
            number => {
                let supported = match number {
                    Some(n) if n > 0.0 => format!("a number from {:e} to {:e}", range.start(), range.end()),
                    _ => "a number above 0".into(),
                };
                self.problem(key, &format!("it is {}", brief(value)), &supported);
                default
            }
        }
    }

    /// Refuses any value of `key` but `only`; absent and `null` mean the default, which is `only`.
    pub fn unsupported_unless(&mut self, key: &str, only: impl Into<Value>) {
        let only = only.into();
        let Some(value) = self.take(key).filter(|v| !v.is_null()) else { return };
        let same = *value == only || matches!((value.as_f64(), only.as_f64()), (Some(a), Some(b)) if a == b);
        if !same {
            self.problem(key, &format!("it is {}", brief(value)), &only.to_string());
        }
    }

    /// The table of the object that `key` has; `None`, and a problem where it is something else, without one.
    pub fn nested(&mut self, key: &str) -> Option<Table<'a>> {
        match self.take(key).filter(|value| !value.is_null())? {
            Value::Object(map) => Some(Table::new(map, format!("{}{key}.", self.prefix), self.text, self.path)),
            other => {
                self.problem(key, &format!("it is {}", brief(other)), "a JSON object");
                None
            }
        }
    }

    /// The table of an object at hand, whose keys are shown behind `place`.
    pub fn at(&self, map: &'a Map<String, Value>, place: &str) -> Table<'a> {
        Table::new(map, format!("{}{place}.", self.prefix), self.text, self.path)
    }

    /// Refuses every key that nothing has read.
    pub fn refuse_unused(&mut self) {
        let unused: Vec<_> = self.unused().collect();
        for (key, value) in unused {
            let what = format!("it is {}, and this program does not act on this key", brief(value));
            self.problem(key, &what, "a config without it");
        }
    }

    /// The keys that nothing has read, with their values, in file order.
    pub fn unused(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter().filter(|(key, _)| !self.used.contains(*key))
    }

    /// `key` as it is shown to the user.
    pub fn shown(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Takes over the problems of a table inside of `key`, which then has a problem too.
    pub fn adopt(&mut self, key: &str, problems: Vec<Error>) {
        if !problems.is_empty() {
            self.wrong.insert(key.to_string());
        }
        self.problems.extend(problems);
    }

    /// The problems found so far.
    pub fn into_problems(self) -> Vec<Error> {
        self.problems
    }
}

/// Where the last segment of `key` stands in the file: line and column if it occurs once, else just the file.
pub(in crate::model) fn locate(text: &str, path: &Path, key: &str) -> Place {
    let quoted = format!("\"{}\"", key.rsplit('.').next().unwrap_or(key));
    let mut found =
        text.match_indices(&quoted).filter(|(at, _)| text[at + quoted.len()..].trim_start().starts_with(':'));
    match (found.next(), found.next()) {
        (Some((at, _)), None) => {
            let before = &text[..at];
            let line_start = before.rfind('\n').map_or(0, |n| n + 1);
            Place::Text {
                path: path.into(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
            }
        }
        _ => Place::Path(path.into()),
    }
}

/// A value for a message: as JSON, cut short when long.
pub(in crate::model) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
