//! Parts of lists.

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
