//! Which files of a data set are meant: a pure function of their names, after the rules of the `datasets` package.

use super::super::listing::Listing;
use crate::error::{Error, Kind, Result, did_you_mean};
use serde_json::Value;
use std::collections::BTreeSet;

/// The usual words for a split in folder and file names.
const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The files that `path` and `split` mean, sorted.
pub(super) fn choose(listing: &Listing, path: Option<&str>, split: &str) -> Result<Vec<String>> {
    if split.contains('[') {
        return Err(Error::new(Kind::Recipe, format!("the split `{split}` has a slice, which is not supported"))
            .hint("take the whole split; `training.max_steps` bounds how much of it is used"));
    }
    let data: Vec<&str> = listing.names().filter(|name| format(name).is_some() && !is_hidden(name)).collect();
    if let Some(path) = path {
        if path.contains(['*', '?', '[']) {
            let found = matching(&data, path)?;
            return if found.is_empty() { Err(nothing_at(path, &data)) } else { Ok(found) };
        }
        if listing.get(path).is_some() {
            return match format(path) {
                Some(_) => Ok(vec![path.to_string()]),
                None => Err(Error::new(Kind::Data, format!("`{path}` is not a data file")).hint(FORMATS)),
            };
        }
        let inside: Vec<&str> = data.into_iter().filter(|name| within(name, path)).collect();
        if inside.is_empty() {
            return Err(nothing_at(path, &listing.names().collect::<Vec<_>>()));
        }
        return one_format(by_names(&inside, split)?, split);
    }
    if data.is_empty() {
        return Err(Error::new(Kind::Data, "the data set has no data files").hint(FORMATS));
    }
    match declared(&listing.configs, &data, split)? {
        Some(found) => one_format(found, split),
        None => one_format(by_names(&data, split)?, split),
    }
}

const FORMATS: &str = "data files are .jsonl, .json, .parquet and .csv, also with .gz or .zst";

/// The format of a data file by its name.
fn format(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let file = plain.rsplit('/').next().unwrap_or(plain);
    if ["config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"].contains(&file) {
        return None;
    }
    match plain.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" => Some("jsonl"),
        "json" => Some("json"),
        "parquet" => Some("parquet"),
        "csv" => Some("csv"),
        _ => None,
    }
}

/// Whether a file or one of its folders is hidden (`.`) or special (`__`).
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part.starts_with("__"))
}

