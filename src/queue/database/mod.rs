//! The tables of a queue: what they are, and what is asked of them, whichever database keeps them.
//!
//! Everything is said in SQL that all of them understand; where they have words of their own, those are in the file of each. There
//! are numbers and texts alone in the tables, and values in statements are `?1`, `?2`.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use super::Address;
use crate::error::{Error, Kind, Place, Result};
use std::path::Path;

/// The tables that the [`CHANGES`] make.
const TABLES: [&str; 3] = ["files", "runs", "events"];
/// Changes of the tables, in their order, in SQLite's words; a database says how many of them it has.
const CHANGES: [&str; 3] = [
    "
CREATE TABLE files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, rows INTEGER, bytes INTEGER NOT NULL, created INTEGER NOT NULL
) STRICT;
CREATE INDEX files_of ON files (owner, number);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL,
    model TEXT NOT NULL UNIQUE, is_dropped INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL, started INTEGER,
    finished INTEGER, process INTEGER, tokens INTEGER, results TEXT, error TEXT, details TEXT NOT NULL
) STRICT;
CREATE INDEX runs_of ON runs (owner, number);
CREATE INDEX runs_by_status ON runs (status, number);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, at INTEGER NOT NULL, level TEXT NOT NULL,
    metric TEXT, message TEXT NOT NULL, data TEXT, UNIQUE (run, metric)
) STRICT;
CREATE INDEX events_of ON events (run, number);
",
    "ALTER TABLE runs ADD COLUMN born INTEGER",
    "ALTER TABLE runs ADD COLUMN output TEXT; ALTER TABLE runs ADD COLUMN device TEXT",
];

/// What keeps the tables.
trait Backend: Send {
    /// The rows that a question finds.
    fn ask(&mut self, sql: &str, values: &[Cell]) -> Result<Vec<Row>>;

    /// How many rows a statement changed.
    fn change(&mut self, sql: &str, values: &[Cell]) -> Result<u64>;

    /// Begins what happens as a whole or not at all.
    fn begin(&mut self) -> Result<()>;

    /// Ends that: keeps it, or undoes it.
    fn end(&mut self, is_kept: bool) -> Result<()>;

    /// How many of the [`CHANGES`] it has.
    fn version(&mut self) -> Result<i64>;

    /// The tables that it has, whoever made them.
    fn tables(&mut self) -> Result<Vec<String>>;

    /// Takes hold of it, now that it is known to be ours or nobody's: before that nothing in it is changed.
    fn take(&mut self) -> Result<()>;

    /// Makes one of them, which is so many with those before it, as a whole or not at all.
    fn change_tables(&mut self, change: &str, version: usize) -> Result<()>;

    /// Where it is.
    fn place(&self) -> Place;

    /// What to do where it holds something else, and where it is of a newer program.
    fn other(&self) -> [&'static str; 2];
}

/// The tables of a queue.
pub struct Database(Box<dyn Backend>);

impl Database {
    /// Those in a file, brought to this version's.
    ///
    /// # Errors
    /// One that cannot be opened, is damaged, holds something else, or is of a newer program.
    pub fn in_file(path: &Path) -> Result<Self> {
        Database(Box::new(sqlite::open(path)?)).brought_to_this()
    }

    /// Those at an address, which are yet to be [brought to this version's](Database::brought_to_this), and bound to the folder that
    /// has the same name: to no other, and a folder that is not new to none but its own.
    ///
    /// # Errors
    /// One that cannot be reached, or lets nobody in.
    #[cfg(feature = "postgres")]
    pub fn at(address: &Address, id: &str, dir: &Path, is_new: bool) -> Result<Self> {
        let home = postgres::Home { id: id.to_owned(), dir: dir.into(), is_new };
        postgres::open(address, home).map(|database| Database(Box::new(database)))
    }

    /// There is no address of one.
    #[cfg(not(feature = "postgres"))]
    pub fn at(address: &Address, _: &str, _: &Path, _: bool) -> Result<Self> {
        match *address {}
    }

    /// Tables of this version, whatever there was.
    ///
    /// # Errors
    /// One that holds something else, is of a newer program, or another folder's or server's.
    pub fn brought_to_this(mut self) -> Result<Self> {
        self.check()?;
        self.0.take()?;
        // Only now: somebody else may have been here until then.
        let done = self.check()?;
        for (at, change) in CHANGES.iter().enumerate().skip(done) {
            self.0.change_tables(change, at + 1)?;
        }
        Ok(self)
    }

