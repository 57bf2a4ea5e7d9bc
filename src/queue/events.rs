//! What happened to a run.

use super::database::{Database, Row, values};
use super::{Page, Paged, Queue};
use crate::clock::now;
use crate::error::Result;
use serde_json::Value;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Perhaps not.
    Warn,
    /// Not.
    Error,
}

impl Level {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    fn of(name: &str) -> Self {
        [Level::Warn, Level::Error].into_iter().find(|level| level.name() == name).unwrap_or(Level::Info)
    }
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number among all that happened.
    pub number: i64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// How much it matters.
    pub level: Level,
    /// In words; a step or an evaluation has none.
    pub message: String,
    /// The line of `metrics.jsonl` of a step or an evaluation.
    pub metrics: Option<Value>,
}

fn event(row: &Row) -> Result<Event> {
    let (level, metrics): (String, Option<String>) = (row.get(2)?, row.get(4)?);
    Ok(Event {
        number: row.get(0)?,
        at: row.get(1)?,
        level: Level::of(&level),
        message: row.get(3)?,
        metrics: metrics.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// Takes down something in words.
pub(super) fn say(database: &mut Database, run: &str, level: Level, message: &str) -> Result<()> {
    let sql = "INSERT INTO events (run, at, level, message) VALUES (?1, ?2, ?3, ?4)";
    database.change(sql, values![run, now(), level.name(), message]).map(drop)
}

impl Queue {
    /// Takes down lines of metrics, each by its name: what a run that was resumed says again is known.
    pub(super) fn keep_metrics(&self, run: &str, lines: &[(String, String)]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO events (run, at, level, metric, message, data) VALUES (?1, ?2, 'info', ?3, '', ?4)
                   ON CONFLICT DO NOTHING";
        self.database()?.together(|database| {
            lines.iter().try_for_each(|(name, line)| database.change(sql, values![run, now(), name, line]).map(drop))
        })
    }

    /// What happened to a run, by its number where a page begins; whose run it is, is the asker's business.
    ///
    /// # Errors
    /// Those of the database.
    pub fn events(&self, run: &str, after: Option<i64>, page: Page<'_>) -> Result<Paged<Event>> {
        let chosen = "SELECT number, at, level, message, data FROM events WHERE run = ?1";
        page.of(&mut *self.database()?, chosen, run, after, event)
    }
}
