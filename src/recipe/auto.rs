//! Which keys say `auto`: their values are chosen once the data has been read.

use std::collections::BTreeSet;

/// The word.
pub(super) const AUTO: &str = "auto";

/// The keys of a recipe that say `auto` and whose values have not been chosen yet, by their paths.
///
/// Until then the recipe holds a value for each of them that does for what needs no data, such as an estimate.
#[derive(Debug, Clone, Default)]
pub struct Autos {
    open: BTreeSet<String>,
    chosen: BTreeSet<String>,
}

impl Autos {
    /// Whether the key at `path` (`training.learning_rate`) is to be chosen.
    pub fn contains(&self, path: &str) -> bool {
        self.open.contains(path)
    }

    /// The paths.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(String::as_str)
    }

    /// Takes note that the value of the key at `path` is being chosen; whether it is to be.
    pub fn choose(&mut self, path: &str) -> bool {
        let is_open = self.open.remove(path);
        if is_open {
            self.chosen.insert(path.to_owned());
        }
        is_open
    }

    /// The paths of the keys whose values have been chosen.
    pub fn chosen(&self) -> impl Iterator<Item = &str> {
        self.chosen.iter().map(String::as_str)
    }

    pub(super) fn add(&mut self, path: &str) {
        self.open.insert(path.to_owned());
    }

    /// Says `auto` in a recipe's JSON at each of these keys.
    pub(super) fn write_into(&self, recipe: &mut serde_json::Value) {
        for path in self.iter() {
            if let Some(value) = recipe.pointer_mut(&format!("/{}", path.replace('.', "/"))) {
                *value = AUTO.into();
            }
        }
    }
}

/// Recipes of the same values are equal, whoever chose them.
impl PartialEq for Autos {
    fn eq(&self, other: &Self) -> bool {
        self.open == other.open
    }
}
