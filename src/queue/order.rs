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
    /// Its recipe, given its folder.
    pub recipe: &'a dyn Fn(&Path) -> Result<String>,
    /// The `output.dir` of that recipe, where it is not [`RUN`](super::RUN) in the folder.
    pub output: Option<&'a str>,
    /// The device that it is trained on, where that is not the one of all.
    pub device: Option<&'a str>,
    /// What whoever asked wants to find again.
    pub details: Value,
}
