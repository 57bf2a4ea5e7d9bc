//! Tables in a file of SQLite.

use super::{Backend, Cell, Row};
use crate::error::{Error, Kind, Result};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};
use std::path::{Path, PathBuf};

/// A file of tables.
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

/// Opens a file of tables, or makes it.
///
/// # Errors
/// One that cannot be opened, or is damaged.
pub fn open(path: &Path) -> Result<Sqlite> {
    let connection = Connection::open(path).map_err(failed)?;
    // As SQLite is by default, written out: what was answered has been written, on any file system.
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;").map_err(failed)?;
    Ok(Sqlite { connection, path: path.into() })
}

impl Backend for Sqlite {
    fn ask(&mut self, sql: &str, values: &[Cell]) -> Result<Vec<Row>> {
        ask(&self.connection, sql, values).map_err(failed)
    }

    fn change(&mut self, sql: &str, values: &[Cell]) -> Result<u64> {
        let changed = self.connection.execute(sql, params_from_iter(values)).map_err(failed)?;
        Ok(changed as u64)
    }

    fn begin(&mut self) -> Result<()> {
        self.connection.execute_batch("BEGIN").map_err(failed)
    }

    fn end(&mut self, is_kept: bool) -> Result<()> {
        let ended = self.connection.execute_batch(if is_kept { "COMMIT" } else { "ROLLBACK" });
        if ended.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK"); // what could not be kept, for whoever comes next
        }
        ended.map_err(failed)
    }

    fn version(&mut self) -> Result<i64> {
        self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)
    }

    fn change_tables(&mut self, change: &str, version: usize) -> Result<()> {
        let mut change_to = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(change)?;
            transaction.execute_batch(&format!("PRAGMA user_version = {version}"))?;
            transaction.commit()
        };
        change_to().map_err(failed)
    }

    fn is_newer(&self) -> Error {
        let error = Error::new(Kind::Recipe, "the queue in this folder is of a newer version of this program");
        error.at_path(&self.path).hint("use that, or another folder")
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
fn failed(error: rusqlite::Error) -> Error {
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
        assert!(Database::in_file(&path).err().unwrap().what().contains("of a newer version"));
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
