//! The database: its tables, and what fails in it.

use crate::error::{Error, Kind, Result};
use rusqlite::{Connection, ErrorCode};
use std::path::Path;

/// Changes of the tables, in their order; `user_version` says how many of them a database has.
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

/// Opens a database, and brings its tables to this version's.
///
/// # Errors
/// One that cannot be opened, is damaged, or is of a newer program.
pub fn open(path: &Path) -> Result<Connection> {
    let mut database = Connection::open(path).map_err(failed)?;
    // As SQLite is by default, written out: what was answered has been written, on any file system.
    database.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;").map_err(failed)?;
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let done = usize::try_from(version).ok().filter(|done| *done <= CHANGES.len());
    let Some(done) = done else {
        let error = Error::new(Kind::Recipe, "the queue in this folder is of a newer version of this program");
        return Err(error.at_path(path).hint("use that, or another folder"));
    };
    for (at, change) in CHANGES.iter().enumerate().skip(done) {
        change_to(&mut database, change, at + 1).map_err(failed)?;
    }
    Ok(database)
}

fn change_to(database: &mut Connection, change: &str, version: usize) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    transaction.execute_batch(change)?;
    transaction.execute_batch(&format!("PRAGMA user_version = {version}"))?;
    transaction.commit()
}

/// What SQLite says.
pub fn failed(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Kind::NoSpace,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            Kind::Recipe
        }
        _ => Kind::Run,
    };
    Error::new(kind, format!("the database of what waits to be trained: {error}")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_an_older_program_is_brought_to_this_one_and_a_newer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.sqlite");
        let mut older = Connection::open(&path).unwrap();
        change_to(&mut older, CHANGES[0], 1).unwrap();
        let sql =
            "INSERT INTO runs (id, owner, status, model, created, details) VALUES ('a', '', 'queued', 'm', 1, '{}')";
        older.execute(sql, []).unwrap();
        drop(older);
        let database = open(&path).unwrap();
        let kept = database.query_row("SELECT id, born, output, device FROM runs", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<u64>>(1)?, row.get(2)?, row.get(3)?))
        });
        assert_eq!(kept.unwrap(), ("a".to_owned(), None, None::<String>, None::<String>));
        database.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(database);
        assert!(open(&path).err().unwrap().what().contains("of a newer version"));
    }
}
