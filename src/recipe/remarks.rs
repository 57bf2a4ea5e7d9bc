//! Remarks on keys of a recipe, for whoever reads it later.

use std::collections::BTreeMap;

/// What is to be said of keys where the recipe is written: comments at the ends of their lines, by the paths of the
/// keys, and of the entries of lists that have lines of their own (`data.train[0]`).
#[derive(Debug, Clone, Default)]
pub struct Remarks(BTreeMap<String, String>);

impl Remarks {
    /// Says something of the key at `path` (`training.learning_rate`).
    pub fn add(&mut self, path: &str, remark: impl Into<String>) {
        self.0.insert(path.to_owned(), remark.into());
    }

    /// What is said of the key at `path`.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// What is said, by the keys' paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, remark)| (path.as_str(), remark.as_str()))
    }
}

/// Two recipes that say the same are equal, whatever is remarked.
impl PartialEq for Remarks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
