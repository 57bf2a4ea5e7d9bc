//! The rooms of `src` and the arrows between them, kept as drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room and the rooms that its code may name, from the ones that wire everything to the ones that know nothing.
/// What everyone may use is in [`COMMON`]; tests may use what they like.
const ARROWS: &[(&str, &[&str])] = &[
    // The user's side. The wiring of all the other rooms happens in `jobs`, which alone knows most of them.
    ("cli", &["jobs", "recipe", "report", "infer", "train", "weights", "eval", "serve", "studio", "queue"]),
    (
        "jobs",
        &[
            "recipe", "report", "hub", "data", "text", "train", "infer", "export", "adapter", "model", "nn", "ops",
            "weights", "device", "media", "eval", "serve", "queue",
        ],
    ),
    // What the user typed. Option enums live with the rooms that obey them.
    ("recipe", &["adapter", "data", "text", "train", "weights"]),
    // What a run shows: sinks of the events of `train`.
    ("report", &["train"]),
    // What is done with a model and its adapter.
    // Gradients and dropout are a device's; checkpoints hold safetensors.
    ("train", &["adapter", "model", "nn", "ops", "text", "weights"]),
    ("infer", &["model", "nn", "ops"]),
    // HTTP, over whatever makes prompts of requests.
    ("serve", &["infer", "model", "nn", "queue", "text"]),
    // What waits to be trained, for whoever shows it: neither HTTP nor models.
    ("queue", &["recipe"]), // where runs lie
    // A page over the verbs of this program, each of which is a process of its own.
    ("studio", &["queue", "recipe", "serve"]),
    ("export", &["adapter", "weights", "quant"]),
    // Numbers about models, without models.
    ("eval", &[]),
    // The model. An adapter runs beside it, and no model code knows that.
    ("adapter", &["model", "nn", "ops", "weights"]),
    ("model", &["nn", "ops", "weights", "quant"]), // of random numbers: in every form that weights are held in
    ("nn", &["ops"]),
    ("ops", &["quant"]),
    // Files, text, pictures and sounds. Data knows no model.
    ("data", &["text", "media"]),
    ("media", &[]),
    ("text", &["weights", "media"]), // the vocabulary of a GGUF file; how many tokens a picture or a clip takes
    ("weights", &["quant"]),
    ("hub", &[]),
    ("quant", &[]),
    ("device", &["ops"]), // what a device multiplies fastest
    // For tests.
    ("testkit", &["text", "weights"]),
    // What everyone may use.
    ("clock", &[]),
    ("fence", &["error", "guard"]),
    ("guard", &[]),
    ("progress", &[]),
    ("random", &[]),
    ("terminal", &[]),
    ("atomic", &["error"]),
    ("input", &["atomic", "error"]),
    ("paths", &["error"]),
    ("process", &["input"]),
    ("error", &["terminal"]),
];

/// Rooms that everyone may use.
const COMMON: &[&str] = &[
    "error", "atomic", "clock", "fence", "guard", "input", "paths", "process", "progress", "random", "terminal",
    "Error", "Result",
];

/// A file passes this and is two rooms.
const MAX_LINES: usize = 600;

/// A source file: its path from the repository's root, its room, its text without tests and comments.
pub struct Source {
    pub path: String,
    pub room: String,
    pub lines: usize,
    pub code: String,
}

pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(source(root, path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "only {} files found", found.len());
    found
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("UTF-8");
    let path = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
    let room = path.split('/').nth(1).expect("a room").trim_end_matches(".rs").to_owned();
    let is_test = path.ends_with("/tests.rs") || path.ends_with("/testing.rs") || path.contains("/tests/");
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = if is_test { "" } else { before_tests };
    let code =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    Source { path, room, lines: text.lines().count(), code }
}

/// The first names after each `crate::`, also of `crate::{a, b::c}`.
fn uses(code: &str) -> BTreeSet<String> {
    let name =
        |text: &str| -> String { text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.insert(name(after));
            continue;
        };
        let mut depth = 0;
        let top_level = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        };
        found.extend(
            group[..closing(group)].split(top_level).map(name).filter(|name| !name.is_empty() && name != "self"),
        );
    }
    found
}

/// Where the brace that was open before `text` is closed.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[test]
fn uses_are_found() {
    let code = "use crate::error::{Error, Kind};\nuse crate::{data::{self, X}, text};\nlet x = crate::nn::f();";
    assert_eq!(uses(code).into_iter().collect::<Vec<_>>(), ["data", "error", "nn", "text"]);
}

