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

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// It begins behind this one.
    pub after: Option<&'a str>,
    /// It has at most so many.
    pub most: usize,
    /// Whether the oldest comes first.
    pub oldest_first: bool,
}

/// What is on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T> {
    /// These.
    pub items: Vec<T>,
    /// Whether there are others behind them.
    pub has_more: bool,
}

impl<T> Paged<T> {
    /// Of one item more than the page has, where there are so many.
    pub(super) fn of(mut items: Vec<T>, most: usize) -> Self {
        let has_more = items.len() > most;
        items.truncate(most);
        Paged { items, has_more }
    }
}
