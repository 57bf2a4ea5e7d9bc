//! The kinds of values that keys can have, read from nodes with messages that say what to write instead.

use super::diagnose::Diagnosis;
use super::numbers;
use super::raw::{Node, Plain, Shape, brief, plain};
use super::suggest::for_unknown_value;
use crate::data::options::{OnBadRow, OnLong, OnLongAudio, RowFormat};
use crate::text::TrainOn;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use std::fmt;
use std::path::PathBuf;

/// A value that can be read from a node (which is not null).
pub(super) trait FromNode: Sized {
    /// The value of the key `path`; what is wrong with it goes to `diagnosis`, once, and gives `None`.
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self>;
}

/// Reports that `node` is not `expected`.
pub(super) fn mismatch<T>(
    node: &Node,
    path: &str,
    expected: &str,
    hint: Option<String>,
    diagnosis: &mut Diagnosis,
) -> Option<T> {
    let what = format!("`{path}` must be {expected}, found {}", node.describe());
    diagnosis.wrong(path, &node.mark, what, hint);
    None
}

/// The scalar without quotes, as YAML reads it.
fn plain_scalar(node: &Node) -> Option<Plain> {
    match &node.shape {
        Shape::Scalar { text, plain: true } => Some(plain(text)),
        _ => None,
    }
}

/// The hint for a number or boolean inside quotes.
fn without_quotes(node: &Node, good: impl Fn(Plain) -> bool) -> Option<String> {
    match &node.shape {
        Shape::Scalar { text, plain: false } if good(plain(text)) => {
            Some(format!("remove the quotes: `{}`", brief(text)))
        }
        _ => None,
    }
}

/// The hint for what is no number.
fn no_number(node: &Node, path: &str) -> Option<String> {
    match &node.shape {
        Shape::Scalar { text, .. } => numbers::hint(text, path),
        _ => None,
    }
}

impl FromNode for bool {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        if let Some(Plain::Bool(flag)) = plain_scalar(node) {
            return Some(flag);
        }
        let hint = match &node.shape {
            Shape::Scalar { text, .. } => yes_or_no(text).map(|word| format!("write `{word}`")),
            _ => None,
        };
        mismatch(node, path, "`true` or `false`", hint, diagnosis)
    }
}

/// The boolean that a word of other languages stands for.
fn yes_or_no(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => Some("true"),
        "no" | "off" | "n" | "0" | "false" => Some("false"),
        _ => None,
    }
}

impl FromNode for u64 {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let number = match plain_scalar(node) {
            Some(Plain::Integer(number)) => number,
            Some(Plain::Float(number)) => {
                // Beyond 2^53 a float no longer says which whole number is meant.
                let whole = number.fract() == 0.0 && (0.0..9e15).contains(&number);
                let hint = whole.then(|| format!("write `{number}`"));
                return mismatch(node, path, "a whole number", hint, diagnosis);
            }
            _ => {
                let hint = without_quotes(node, |p| matches!(p, Plain::Integer(_))).or_else(|| no_number(node, path));
                return mismatch(node, path, "a whole number", hint, diagnosis);
            }
        };
        match number.map(u64::try_from) {
            Some(Ok(number)) => Some(number),
            Some(Err(_)) if number < Some(0) => {
                let least = u64::from(path == "training.max_steps");
                let hint = numbers::off(path).map(str::to_owned);
                mismatch(node, path, &format!("a whole number from {least}"), hint, diagnosis)
            }
            _ => mismatch(node, path, "a whole number below 2^64", None, diagnosis),
        }
    }
}

impl FromNode for usize {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let number = u64::from_node(node, path, diagnosis)?;
        match usize::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => mismatch(node, path, "a number that this machine can count to", None, diagnosis),
        }
    }
}

impl FromNode for f64 {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match plain_scalar(node) {
            Some(Plain::Float(number)) if number.is_finite() => held_in_f32(number, node, path, diagnosis),
            Some(Plain::Integer(Some(number))) => held_in_f32(number as f64, node, path, diagnosis),
            Some(Plain::Float(_) | Plain::Integer(None)) => mismatch(node, path, "a finite number", None, diagnosis),
            _ => {
                let hint = without_quotes(node, |p| matches!(p, Plain::Integer(_) | Plain::Float(_)));
                let share = || match &node.shape {
                    Shape::Scalar { text, .. } => numbers::share(text),
                    _ => None,
                };
                mismatch(node, path, "a number", hint.or_else(|| no_number(node, path)).or_else(share), diagnosis)
            }
        }
    }
}

