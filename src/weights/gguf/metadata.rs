//! What a GGUF file says of its model, by key and type.

use super::value::{Array, Value};
use std::collections::BTreeMap;

/// The metadata of a GGUF file.
///
/// Every accessor gives `None` for a key that is missing or of another type; [`Metadata::contains`] tells the two
/// apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// Whether there is a value of any type.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value of `key`, for example `gemma3.block_count`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// An unsigned whole number of any width (signed ones where not negative).
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// A number of any type, as a float.
    pub fn f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// A text.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// An array of any type.
    pub fn array(&self, key: &str) -> Option<&Array> {
        self.get(key)?.as_array()
    }

    /// An array of texts.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        self.array(key)?.as_strings()
    }
}

impl FromIterator<(String, Value)> for Metadata {
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(entries: T) -> Self {
        Metadata(entries.into_iter().collect())
    }
}
