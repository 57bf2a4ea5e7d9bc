//! Folders that `save_to_disk` of the `datasets` package wrote: Arrow files, and which of them hold the rows.

use crate::error::{Error, Kind, Result};
use crate::input;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Names the files of one split.
const STATE: &str = "state.json";
/// Names the splits, each in a folder of its own.
const SPLITS: &str = "dataset_dict.json";

/// The files of `split` in a saved folder, in order; `None` when `path` is no such folder.
pub(super) fn files(path: &Path, split: Option<&str>) -> Option<Result<Vec<PathBuf>>> {
    if path.join(STATE).is_file() {
        return Some(match split {
            None | Some("train") => of_state(path),
            Some(split) => Err(Error::new(
                Kind::Recipe,
                format!("`{}` has no split `{split}`: it holds one data set", path.display()),
            )
            .hint("leave `split` out")),
        });
    }
    path.join(SPLITS).is_file().then(|| of_splits(path, split.unwrap_or("train")))
}

fn of_splits(path: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let file = path.join(SPLITS);
    let json = json(&file)?;
    let splits: Vec<&str> =
        json.get("splits").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if splits.contains(&split) {
        return of_state(&path.join(split));
    }
    let names: Vec<String> = splits.iter().map(|name| format!("`{name}`")).collect();
    Err(Error::new(Kind::Data, format!("`{}` has no split `{split}`; it has {}", path.display(), names.join(", ")))
        .hint("set the source's `split`"))
}

fn of_state(path: &Path) -> Result<Vec<PathBuf>> {
    let file = path.join(STATE);
    let json = json(&file)?;
    let wrong = |what: &str| Error::new(Kind::Data, what).at_path(&file);
    if json.get("_indices_data_files").or_else(|| json.get("_indices_files")).is_some_and(|files| !files.is_null()) {
        return Err(wrong("the data set is a selection of its files' rows, which is not read")
            .hint("call `flatten_indices()` before `save_to_disk`"));
    }
    let files = json.get("_data_files").and_then(Value::as_array).ok_or_else(|| wrong("there is no `_data_files`"))?;
    let name = |file: &Value| {
        let name = file.get("filename").and_then(Value::as_str).unwrap_or_default();
        let inside = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
        inside.then(|| path.join(name)).ok_or_else(|| wrong("`_data_files` names no file of the folder"))
    };
    files.iter().map(name).collect()
}

fn json(path: &Path) -> Result<Value> {
    let bytes = input::read(path).map_err(|e| Error::io("reading", path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(Kind::Data, format!("the file is not valid JSON: {e}")).at_path(path))
}