#[test]
fn rooms_use_each_other_in_one_direction() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut problems = Vec::new();
    for Source { path, room, code, .. } in sources() {
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(allowed) = arrows.get(room.as_str()) else {
            problems.push(format!("{path}: the room `{room}` is not in the table"));
            continue;
        };
        for used in uses(&code) {
            let common = COMMON.contains(&used.as_str());
            if used != room && !common && !allowed.contains(&used.as_str()) {
                problems.push(format!("{path}: `{room}` may not use `{used}`"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A new architecture touches the room of models and the table of names, and nothing else.
#[test]
fn the_room_of_models_alone_knows_architectures() {
    let outside = sources().into_iter().filter(|source| source.room != "model");
    let problems: Vec<String> = outside
        .flat_map(|Source { path, code, .. }| {
            let named =
                ["gemma3::", "ModelConfig::Gemma", "TextConfig"].into_iter().filter(move |name| code.contains(name));
            named.map(move |name| format!("{path} names `{name}`")).collect::<Vec<_>>()
        })
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Files that are opened past `input`, which refuses what is to be written: none of them is a user's.
const OPENED_PAST_INPUT: &[(&str, &str)] = &[
    ("src/input.rs", "the door itself"),
    ("src/atomic/", "what is written, and its folders"),
    ("src/testkit/", "goldens"),
    ("src/data/cache/", "our own cache, and notes in it"),
    ("src/data/media/", "asks for itself, with words of its own for what is missing"),
    ("src/jobs/chat/history.rs", "a file of rows that one more is added to"),
    ("src/hub/repository.rs", "references of the Hub's cache"),
    ("src/queue/metrics.rs", "what a run of ours writes"),
    ("src/export/folder.rs", "makes what was written durable"),
    ("src/report/", "what the system says of itself"),
    ("src/device/host.rs", "what the system says of itself"),
];

#[test]
fn files_are_opened_where_it_is_known_what_is_to_be_written() {
    let opens = |code: &str| {
        ["fs::read(", "fs::read_to_string(", "File::open("].iter().any(|call| {
            let before = |(at, _): (usize, &str)| code[..at].chars().next_back();
            code.match_indices(call).any(|found| before(found).is_none_or(|c| !c.is_alphanumeric() && c != '_'))
        })
    };
    assert!(opens("let x = std::fs::read(p);") && opens("File::open(p)") && !opens("SafetensorsFile::open(p)"));
    let found: Vec<String> = sources().into_iter().filter(|source| opens(&source.code)).map(|s| s.path).collect();
    let listed = |path: &String| OPENED_PAST_INPUT.iter().any(|(start, _)| path.starts_with(start));
    assert_eq!(found.iter().filter(|path| !listed(path)).collect::<Vec<_>>(), Vec::<&String>::new());
    for (start, _) in OPENED_PAST_INPUT {
        assert!(found.iter().any(|path| path.starts_with(start)), "`{start}` opens none any more");
    }
}

/// Files that multiply matrices past `ops::product`, whose products are f32 everywhere and which no size ends.
const MULTIPLIED_PAST_PRODUCT: &[(&str, &str)] = &[
    ("src/ops/product.rs", "the door itself"),
    ("src/ops/gpu/product/trial.rs", "on the CPU, to compare with"),
    ("src/jobs/doctor.rs", "the speed of the CPU"),
];

#[test]
fn matrices_are_multiplied_by_kernels_that_are_chosen() {
    let multiplies = |source: &Source| source.code.contains(".matmul(");
    let found: Vec<String> = sources().into_iter().filter(multiplies).map(|source| source.path).collect();
    assert_eq!(found, {
        let mut listed: Vec<&str> = MULTIPLIED_PAST_PRODUCT.iter().map(|(path, _)| *path).collect();
        listed.sort_unstable();
        listed
    });
}

#[test]
fn the_table_has_no_circle() {
    // Every arrow leads to a room whose own arrows never lead back.
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (room, direct) in ARROWS {
        let (mut seen, mut next) = (BTreeSet::new(), direct.to_vec());
        while let Some(room) = next.pop() {
            if seen.insert(room) {
                next.extend(arrows.get(room).unwrap_or_else(|| panic!("`{room}` is in no row")).iter());
            }
        }
        assert!(!seen.contains(room), "`{room}` leads back to itself by way of {seen:?}");
    }
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.lines > MAX_LINES)
        .map(|source| format!("{}: {} lines", source.path, source.lines))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}
