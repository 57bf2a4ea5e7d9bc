//! What a folder says of its tables where they are in no file of its own.
//!
//! Files and runs that no table names are removed: the tables of another folder, or none, would have all of them removed. So a folder
//! and its tables know each other by a name that both have.

use super::new_id;
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::input;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Its file.
pub const BOND: &str = "queue.postgres";

/// Which tables are a folder's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// The name that both have.
    pub id: String,
    /// Where they were found the last time, without a password.
    pub address: String,
}

impl Bond {
    /// A new one.
    pub fn new(address: &str) -> Self {
        Bond { id: new_id(), address: address.to_owned() }
    }

    /// That of a folder, if it has one.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(BOND);
        if !path.exists() {
            return Ok(None);
        }
        let text = input::read_to_string(&path).map_err(|e| Error::input(Kind::Recipe, "reading", &path, e))?;
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let what = format!("this file does not say where the tables of its folder are: {error}");
            Error::new(Kind::Recipe, what).at_path(&path).hint("put a copy of it back").caused_by(error)
        })
    }

    /// Leaves it in a folder.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|e| Error::new(Kind::Bug, e.to_string()))?;
        atomic::write(&dir.join(BOND), format!("{text}\n").as_bytes())
    }
}
