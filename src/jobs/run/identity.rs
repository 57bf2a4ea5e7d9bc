//! What makes a run the same run when it is resumed.

use crate::device::Devices;
use crate::error::{Error, Kind, Result};
use crate::jobs::base::Base;
use crate::jobs::run::data::Data;
use crate::jobs::run::folder::{RunFolder, resume_command};
use crate::progress::Progress;
use crate::recipe::{self, Recipe};
use crate::terminal::excerpt;
use crate::train::checkpoint::Fingerprint;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// Characters of a value that a refusal shows.
const LONGEST_VALUE: usize = 100;

/// The keys of a recipe that decide what is trained, with their values.
fn keys(recipe: &Recipe) -> Result<BTreeMap<String, Value>> {
    // Where results go and how often they are shown decides nothing about them; evaluation may stop a run early. What
    // `fit` chose stands in other keys.
    let decides_nothing = [
        ("evaluation", "samples"),
        ("training", "fit"),
        ("grpo", "log_completions"),
        ("grpo", "num_completions_to_print"),
    ];
    let sections = recipe.to_json();
    let Some(sections) = sections.as_object() else { return Ok(BTreeMap::new()) };
    let keys = sections
        .iter()
        .filter(|(section, _)| *section != "output")
        .flat_map(|(section, keys)| keys.as_object().into_iter().flatten().map(move |key| (section, key)))
        .filter(|(section, (key, _))| !decides_nothing.contains(&(section.as_str(), key.as_str())));
    let keys = keys.map(|(section, (key, value))| (format!("{section}.{key}"), value.clone()));
    let lists = sections.iter().filter(|(_, list)| list.is_array()).map(|(name, list)| (name.clone(), decisive(list)));
    Ok(keys.chain(lists).collect())
}

/// A list of rewards without how a program is started and how long it has: what it says may change as well.
fn decisive(list: &Value) -> Value {
    let mut list = list.clone();
    for item in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["command", "timeout"] {
            item.remove(key);
        }
    }
    list
}

/// The value of a key without where the files and folders are that it names, each by its name alone; that of an adapter with its parent's,
/// since most adapters are called the same.
fn unplaced(key: &str, value: &Value) -> Value {
    let mut value = value.clone();
    match (key, &mut value) {
        ("model.base", base) => by_name(base, 1),
        ("adapter.init_from", folder) => by_name(folder, 2),
        ("data.train" | "data.eval", Value::Array(sources)) => {
            sources.iter_mut().filter_map(|source| source.get_mut("path")).for_each(|path| by_name(path, 1));
        }
        (_, Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| {
            for (key, names) in [("adapter", 2), ("base", 1), ("schema_file", 1)] {
                item.get_mut(key).into_iter().for_each(|path| by_name(path, names));
            }
        }),
        _ => {}
    }
    value
}

/// The last names of a path; what is somewhere else altogether (`hf://..`) stays.
fn by_name(value: &mut Value, names: usize) {
    let Some(path) = value.as_str().filter(|path| !path.contains("://")) else { return };
    let parts: Vec<&str> = Path::new(path)
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    *value = parts[parts.len().saturating_sub(names)..].join("/").into();
}

/// What a run may not change when it is resumed. Which devices of a kind share out its steps is no part of it, nor where its base and
/// the files are that it names: their content is, so that a project that is moved goes on.
///
/// # Errors
/// When the recipe cannot be written.
pub fn fingerprint(recipe: &Recipe, base: &Base, data: &Data, devices: &Devices) -> Result<Fingerprint> {
    // One part a key, so that a refusal can name it.
    let hashed = |value: Value| blake3::hash(value.to_string().as_bytes()).to_hex().to_string();
    let keys = keys(recipe)?.into_iter();
    let run = keys
        .fold(Fingerprint::new(), |run, (key, value)| match key.as_str() {
            "model.base" => run.with_any(key),
            _ => {
                let hash = hashed(unplaced(&key, &value));
                run.with(key, hash)
            }
        })
        .with("base model", &base.fingerprint)
        .with("training data", data.train.content_hash())
        .with("device", devices.kind())
        .with("threads", devices.first.threads.to_string());
    Ok(match &data.eval {
        Some(eval) => run.with("evaluation data", eval.content_hash()),
        None => run,
    })
}