    /// How many of the [`CHANGES`] it has, where it is nobody else's.
    fn check(&mut self) -> Result<usize> {
        let (version, tables, place) = (self.0.version()?, self.0.tables()?, self.0.place());
        let [elsewhere, newer] = self.0.other();
        let refused = |what: String, hint: &str| Err(Error::new(Kind::Recipe, what).at(place).hint(hint));
        let Some(done) = usize::try_from(version).ok().filter(|done| *done <= CHANGES.len()) else {
            return refused("this queue is of a newer version of this program".into(), newer);
        };
        let has = |name: &&str| tables.iter().any(|table| table == name);
        if let Some(table) = tables.first().filter(|_| done == 0) {
            return refused(format!("this database holds something else, as `{table}`, and no queue"), elsewhere);
        }
        if let Some(missing) = TABLES.iter().find(|table| done > 0 && !has(table)) {
            return refused(format!("this is no queue, or a damaged one: it has no `{missing}`"), elsewhere);
        }
        Ok(done)
    }

    /// What a question finds, read by `read`.
    ///
    /// # Errors
    /// Those of the database.
    pub fn all<T>(&mut self, sql: &str, values: &[Cell], read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
        self.0.ask(sql, values)?.iter().map(read).collect()
    }

    /// The first of it.
    ///
    /// # Errors
    /// Those of the database.
    pub fn first<T>(&mut self, sql: &str, values: &[Cell], read: impl Fn(&Row) -> Result<T>) -> Result<Option<T>> {
        self.0.ask(sql, values)?.first().map(read).transpose()
    }

    /// Changes rows, and says how many.
    ///
    /// # Errors
    /// Those of the database.
    pub fn change(&mut self, sql: &str, values: &[Cell]) -> Result<u64> {
        self.0.change(sql, values)
    }

    /// Does several things as a whole, or none of them.
    ///
    /// # Errors
    /// Those of `act`, and of the database.
    pub fn together<T>(&mut self, act: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        self.0.begin()?;
        let mut begun = Begun { database: self, is_done: false };
        let done = act(begun.database)?;
        begun.is_done = true; // what cannot be kept is undone by the database
        begun.database.0.end(true)?;
        Ok(done)
    }
}

/// Something that happens as a whole, and is undone where it does not come to its end.
struct Begun<'a> {
    database: &'a mut Database,
    is_done: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = self.database.0.end(false); // whoever cannot undo it has kept nothing
        }
    }
}

/// What stands in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Nothing,
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Cell::Text(text.clone())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Cell::Number(number.into())
    }
}

impl From<u64> for Cell {
    /// Bytes, seconds and tokens; there are none that are more than tables hold.
    fn from(number: u64) -> Self {
        Cell::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Nothing, T::into)
    }
}

/// The values of a statement, in their order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::queue::database::Cell::from($value)),*] };
}
pub(in crate::queue) use values;

/// A row that a question found.
#[derive(Debug)]
pub struct Row(Vec<Cell>);

impl Row {
    /// What is in one of its columns.
    ///
    /// # Errors
    /// Where that is something else: whoever wrote it was no program of ours.
    pub fn get<T: Held>(&self, at: usize) -> Result<T> {
        let held = self.0.get(at).and_then(T::held);
        held.ok_or_else(|| {
            let what = format!("the database of what waits to be trained has something else in column {at}");
            Error::new(Kind::Run, what)
        })
    }
}

/// What a value may be read as.
pub trait Held: Sized {
    /// It, where the value is such a one.
    fn held(value: &Cell) -> Option<Self>;
}

impl Held for String {
    fn held(value: &Cell) -> Option<Self> {
        match value {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Held for i64 {
    fn held(value: &Cell) -> Option<Self> {
        match value {
            Cell::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl Held for u64 {
    fn held(value: &Cell) -> Option<Self> {
        i64::held(value)?.try_into().ok()
    }
}

impl Held for u32 {
    fn held(value: &Cell) -> Option<Self> {
        i64::held(value)?.try_into().ok()
    }
}

impl Held for bool {
    fn held(value: &Cell) -> Option<Self> {
        i64::held(value).map(|number| number != 0)
    }
}

impl<T: Held> Held for Option<T> {
    fn held(value: &Cell) -> Option<Self> {
        match value {
            Cell::Nothing => Some(None),
            value => T::held(value).map(Some),
        }
    }
}
