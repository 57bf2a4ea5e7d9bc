//! What is asked of a queue.

use super::files::Stored;
use crate::error::Result;
use serde_json::Value;
use std::path::Path;

/// A run that somebody wants.
pub struct Order<'a> {
    /// Whose it is.
    pub owner: &'a str,
    /// What its model will be called, given the run's id.
    pub model: &'a dyn Fn(&str) -> String,
    /// Files whose rows it reads, each with the name that it has in the run's folder.
    pub files: &'a [(&'a str, &'a Stored)],
    /// Its recipe, given its folder: `output.dir` is [`RUN`](super::RUN) in it.
    pub recipe: &'a dyn Fn(&Path) -> Result<String>,
    /// What whoever asked wants to find again.
    pub details: Value,
}
