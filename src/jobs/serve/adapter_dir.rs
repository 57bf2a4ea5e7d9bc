//! A folder of adapters that are served under the names of their folders, and may change while they are.

use super::Served;
use crate::adapter::peft::{CONFIG_FILE, TENSORS_FILE};
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use crate::progress::Progress;
use crate::serve::Host;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// By what a changed adapter is known: when its files were written, and how long they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The folder, and what is served of it.
pub struct AdapterDir {
    dir: PathBuf,
    served: Mutex<BTreeMap<String, Stamp>>,
}

/// What a look at it changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// Names that are there for the first time, or whose files are others.
    load: Vec<(String, Stamp)>,
    /// Names that are there no more.
    drop: Vec<String>,
}

impl AdapterDir {
    /// A folder that nothing is served of yet.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(dir: &Path) -> Result<Self> {
        match dir.is_dir() {
            true => Ok(AdapterDir { dir: dir.into(), served: Mutex::default() }),
            false => Err(Error::new(Kind::Recipe, format!("there is no folder `{}`", dir.display()))
                .at(Place::Named("--adapter-dir".into()))
                .hint("each folder in it that holds an adapter, or a run with one, is served under its name")),
        }
    }

    /// Serves what is there now: loads what is new or changed, drops what is gone. What cannot be loaded is said and left out; what
    /// was served under its name before stays.
    pub fn read(&self, into: &Served, progress: &dyn Progress) {
        // Two looks at once would load twice.
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let Changes { load, drop } = changes(&served, &found(&self.dir));
        for name in drop {
            served.remove(&name);
            into.models().remove(&name);
            progress.note(&format!("`{name}` is served no more."));
        }
        for (name, stamp) in load {
            if !served.contains_key(&name) && into.models().has(&name) {
                progress.note(&format!(
                    "warning: `{name}` of `{}` is left out: another model is called so",
                    self.dir.display()
                ));
                continue;
            }
            match into.load(&name, &self.dir.join(&name), None, progress) {
                Ok(()) => {
                    served.insert(name.clone(), stamp);
                    progress.note(&format!("`{name}` is served."));
                }
                Err(error) => {
                    let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    progress.note(&format!("warning: `{name}` cannot be served: {}{hint}", error.what()));
                }
            }
        }
    }
}

/// The adapters in a folder, by the names of theirs.
fn found(dir: &Path) -> BTreeMap<String, Stamp> {
    let stamp = |file: PathBuf| {
        file.metadata().ok().map(|file| (file.modified().unwrap_or(SystemTime::UNIX_EPOCH), file.len()))
    };
    let adapter = |name: String| {
        let folder = dir.join(&name);
        let folders = [folder.join("adapter"), folder];
        let folder = folders.iter().find(|folder| folder.join(CONFIG_FILE).is_file())?;
        Some((name, [stamp(folder.join(CONFIG_FILE)), stamp(folder.join(TENSORS_FILE))]))
    };
    paths::entries(dir).into_iter().filter_map(adapter).collect()
}

fn changes(served: &BTreeMap<String, Stamp>, found: &BTreeMap<String, Stamp>) -> Changes {
    let is_other = |(name, stamp): &(&String, &Stamp)| served.get(*name) != Some(*stamp);
    Changes {
        load: found.iter().filter(is_other).map(|(name, stamp)| (name.clone(), *stamp)).collect(),
        drop: served.keys().filter(|name| !found.contains_key(*name)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, text) in [
            ("one/adapter_config.json", "{}"),
            ("run/adapter/adapter_config.json", "{}"),
            (".tmp/adapter_config.json", ""),
        ] {
            write(name, text);
        }
        write("other/readme", "");
        write("a file", "");
        let first = found(dir.path());
        assert_eq!(first.keys().collect::<Vec<_>>(), ["one", "run"]);
        let all = changes(&BTreeMap::new(), &first);
        assert_eq!((all.load.len(), all.drop.len()), (2, 0));
        assert_eq!(changes(&first, &found(dir.path())), Changes::default());

        write("one/adapter_model.safetensors", "weights");
        write("new/adapter_config.json", "{}");
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        let Changes { load, drop } = changes(&first, &found(dir.path()));
        assert_eq!(load.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["new", "one"]);
        assert_eq!(drop, ["run"]);
        assert!(AdapterDir::new(&dir.path().join("a file")).is_err());
    }
}