/// Refuses to go on with the run in `folder` by another recipe than it was started with. What the recipe leaves open
/// (`auto`) is no difference, and neither is the same file at another place.
///
/// # Errors
/// When keys that decide what is trained differ: all of them, with both values.
pub fn check_recipe(recipe: &Recipe, folder: &RunFolder, progress: &dyn Progress) -> Result<()> {
    let path = folder.path("recipe.yaml");
    if !path.exists() {
        return Ok(());
    }
    let trained = match recipe::load(&path, &[]) {
        Ok(trained) => keys(&trained)?,
        Err(error) => {
            let what = error.what();
            progress.note(&format!("warning: `{}` cannot be compared with this recipe: {what}", path.display()));
            return Ok(());
        }
    };
    let differing = differences(&keys(recipe)?, &trained);
    if differing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = differing.iter().map(|(name, ..)| format!("`{name}`")).collect();
    let names = format!("{} {}", names.join(", "), if names.len() == 1 { "differs" } else { "differ" });
    let lines: Vec<String> =
        differing.iter().map(|(name, then, now)| format!("{name}: {then} in the run, {now} now")).collect();
    let dir = &recipe.output.dir;
    let shown = dir.display();
    let (what, hint) = if folder.is_finished() {
        let adapter = folder.path("adapter");
        let what = format!("the run in `{shown}` is finished, and its recipe has changed: {names}");
        let new = format!("start a new run with `adapter.init_from: {}` and another `output.dir`", adapter.display());
        (what, format!("to train further, {new}"))
    } else {
        let what = format!("the run in `{shown}` was started with another recipe: {names}");
        (what, format!("`{}` goes on as it was started; another `output.dir` starts a new run", resume_command(dir)))
    };
    Err(Error::new(Kind::Recipe, what).at_path(path).excerpt(lines.join("\n")).hint(hint))
}

/// The keys that are not the same `now` as `then`, with both values; of a list or of a key with keys of its own what differs in it.
fn differences(now: &BTreeMap<String, Value>, then: &BTreeMap<String, Value>) -> Vec<(String, String, String)> {
    let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        // What has only moved is the same; where more differs, all of it is shown as it was written.
        let of = |keys: &BTreeMap<String, Value>| keys.get(name).map(|value| unplaced(name, value));
        if now.get(name) != Some(&Value::from("auto")) && of(now) != of(then) {
            leaves(name, now.get(name), then.get(name), &mut found);
        }
    }
    found
}

