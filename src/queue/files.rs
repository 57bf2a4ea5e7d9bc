//! Files that somebody left.

use super::database::{Row, values};
use super::{Limits, Page, Paged, Queue, new_id};
use crate::clock::now;
use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::path::PathBuf;
use tempfile::NamedTempFile;

/// The end of the name of a file's rows.
pub(super) const ROWS: &str = ".rows";

/// The beginning of the name of a file that is being written.
pub(super) const UNFINISHED: &str = ".tmp-";

/// A file that somebody left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name here.
    pub id: String,
    /// What whoever left it calls it.
    pub name: String,
    /// What it is for.
    pub kind: String,
    /// Its rows, where it has some.
    pub rows: Option<u64>,
    /// How long it is.
    pub bytes: u64,
    /// When it came, in seconds since 1970.
    pub created: u64,
}

/// A file that is being left.
pub struct Left {
    /// What whoever leaves it calls it.
    pub name: String,
    /// What it is for.
    pub kind: String,
    /// Its bytes.
    pub bytes: NamedTempFile,
    /// The same as rows that a recipe reads, and how many.
    pub rows: Option<(NamedTempFile, u64)>,
}

const COLUMNS: &str = "id, name, kind, rows, bytes, created";

fn stored(row: &Row) -> Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        rows: row.get(3)?,
        bytes: row.get(4)?,
        created: row.get(5)?,
    })
}

impl Queue {
    /// A file to be written and then [left](Queue::leave); gone where that does not happen.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn blank(&self) -> Result<NamedTempFile> {
        let folder = self.dir.join("files");
        let made = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&folder);
        made.map_err(|e| Error::io("writing", &folder, e))
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// One too many, and what cannot be written.
    pub fn leave(&self, owner: &str, left: Left) -> Result<Stored> {
        let length = left.bytes.as_file().metadata().map_err(|e| Error::io("reading", left.bytes.path(), e))?.len();
        let sql = "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM files WHERE owner = ?1";
        let counted = |row: &Row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?));
        let (files, all_bytes) = self.database()?.first(sql, values![owner], counted)?.unwrap_or_default();
        if files >= self.limits.files || all_bytes.saturating_add(length) > self.limits.bytes {
            let Limits { files, bytes, .. } = self.limits;
            let what = format!("there is no room for another file: {files} files of {bytes} bytes in all are kept");
            return Err(Error::new(Kind::Recipe, what).hint("delete files that are needed no more"));
        }
        self.keep(owner, left)
    }

    /// Keeps a file, however many there are.
    pub(super) fn keep(&self, owner: &str, left: Left) -> Result<Stored> {
        let Left { name, kind, bytes, rows } = left;
        let length = bytes.as_file().metadata().map_err(|e| Error::io("reading", bytes.path(), e))?.len();
        let stored = Stored {
            id: new_id(),
            name,
            kind,
            rows: rows.as_ref().map(|(_, count)| *count),
            bytes: length,
            created: now(),
        };
        let Stored { id, name, kind, rows: count, bytes: length, created } = &stored;
        let sql = "INSERT INTO files (id, owner, name, kind, rows, bytes, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.database()?.together(|database| {
            database.change(sql, values![id, owner, name, kind, *count, *length, *created])?;
            persist(bytes, self.bytes_of(id))?;
            rows.map_or(Ok(()), |(rows, _)| persist(rows, self.rows_of(id)).map(drop))
        })?;
        Ok(stored)
    }

    /// A file of somebody.
    ///
    /// # Errors
    /// Those of the database.
    pub fn file(&self, owner: &str, id: &str) -> Result<Option<Stored>> {
        let sql = format!("SELECT {COLUMNS} FROM files WHERE owner = ?1 AND id = ?2");
        self.database()?.first(&sql, values![owner, id], stored)
    }

    /// Files of somebody, of a kind where one is named; `None` where the page begins behind one that is not there.
    ///
    /// # Errors
    /// Those of the database.
    pub fn files(&self, owner: &str, kinds: &[&str], page: Page<'_>) -> Result<Option<Paged<Stored>>> {
        let mut database = self.database()?;
        let Some(behind) = page.behind(&mut database, "files", owner)? else { return Ok(None) };
        let listed = kinds.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
        let of_kind = if kinds.is_empty() { String::new() } else { format!(" AND kind IN ({listed})") };
        let chosen = format!("SELECT {COLUMNS} FROM files WHERE owner = ?1{of_kind}");
        page.of(&mut database, &chosen, owner, behind, stored).map(Some)
    }

    /// Where the bytes of a file are.
    pub fn bytes_of(&self, id: &str) -> PathBuf {
        self.dir.join("files").join(id)
    }

    /// Where its rows are.
    pub(super) fn rows_of(&self, id: &str) -> PathBuf {
        self.dir.join("files").join(format!("{id}{ROWS}"))
    }

    /// Deletes a file of somebody; whether there was one. Runs have rows of their own, and go on.
    ///
    /// # Errors
    /// Those of the database.
    pub fn delete_file(&self, owner: &str, id: &str) -> Result<bool> {
        let sql = "DELETE FROM files WHERE owner = ?1 AND id = ?2";
        let deleted = self.database()?.change(sql, values![owner, id])? > 0;
        if deleted {
            // What stays is removed at the next start.
            for path in [self.bytes_of(id), self.rows_of(id)] {
                let _ = fs::remove_file(path);
            }
        }
        Ok(deleted)
    }
}

fn persist(file: NamedTempFile, to: PathBuf) -> Result<File> {
    file.as_file().sync_all().map_err(|e| Error::io("writing", &to, e))?;
    file.persist(&to).map_err(|e| Error::io("writing", &to, e.error))
}