fn within(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn matching(names: &[&str], pattern: &str) -> Result<Vec<String>> {
    let glob = glob::Pattern::new(pattern)
        .map_err(|e| Error::new(Kind::Recipe, format!("`{pattern}` is not a pattern: {}", e.msg)))?;
    let options =
        glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    Ok(names.iter().filter(|name| glob.matches_with(name, options)).map(|name| name.to_string()).collect())
}

/// The files that the card's `configs` give to `split`; `None` when the card has none.
fn declared(configs: &Value, data: &[&str], split: &str) -> Result<Option<Vec<String>>> {
    let configs: Vec<&Value> =
        configs.as_array().into_iter().flatten().filter(|c| c.get("data_files").is_some()).collect();
    let name = |config: &Value| config.get("config_name").and_then(Value::as_str).unwrap_or("default").to_string();
    let is_default = |config: &&&Value| config.get("default") == Some(&Value::Bool(true)) || name(config) == "default";
    let config = match (configs.as_slice(), configs.iter().find(is_default)) {
        ([], _) => return Ok(None),
        ([only], _) => *only,
        (_, Some(default)) => *default,
        (several, None) => {
            let names: Vec<String> = several.iter().map(|c| format!("`{}`", name(c))).collect();
            return Err(Error::new(
                Kind::Data,
                format!("the data set has several configurations: {}", names.join(", ")),
            )
            .hint("name the folder or files of one: `hf://datasets/owner/name/path/to/*.parquet`"));
        }
    };
    let strings = |value: &Value| -> Vec<String> {
        match value {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several.iter().filter_map(|v| v.as_str().map(String::from)).collect(),
            _ => Vec::new(),
        }
    };
    let mut of_split = Vec::new();
    let mut splits = BTreeSet::new();
    match config.get("data_files") {
        Some(Value::Array(entries)) if entries.iter().any(Value::is_object) => {
            for entry in entries {
                let name = entry.get("split").and_then(Value::as_str).unwrap_or("train");
                splits.insert(name.to_string());
                if name == split {
                    of_split.extend(entry.get("path").map(strings).unwrap_or_default());
                }
            }
        }
        Some(files) => {
            splits.insert("train".to_string());
            if split == "train" {
                of_split = strings(files);
            }
        }
        None => {}
    }
    if of_split.is_empty() {
        return Err(no_split(split, &splits));
    }
    let mut found = BTreeSet::new();
    for pattern in &of_split {
        found.extend(matching(data, pattern.trim_start_matches("./"))?);
    }
    if found.is_empty() {
        return Err(Error::new(
            Kind::Data,
            format!("no file fits what the card says of `{split}`: `{}`", of_split.join("`, `")),
        ));
    }
    Ok(Some(found.into_iter().collect()))
}

/// The files that belong to `split`: by the name before `-00000-of-00001` under `data/`, else by the words in their
/// folders' names, else in their own; all are `train` if no name says anything.
fn by_names(data: &[&str], split: &str) -> Result<Vec<String>> {
    for rule in [shard_split, folder_split, file_split] {
        let splits: Vec<Option<&str>> = data.iter().map(|name| rule(name, split)).collect();
        if splits.iter().all(Option::is_none) {
            continue;
        }
        let of_split = data.iter().zip(&splits).filter(|(_, found)| **found == Some(split));
        let found: Vec<String> = of_split.map(|(name, _)| name.to_string()).collect();
        if found.is_empty() {
            return Err(no_split(split, &splits.into_iter().flatten().map(String::from).collect()));
        }
        return Ok(found);
    }
    match split {
        "train" => Ok(data.iter().map(|name| name.to_string()).collect()),
        _ => Err(no_split(split, &["train".to_string()].into())),
    }
}

/// `data/train_sft-00000-of-00003.parquet` is of `train_sft`, word for word.
fn shard_split<'a>(name: &'a str, _: &'a str) -> Option<&'a str> {
    let (start, end) = name.strip_prefix("data/")?.split_once("-of-")?;
    let (split, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().take(5).all(|b| b.is_ascii_digit());
    (digits(number) && digits(end) && !split.contains('/')).then_some(split)
}

fn folder_split<'a>(name: &'a str, wanted: &'a str) -> Option<&'a str> {
    split_word(name.rsplit_once('/')?.0, wanted)
}

fn file_split<'a>(name: &'a str, wanted: &'a str) -> Option<&'a str> {
    split_word(name.rsplit('/').next()?, wanted)
}

/// The split that a word of `text` names. `wanted` counts as a word for itself, so that any split can be asked for.
fn split_word<'a>(text: &'a str, wanted: &'a str) -> Option<&'a str> {
    let separators = |c: char| "-._ /".contains(c) || c.is_ascii_digit();
    let words = text.split(separators).chain(text.split(['/', '.']));
    words.filter(|word| !word.is_empty()).find_map(|word| {
        if word == wanted {
            return Some(wanted);
        }
        WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(split, _)| *split)
    })
}

/// Several formats of one split are the same rows twice, more often than not.
fn one_format(names: Vec<String>, split: &str) -> Result<Vec<String>> {
    let formats: BTreeSet<&str> = names.iter().filter_map(|name| format(name)).collect();
    if formats.len() > 1 {
        let formats: Vec<&str> = formats.into_iter().collect();
        return Err(Error::new(Kind::Data, format!("`{split}` has files of several formats: {}", formats.join(", ")))
            .hint("choose by a path: `hf://datasets/owner/name/**/*.parquet`"));
    }
    Ok(names)
}

fn no_split(split: &str, splits: &BTreeSet<String>) -> Error {
    let known: Vec<String> = splits.iter().map(|s| format!("`{s}`")).collect();
    Error::new(Kind::Data, format!("the data set has no split `{split}`; it has {}", known.join(", ")))
        .hint("set `split`, or name files: `hf://datasets/owner/name/path/to/file.jsonl`")
}

fn nothing_at(path: &str, names: &[&str]) -> Error {
    let error = Error::new(Kind::Data, format!("the data set has no data file at `{path}`"));
    match did_you_mean(path, names.iter().copied()) {
        Some(close) => error.hint(format!("did you mean `{close}`?")),
        None => error.hint(FORMATS),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::listing::RemoteFile;
    use super::*;
    use serde_json::json;

    fn listing(names: &[&str], configs: Value) -> Listing {
        let files = names.iter().map(|n| RemoteFile { name: n.to_string(), size_bytes: None }).collect();
        Listing { commit: "0".repeat(40), files, configs }
    }

    fn chosen(names: &[&str], path: Option<&str>, split: &str) -> Vec<String> {
        choose(&listing(names, Value::Null), path, split).unwrap()
    }

    #[test]
    fn splits_by_the_names_that_data_sets_use() {
        let shards = [
            "README.md",
            ".gitattributes",
            "data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
        ];
        assert_eq!(chosen(&shards, None, "train"), shards[3..]);
        assert_eq!(chosen(&shards, None, "test"), shards[2..3]);
        let sft = [
            "data/test_gen-00000-of-00001.parquet",
            "data/test_sft-00000-of-00001.parquet",
            "data/train_sft-00000-of-00001.parquet",
        ];
        assert_eq!(chosen(&sft, None, "train_sft"), sft[2..]);
        assert_eq!(chosen(&sft, None, "test_sft"), sft[1..2]);
        let error = choose(&listing(&sft, Value::Null), None, "train").unwrap_err();
        assert_eq!(error.what(), "the data set has no split `train`; it has `test_gen`, `test_sft`, `train_sft`");
        let folders = ["dev/a.jsonl", "train/a.jsonl", "train/b.jsonl.gz"];
        assert_eq!(chosen(&folders, None, "train"), folders[1..]);
        assert_eq!(chosen(&folders, None, "validation"), folders[..1]);
        let plain = ["alpaca.json", "dataset_infos.json"];
        assert_eq!(chosen(&plain, None, "train"), plain[..1]);
        assert_eq!(chosen(&["my_training_set.csv", "my_eval_set.csv"], None, "test"), ["my_eval_set.csv"]);
    }

    #[test]
    fn a_path_is_a_file_a_glob_or_a_folder() {
        let names = ["a/train.jsonl", "b/test.jsonl", "b/train.jsonl", "b/train.parquet", "notes.txt"];
        assert_eq!(chosen(&names, Some("b/train.parquet"), "train"), ["b/train.parquet"]);
        assert_eq!(chosen(&names, Some("**/*.jsonl"), "train"), names[..3]);
        assert_eq!(chosen(&names, Some("a"), "train"), ["a/train.jsonl"]);
        let error = |path: &str| choose(&listing(&names, Value::Null), Some(path), "train").unwrap_err();
        assert_eq!(error("b").what(), "`train` has files of several formats: jsonl, parquet");
        assert_eq!(error("a/tran.jsonl").hint_text(), Some("did you mean `a/train.jsonl`?"));
        assert_eq!(error("notes.txt").what(), "`notes.txt` is not a data file");
        assert_eq!(error("x/*.csv").kind(), Kind::Data);
        assert_eq!(error("[").kind(), Kind::Recipe);
    }

    #[test]
    fn the_card_decides_where_it_speaks() {
        let names = ["en/a.parquet", "en/b.parquet", "fr/a.parquet"];
        let card = json!([
            {"config_name": "en", "default": true, "data_files": [{"split": "train", "path": ["en/*"]}]},
            {"config_name": "fr", "data_files": "fr/a.parquet"}]);
        assert_eq!(choose(&listing(&names, card.clone()), None, "train").unwrap(), names[..2]);
        let error = choose(&listing(&names, card), None, "test").unwrap_err();
        assert_eq!(error.what(), "the data set has no split `test`; it has `train`");
        let card = json!([{"config_name": "en", "data_files": "en/*"}, {"config_name": "fr", "data_files": "fr/*"}]);
        let error = choose(&listing(&names, card), None, "train").unwrap_err();
        assert_eq!(error.what(), "the data set has several configurations: `en`, `fr`");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let names = ["train.jsonl", "valid.jsonl"];
        let error = |names: &[&str], split: &str| choose(&listing(names, Value::Null), None, split).unwrap_err();
        assert_eq!(error(&names, "test").what(), "the data set has no split `test`; it has `train`, `validation`");
        assert_eq!(error(&["README.md"], "train").what(), "the data set has no data files");
        assert_eq!(error(&["a.json"], "test").what(), "the data set has no split `test`; it has `train`");
        assert!(error(&names, "train[:10%]").what().contains("slice"));
    }
}