/// A number that is still one, and not 0, where it is computed with: in 32-bit floats.
fn held_in_f32(number: f64, node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<f64> {
    let held = number as f32;
    if held.is_infinite() {
        return mismatch(node, path, "below 3.4e38, the largest number that a 32-bit float holds", None, diagnosis);
    }
    if held == 0.0 && number != 0.0 {
        let expected = "a number that a 32-bit float can tell from 0, 1.4e-45 or more";
        return mismatch(node, path, expected, None, diagnosis);
    }
    Some(number)
}

impl FromNode for String {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, plain: false } => Some(text.clone()),
            Shape::Scalar { text, plain: true } if plain(text) == Plain::Text => Some(text.clone()),
            Shape::Scalar { text, .. } => {
                mismatch(node, path, "text", Some(format!("put quotes around it: `\"{}\"`", brief(text))), diagnosis)
            }
            _ => mismatch(node, path, "text", None, diagnosis),
        }
    }
}

impl FromNode for PathBuf {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        String::from_node(node, path, diagnosis).map(PathBuf::from)
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let Shape::List(items) = &node.shape else {
            return mismatch(node, path, "a list", as_list::<T>(node, path), diagnosis);
        };
        // Not lazily: problems of all items are wanted.
        let values: Vec<Option<T>> = each(items, path, diagnosis).collect();
        values.into_iter().collect()
    }
}

/// How to write a single value as a list: of itself where that would be right, else of what its own hint offers.
fn as_list<T: FromNode>(node: &Node, path: &str) -> Option<String> {
    let Shape::Scalar { text, .. } = &node.shape else { return None };
    // Whether it is right as an item, and the hint where it is wrong.
    let try_out = |text: &str| {
        let mut tried = Diagnosis::default();
        let node = Node { mark: node.mark, shape: Shape::Scalar { text: text.to_owned(), plain: true } };
        let is_right = T::from_node(&node, path, &mut tried).is_some();
        let problem = tried.finish().err();
        (is_right, problem.and_then(|problem| problem.hint_text().map(str::to_owned)))
    };
    let hint = match try_out(text) {
        (true, _) => return Some(format!("write `[{}]`", brief(text))),
        (false, _) if numbers::is_off(text) => return Some("write `[]`".into()),
        (false, hint) => hint?,
    };
    let offered = hint.split('`').skip(1).step_by(2).find(|word| try_out(word).0)?;
    Some(hint.replacen(&format!("`{offered}`"), &format!("`[{offered}]`"), 1))
}

/// Each item of the list `path`; `None` for one that is wrong.
pub(super) fn each<T: FromNode>(
    items: &[Node],
    path: &str,
    diagnosis: &mut Diagnosis,
) -> impl Iterator<Item = Option<T>> {
    items.iter().enumerate().map(move |(i, item)| {
        let path = format!("{path}[{i}]");
        diagnosis.give(&path, item.mark);
        if item.is_null() {
            diagnosis.wrong(&path, &item.mark, format!("`{path}` has no value"), None);
            return None;
        }
        T::from_node(item, &path, diagnosis)
    })
}

/// Reads one of an enum's words; serde knows them, so no list of them is kept here.
pub(super) fn word<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, &'static [&'static str]> {
    T::deserialize(StrDeserializer::<Words>::new(text)).map_err(|Words(words)| words)
}

/// Reads an enum from a node.
pub(super) fn choice<T: for<'de> Deserialize<'de>>(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<T> {
    let text = match &node.shape {
        Shape::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    word(text).or_else(|words| not_a_word(node, path, words, diagnosis).ok_or(())).ok()
}

/// Reports that `node` is none of `words`.
pub(super) fn not_a_word<T>(node: &Node, path: &str, words: &[&str], diagnosis: &mut Diagnosis) -> Option<T> {
    let expected = words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
    let hint = match &node.shape {
        Shape::Scalar { text, .. } => yes_or_no(text)
            .filter(|word| words.contains(word))
            .map(|word| format!("write `{word}`"))
            .or_else(|| for_unknown_value(text, words)),
        _ => None,
    };
    mismatch(node, path, &format!("one of {expected}"), hint, diagnosis)
}

/// An error of serde that keeps the words an enum has.
#[derive(Debug)]
struct Words(&'static [&'static str]);

impl serde::de::Error for Words {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Words(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Words(expected)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl std::error::Error for Words {}

/// Lets keys have these enums as values.
macro_rules! choices {
    ($($kind:ty),*) => {$(
        impl $crate::recipe::kinds::FromNode for $kind {
            fn from_node(
                node: &$crate::recipe::raw::Node,
                path: &str,
                diagnosis: &mut $crate::recipe::diagnose::Diagnosis,
            ) -> Option<Self> {
                $crate::recipe::kinds::choice(node, path, diagnosis)
            }
        }
    )*};
}
pub(super) use choices;

choices!(RowFormat, OnLong, OnLongAudio, OnBadRow, TrainOn);