fn leaves(name: &str, now: Option<&Value>, then: Option<&Value>, found: &mut Vec<(String, String, String)>) {
    match (now, then) {
        (Some(Value::Object(now)), Some(Value::Object(then))) => {
            let keys: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
            keys.into_iter().for_each(|key| leaves(&format!("{name}.{key}"), now.get(key), then.get(key), found));
        }
        (Some(Value::Array(now)), Some(Value::Array(then))) if now.iter().chain(then).any(Value::is_object) => {
            let items = 0..now.len().max(then.len());
            items.for_each(|at| leaves(&format!("{name}[{at}]"), now.get(at), then.get(at), found));
        }
        _ if now == then => {}
        _ => {
            let [then, now] = [then, now].map(|value| value.map_or("none".to_owned(), Value::to_string));
            // Of long ones that begin alike the end tells.
            let same = then.chars().zip(now.chars()).take_while(|(a, b)| a == b).count();
            let skipped = if same < LONGEST_VALUE { 0 } else { same - LONGEST_VALUE / 2 };
            let shown = |text: &str| {
                let rest: String = text.chars().skip(skipped).collect();
                let rest = excerpt(&rest, LONGEST_VALUE);
                if skipped == 0 { rest } else { format!("…{rest}") }
            };
            found.push((name.to_owned(), shown(&then), shown(&now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn how_a_program_is_started_is_no_part_of_what_it_says() {
        let rewards = json!([{"kind": "program", "command": ["a"], "timeout": 1.0, "weight": 2.0}, {"kind": "json"}]);
        assert_eq!(decisive(&rewards), json!([{"kind": "program", "weight": 2.0}, {"kind": "json"}]));
        assert_eq!(decisive(&json!("sft")), json!("sft"));
    }

    #[test]
    fn the_same_at_another_place_is_no_difference() {
        let of = |root: &str, base: &str, run: &str, reward: f64| {
            let source = json!([{"path": format!("{root}data/a.csv"), "weight": 2.0}, {"path": "hf://datasets/x/y"}]);
            let rewards = json!([{"kind": "model", "adapter": format!("{root}runs/{run}"), "weight": reward}]);
            BTreeMap::from([
                ("adapter.init_from".to_owned(), json!(format!("{root}runs/{run}"))),
                ("data.train".to_owned(), source),
                ("model.base".to_owned(), json!(base)),
                ("rewards".to_owned(), rewards),
            ])
        };
        let names = |now: BTreeMap<String, Value>| {
            let then = of("s/", "models/t", "a", 1.0);
            differences(&now, &then).into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(of("/elsewhere/s/", "/m/t", "a", 1.0)), Vec::<String>::new());
        assert_eq!(names(of("./s/", "u", "a", 1.0)), ["model.base"]);
        assert_eq!(names(of("s/", "t", "b", 1.0)), ["adapter.init_from", "rewards[0].adapter"]);
        assert_eq!(names(of("s/", "t", "a", 2.0)), ["rewards[0].weight"]);
        let mut other = of("s/", "t", "a", 1.0);
        other.insert(
            "data.train".into(),
            json!([{"path": "s/data/b.csv", "weight": 2.0}, {"path": "hf://datasets/x/y"}]),
        );
        assert_eq!(names(other), ["data.train[0].path"]);
        let hashed = |root: &str, run: &str, reward: f64| {
            let keys = of(root, "t", run, reward).into_iter().filter(|(key, _)| key != "model.base");
            keys.map(|(key, value)| unplaced(&key, &value)).collect::<Vec<_>>()
        };
        assert_eq!(hashed("s/", "a", 1.0), hashed("/elsewhere/s/", "a", 1.0));
        assert_ne!(hashed("s/", "a", 1.0), hashed("s/", "a", 2.0));
        assert_ne!(hashed("s/", "a", 1.0), hashed("s/", "b", 1.0));
    }

    #[test]
    fn differences_have_both_values_and_leave_out_what_is_open() {
        let keys =
            |pairs: &[(&str, Value)]| pairs.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        let then =
            keys(&[("a.b", json!(1)), ("a.c", json!(8)), ("a.d", json!(["x"])), ("a.e", json!("y".repeat(500)))]);
        let now = keys(&[("a.b", json!(2)), ("a.c", json!("auto")), ("a.d", json!(["x"])), ("a.f", json!(null))]);
        let found = differences(&now, &then);
        assert_eq!(found[0], ("a.b".into(), "1".into(), "2".into()));
        assert_eq!(found[1].0, "a.e");
        assert!(found[1].1.len() < 150 && found[1].2 == "none", "{found:?}");
        assert_eq!(found[2], ("a.f".into(), "none".into(), "null".into()));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn of_lists_and_long_values_what_differs_is_shown() {
        let of = |now: Value, then: Value| {
            let keys = |value: Value| BTreeMap::from([("data.train".to_owned(), value)]);
            differences(&keys(now), &keys(then))
        };
        let source = |path: &str| json!({"path": path, "format": "auto", "columns": {}});
        let found = of(json!([source("a"), source("c")]), json!([source("a"), source("b")]));
        assert_eq!(found, [("data.train[1].path".into(), "\"b\"".into(), "\"c\"".into())]);
        let found = of(json!([source("a")]), json!([source("a"), source("b")]));
        assert_eq!((found.len(), found[0].0.as_str(), found[0].2.as_str()), (1, "data.train[1]", "none"));
        let mut renamed = source("a");
        renamed["columns"] = json!({"prompt": "frage"});
        let found = of(json!([renamed]), json!([source("a")]));
        assert_eq!(found, [("data.train[0].columns.prompt".into(), "none".into(), "\"frage\"".into())]);
        assert_eq!(
            of(json!(["q_proj"]), json!(["q_proj", "v_proj"])),
            [("data.train".into(), "[\"q_proj\",\"v_proj\"]".into(), "[\"q_proj\"]".into())]
        );
        let long = |end: &str| json!(format!("{}{end}", "x".repeat(300)));
        let found = of(long("new"), long("old"));
        assert!(found[0].1.ends_with("old\"") && found[0].2.ends_with("new\""), "{found:?}");
        assert!(found[0].1.starts_with('…') && found[0].1.chars().count() < 100, "{found:?}");
    }
}
