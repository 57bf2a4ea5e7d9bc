//! What was pushed from a folder: kept in it, so that the next push knows its own work from another's.

use crate::atomic;
use crate::hub::upload::Remote;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Hidden, and so never published itself.
pub const FILE: &str = ".gemma-tune-push.json";

/// The files of one branch by name, with the hashes that the Hub had of them.
type Pushed = BTreeMap<String, String>;

/// What was pushed from a folder, by the address of the repository and its branch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pushed: BTreeMap<String, Pushed>,
}

impl Record {
    /// Reads the record of a folder; an empty one where there is none.
    pub fn read(folder: &Path) -> Self {
        let bytes = crate::input::read(&folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Whether what the repository has under `name` is what was pushed from here.
    pub fn has(&self, place: &str, name: &str, remote: &Remote) -> bool {
        let known = self.pushed.get(place).and_then(|pushed| pushed.get(name));
        let now = remote.files.get(name).and_then(|stored| stored.hash());
        known.is_some() && known.map(String::as_str) == now
    }

    /// What was pushed from here to a place, by name.
    pub fn names(&self, place: &str) -> impl Iterator<Item = &str> {
        self.pushed.get(place).into_iter().flat_map(|pushed| pushed.keys().map(String::as_str))
    }

    /// Keeps the files of `names` as the repository has them now.
    pub fn keep<'n>(&mut self, place: &str, names: impl Iterator<Item = &'n str>, remote: &Remote) {
        let hash = |name: &str| Some((name.to_owned(), remote.files.get(name)?.hash()?.to_owned()));
        self.pushed.insert(place.to_owned(), names.filter_map(hash).collect());
    }

    /// Writes the record into the folder, where that can be written.
    pub fn write(&self, folder: &Path, progress: &dyn Progress) {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        if let Err(error) = atomic::write(&folder.join(FILE), format!("{text}\n").as_bytes()) {
            progress
                .note(&format!("The folder does not remember this push, so the next one will ask: {}", error.what()));
        }
    }
}
