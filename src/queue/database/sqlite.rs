//! Tables in a file of SQLite.

use super::{Backend, Cell, Row};
use crate::error::{Error, Kind, Place, Result};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};
use std::path::{Path, PathBuf};

/// A file of tables.
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// Whether it has been found to be in order: what fails from then on is nothing that somebody named wrongly.
    is_taken: bool,
}

/// Opens a file of tables, or makes it.
///
/// # Errors
/// One that cannot be opened, or is damaged.
pub fn open(path: &Path) -> Result<Sqlite> {
    let connection = Connection::open(path).map_err(|error| failed(error, path, false))?;
    Ok(Sqlite { connection, path: path.into(), is_taken: false })
}

impl Sqlite {
    fn heard<T>(&self, said: rusqlite::Result<T>) -> Result<T> {
        said.map_err(|error| failed(error, &self.path, self.is_taken))
    }
}

impl Backend for Sqlite {
    fn ask(&mut self, sql: &str, values: &[Cell]) -> Result<Vec<Row>> {
        self.heard(ask(&self.connection, sql, values))
    }

    fn change(&mut self, sql: &str, values: &[Cell]) -> Result<u64> {
        self.heard(self.connection.execute(sql, params_from_iter(values))).map(|changed| changed as u64)
    }

    fn begin(&mut self) -> Result<()> {
        self.heard(self.connection.execute_batch("BEGIN"))
    }

    fn end(&mut self, is_kept: bool) -> Result<()> {
        let ended = self.connection.execute_batch(if is_kept { "COMMIT" } else { "ROLLBACK" });
        if ended.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK"); // what could not be kept, for whoever comes next
        }
        self.heard(ended)
    }

    fn version(&mut self) -> Result<i64> {
        let version = self.heard(self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        // SQLite counts a last page that is there in part, and finds out when it reads it.
        let pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let whole: i64 = self.heard(self.connection.query_row(pages, [], |row| row.get(0)))?;
        let length = std::fs::metadata(&self.path).map_err(|e| Error::io("reading", &self.path, e))?.len();
        if length < whole.unsigned_abs() {
            let malformed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return self.heard(Err(rusqlite::Error::SqliteFailure(malformed, None)));
        }
        Ok(version)
    }

    fn tables(&mut self) -> Result<Vec<String>> {
        let sql =
            r"SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'";
        self.ask(sql, &[])?.iter().map(|row| row.get(0)).collect()
    }

    fn take(&mut self) -> Result<()> {
        // As SQLite is by default, written out: what was answered has been written, on any file system.
        let taken = self.connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;");
        self.heard(taken)?;
        self.is_taken = true;
        Ok(())
    }

    fn change_tables(&mut self, change: &str, version: usize) -> Result<()> {
        let mut change_to = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(change)?;
            transaction.execute_batch(&format!("PRAGMA user_version = {version}"))?;
            transaction.commit()
        };
        let changed = change_to();
        self.heard(changed)
    }

    fn place(&self) -> Place {
        Place::Path(self.path.clone())
    }

    fn other(&self) -> [&'static str; 2] {
        ["name an empty folder, or one that is not there", "use that, or another folder"]
    }
}

