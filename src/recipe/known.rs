//! What keys a recipe has, learnt from the code that asks for them.

use serde_json::Value;

/// The root's key that names files to build on.
pub(super) const EXTENDS: &str = "extends";

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
