//! What `estimate` says, and what the recipes and the README quote of it.

use crate::bench::Bench;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The recipes of this repository.
fn recipes() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(Path::new(ROOT).join("recipes")).expect("recipes");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// A bench in which the repository's own paths lead to its files.
fn with_repository() -> Bench {
    let bench = Bench::new();
    for name in ["recipes", "configs", "data"] {
        std::os::unix::fs::symlink(Path::new(ROOT).join(name), bench.path(name)).expect("a link");
    }
    bench
}

#[test]
fn the_estimate_of_a_recipe_adds_up_and_is_that_of_the_run() {
    let bench = Bench::new();
    let forecast = bench.run("estimate r.yaml --set data.packing=true --json --no-probe").json();
    let parts = forecast["memory"].as_object().expect("parts");
    let sum: u64 = parts.values().map(|bytes| bytes.as_u64().expect("bytes")).sum();
    assert_eq!(forecast["memory_bytes"], sum);
    assert_eq!((&forecast["sizes_from"], &forecast["tokens"]), (&json!("headers"), &json!(48)));
    assert_eq!((&forecast["fits"], &forecast["suggestions"]), (&json!(true), &json!([])));
    // Rows of at most 48 tokens in bins of 48: the run cannot have larger micro-batches.
    let planned = bench.run("train r.yaml --dry-run --json").json();
    assert_eq!(planned["plan"]["memory"], forecast["memory"]);
}

#[test]
fn the_time_of_a_step_is_measured_where_the_run_would_compute() {
    let bench = Bench::new();
    let steps = "--set training.max_steps=7 --set training.gradient_accumulation_steps=3";
    let forecast = bench.run(&format!("estimate r.yaml --device cpu {steps} --json")).json();
    let number = |key: &str| forecast[key].as_f64().unwrap_or_else(|| panic!("{key}: {forecast}"));
    let (seconds, tokens) = (number("seconds_per_step"), number("tokens_per_step"));
    assert!(seconds.is_finite() && seconds > 0.0, "{forecast}");
    assert_eq!((tokens, &forecast["tokens"]), (3.0 * number("tokens"), &json!(48)));
    assert!((number("tokens_per_second") * seconds / tokens - 1.0).abs() < 1e-9, "{forecast}");
    assert!((number("seconds_total") / seconds / 7.0 - 1.0).abs() < 1e-9, "{forecast}");
    assert_eq!((&forecast["device"], &forecast["not_timed"]), (&json!("cpu"), &Value::Null));

    let forecast = bench.run("estimate r.yaml --no-probe --json").json();
    assert_eq!((&forecast["seconds_per_step"], &forecast["not_timed"]), (&Value::Null, &json!("not asked for")));
    let said = bench.run("estimate r.yaml").ok();
    assert!(said.lines().any(|line| line.starts_with("Time on ") && line.contains(" a step of ")), "{said}");
    assert_eq!(bench.run("estimate r.yaml --device cpu:1").code, Some(2));
}

#[test]
fn what_cannot_fit_anywhere_gets_advice_and_is_not_trained() {
    let bench = Bench::new();
    let huge = "--set training.per_device_train_batch_size=65536 --set data.max_length=65536 \
                --set training.gradient_accumulation_steps=1 --set model.base=google/gemma-3-27b-it";
    let forecast = bench.run(&format!("estimate r.yaml {huge} --json --no-probe")).json();
    assert_eq!((&forecast["sizes_from"], &forecast["fits"]), (&json!("published"), &json!(false)));
    let bytes = |value: &Value| value["memory_bytes"].as_u64().expect("bytes");
    let suggestions = forecast["suggestions"].as_array().expect("suggestions");
    assert!(suggestions.len() >= 3 && suggestions.iter().all(|s| bytes(s) < bytes(&forecast)), "{forecast}");

    let many = "--set training.per_device_train_batch_size=65536 --set data.max_length=1000000";
    let shown = bench.run(&format!("train r.yaml --dry-run {many}"));
    assert_eq!(shown.code, Some(0), "all rows together are few: {}", shown.stderr);
}

#[test]
fn as_stored_needs_a_file_of_blocks() {
    let bench = Bench::new();
    let said = bench.run("estimate r.yaml --set model.base=google/gemma-3-1b-it --set model.quantization=as_stored");
    assert_eq!(said.code, Some(2));
    assert!(said.problem().contains("these weights are plain floats"), "{}", said.stderr);
    let said = bench.run("estimate r.yaml --set model.base=someone/other-model");
    assert_eq!(said.code, Some(1), "neither published nor in the cache: {}", said.stderr);
}

#[test]
fn recipes_are_right_and_quote_their_estimates() {
    let bench = with_repository();
    let mut quoted = 0;
    for path in recipes() {
        let name = format!("recipes/{}", path.file_name().expect("a name").to_string_lossy());
        bench.run(&format!("recipe check {name} --no-files")).ok();
        let text = std::fs::read_to_string(&path).expect("a recipe");
        if let Some(line) = text.lines().find_map(|line| line.strip_prefix("# Memory: ")) {
            let said = bench.run(&format!("estimate {name} --no-probe")).ok();
            let memory = said.lines().find_map(|line| line.strip_prefix("Memory: ")).expect("memory");
            assert_eq!(line, memory, "{name}");
            quoted += 1;
        }
    }
    assert!(quoted >= 6, "only {quoted} recipes quote their estimate");
}

#[test]
fn the_table_of_the_readme_is_what_estimate_prints() {
    let bench = with_repository();
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("a README");
    for size in ["270m", "1b", "4b", "12b", "27b"] {
        let cell = |quantization: &str, max_length: usize| {
            let said = bench.run(&format!(
                "estimate --no-probe recipes/sft_{size}.yaml --set model.quantization={quantization} --set data.max_length={max_length}"
            ));
            let said = said.ok();
            let memory = said.lines().find_map(|line| line.strip_prefix("Memory: about ")).expect("memory");
            memory.split(" (").next().expect("a total").to_owned()
        };
        let cells = [cell("none", 512), cell("none", 2048), cell("nf4_double", 512), cell("nf4_double", 2048)];
        let row = format!("| `recipes/sft_{size}.yaml` | {} |", cells.join(" | "));
        assert!(readme.contains(&row), "the README lacks the row\n{row}");
    }
}