fn ask(connection: &Connection, sql: &str, values: &[Cell]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(values), |row| {
        let value = |at: usize| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => Cell::Nothing,
                ValueRef::Integer(number) => Cell::Number(number),
                ValueRef::Text(_) => Cell::Text(row.get(at)?),
                other => return Err(rusqlite::Error::InvalidColumnType(at, sql.to_owned(), other.data_type())),
            })
        };
        (0..columns).map(value).collect::<rusqlite::Result<_>>().map(Row)
    })?;
    rows.collect()
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Nothing => ToSqlOutput::Owned(Owned::Null),
            Cell::Number(number) => ToSqlOutput::Owned(Owned::Integer(*number)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

/// What SQLite says.
fn failed(error: rusqlite::Error, path: &Path, is_taken: bool) -> Error {
    let named_wrongly = if is_taken { Kind::Run } else { Kind::Recipe };
    let (kind, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (Kind::NoSpace, Some("free some space: nothing half-written was kept")),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            let hint = "put a copy of the file back, or begin anew in another folder; nothing in this one was touched";
            (named_wrongly, Some(hint))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            (named_wrongly, Some("it has to be a file that this user may write, in a folder where he may make others"))
        }
        _ => (Kind::Run, None),
    };
    let failed = Error::new(kind, format!("the database of what waits to be trained: {error}")).at_path(path);
    hint.into_iter().fold(failed, Error::hint).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::super::{CHANGES, Database};
    use super::*;
    use crate::queue::database::values;

    #[test]
    fn a_database_of_an_older_program_is_brought_to_this_one_and_a_newer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.sqlite");
        let mut older = open(&path).unwrap();
        older.change_tables(CHANGES[0], 1).unwrap();
        let sql =
            "INSERT INTO runs (id, owner, status, model, created, details) VALUES ('a', '', 'queued', 'm', 1, '{}')";
        older.change(sql, &[]).unwrap();
        drop(older);
        let mut database = Database::in_file(&path).unwrap();
        let kept = database.first("SELECT id, born, output, device FROM runs", &[], |row| {
            Ok((row.get::<String>(0)?, row.get::<Option<u64>>(1)?, row.get(2)?, row.get(3)?))
        });
        assert_eq!(kept.unwrap().unwrap(), ("a".to_owned(), None, None::<String>, None::<String>));
        drop(database);
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let error = refused(&path);
        assert!(error.what().contains("of a newer version") && error.exit_code() == 2, "{error}");
    }

    /// An error that says which file it is, and what to do; the file is as it was.
    #[track_caller]
    fn refused(path: &Path) -> Error {
        let before = std::fs::read(path).unwrap();
        let error = Database::in_file(path).err().unwrap();
        assert_eq!(error.place(), Some(&Place::Path(path.into())));
        assert!(error.hint_text().is_some(), "{error}");
        assert!(std::fs::read(path).unwrap() == before, "{error}");
        error
    }

    #[test]
    fn what_is_no_database_or_a_damaged_one_or_somebody_elses_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.sqlite");
        std::fs::write(&path, "a text that is no database, and long enough to be read as one. ".repeat(20)).unwrap();
        let error = refused(&path);
        assert!(error.what().contains("file is not a database") && error.exit_code() == 2, "{error}");

        std::fs::remove_file(&path).unwrap();
        let whole = {
            drop(Database::in_file(&path).unwrap());
            std::fs::read(&path).unwrap()
        };
        for length in [100, whole.len() / 2, whole.len() - 512] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = refused(&path);
            assert!(error.what().contains("malformed") && error.exit_code() == 2, "{length}: {error}");
        }

        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE photos (id INTEGER)").unwrap();
        let error = refused(&path);
        assert!(error.what().contains("something else, as `photos`") && error.exit_code() == 2, "{error}");
        // One that counts its changes where this program does.
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
        assert!(refused(&path).what().contains("it has no `files`"));
    }

    #[test]
    fn what_is_done_together_is_undone_where_a_part_of_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::in_file(&dir.path().join("queue.sqlite")).unwrap();
        let sql = "INSERT INTO events (run, at, level, message) VALUES (?1, ?2, 'info', ?3)";
        let count = |database: &mut Database| {
            let count = database.first("SELECT count(*) FROM events", &[], |row| row.get::<u64>(0));
            count.unwrap().unwrap()
        };
        let failed = database.together(|database| {
            database.change(sql, values!["a", 1u64, "said"])?;
            database.change(sql, values!["a", None::<u64>, "no time"])
        });
        assert!(failed.is_err() && count(&mut database) == 0);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            database.together(|database| -> Result<()> {
                database.change(sql, values!["a", 1u64, "said"])?;
                panic!("a thread that ends")
            })
        }));
        assert!(ended.is_err() && count(&mut database) == 0);
        assert_eq!(database.together(|database| database.change(sql, values!["a", 1u64, "said"])).unwrap(), 1);
        assert_eq!(count(&mut database), 1);
    }
}
