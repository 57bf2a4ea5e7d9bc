//! Parts of lists.

use super::database::{Database, Row, values};
use crate::error::Result;

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

impl Page<'_> {
    /// All of a list, the oldest first.
    pub const ALL: Page<'static> = Page { after: None, most: usize::MAX - 1, oldest_first: true };

    /// The number, in a table, of the entry of somebody behind which the page begins: of the first page `Some(None)`, and `None` where
    /// that entry is not there.
    pub(super) fn behind(&self, database: &mut Database, table: &str, owner: &str) -> Result<Option<Option<i64>>> {
        let Some(after) = self.after else { return Ok(Some(None)) };
        let sql = format!("SELECT number FROM {table} WHERE owner = ?1 AND id = ?2");
        let number = database.first(&sql, values![owner, after], |row| row.get(0))?;
        Ok(number.map(Some))
    }

    /// What `chosen`, a `SELECT` whose condition says whose by `?1`, has on the page that begins behind a number.
    pub(super) fn of<T>(
        &self,
        database: &mut Database,
        chosen: &str,
        whose: &str,
        behind: Option<i64>,
        read: fn(&Row) -> Result<T>,
    ) -> Result<Paged<T>> {
        let (sign, order) = if self.oldest_first { (">", "ASC") } else { ("<", "DESC") };
        let sql =
            format!("{chosen} AND (CAST(?2 AS BIGINT) IS NULL OR number {sign} ?2) ORDER BY number {order} LIMIT ?3");
        let limit = i64::try_from(self.most).unwrap_or(i64::MAX).saturating_add(1);
        Ok(Paged::of(database.all(&sql, values![whose, behind, limit], read)?, self.most))
    }
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
