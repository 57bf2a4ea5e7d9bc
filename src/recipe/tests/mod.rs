//! What users see: wrong recipes with their messages, and what right ones become.

use super::*;
use crate::adapter::target::TargetModules;
use crate::data::options::RowFormat;
use crate::weights::HostDtype;
use insta::assert_snapshot;
use std::fs;
use std::path::PathBuf;

mod answers;
mod any;
mod auto;
mod best;
mod between_keys;
mod files;
mod keys;
mod options;
mod syntax;
mod targets;
mod values;

/// The smallest recipe: three lines, so that what follows starts at line 4.
const MINIMAL: &str = "model: {base: google/gemma-3-1b-it}\ndata: {train: rows.jsonl}\noutput: {dir: out}\n";

fn read(text: &str, overrides: &[&str]) -> Result<Recipe> {
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    parse(Path::new("recipe.yaml"), text.into(), &overrides)
}

/// The message for a whole wrong recipe.
fn wrong(text: &str) -> String {
    let error = read(text, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// The message for lines after [`MINIMAL`].
fn wrong_after(text: &str) -> String {
    wrong(&format!("{MINIMAL}{text}"))
}

/// The message for a `--set` option on [`MINIMAL`].
fn wrong_set(text: &str) -> String {
    read(MINIMAL, &[text]).unwrap_err().to_string()
}

fn right_after(text: &str) -> Recipe {
    read(&format!("{MINIMAL}{text}"), &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_smallest_recipe_has_the_documented_defaults() {
    assert_snapshot!(right_after("").to_yaml(), @r##"
model:
  base: google/gemma-3-1b-it
  dtype: auto
  compute_dtype: auto
  quantization: none
  embedding_quantization: none
adapter:
  r: 16
  lora_alpha: 32.0
  lora_dropout: 0.0
  target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
  exclude_modules: []
  vision_target_modules: []
  audio_target_modules: []
  train_projector: false
  use_rslora: false
  use_dora: false
  init_lora_weights: true
  init_from: null
data:
  train:
    - {path: rows.jsonl, format: auto, columns: {}, template: true, prompt: null, split: null, weight: 1.0}
  eval: []
  eval_fraction: 0.0
  format: auto
  columns: {}
  template: true
  prompt: null
  max_length: 2048
  on_long: null
  on_long_audio: error
  do_pan_and_scan: null
  on_bad_row: error
  max_row_bytes: 16777216
  packing: true
  train_on: assistant
  shuffle: true
  system: null
training:
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 8
  num_train_epochs: 1.0
  max_steps: null
  optimizer: adamw
  learning_rate: 0.0002
  adam_beta1: 0.9
  adam_beta2: 0.999
  adam_epsilon: 1.0e-8
  sgd_momentum: 0.0
  weight_decay: 0.0
  max_grad_norm: 1.0
  lr_scheduler_type: cosine
  warmup_ratio: 0.03
  warmup_steps: null
  activation_checkpointing: auto
  fit: "off"
  seed: 42
evaluation:
  eval_steps: null
  eval_on_start: false
  early_stopping_patience: null
  load_best_model_at_end: false
  metric_for_best_model: null
  greater_is_better: null
  samples: 0
output:
  dir: out
  save_steps: auto
  save_total_limit: 2
  logging_steps: 1
  report_to: [jsonl, tensorboard]
  push_to_hub: null
  hub_private_repo: false
  hub_overwrite: false
  hub_base_model: null
"##);
}

#[test]
fn a_later_problem_is_shown_at_its_key() {
    use crate::error::{Error, Kind, Place};
    let recipe = read(
        "model: {base: m}\noutput: {dir: out}\ndata:\n  train: [a.jsonl, {path: b.jsonl}]\n  eval: c.jsonl\n",
        &["model.base=n"],
    )
    .unwrap();
    let place = |key: &str| {
        let error = recipe.places.locate(Error::new(Kind::Data, "x").at(Place::Key(key.into())));
        error.to_string().strip_prefix("error: x\n  --> ").unwrap().to_owned()
    };
    assert_eq!(
        place("data.train[1].path"),
        "recipe.yaml:4:27\n  4 |   train: [a.jsonl, {path: b.jsonl}]\n    |                           ^^^^^^^"
    );
    assert!(place("data.train[0].path").starts_with("recipe.yaml:4:11\n"), "the item");
    assert!(place("data.eval[0].path").starts_with("recipe.yaml:5:9\n"), "the whole key");
    assert_eq!(place("model.base"), "--set model.base=n");
    assert_eq!(place("adapter.r"), "adapter.r", "a default has no line");
}

#[test]
fn numbers_are_read_as_people_write_them() {
    let recipe = right_after(
        "training:\n  learning_rate: 2e-4\n  max_steps: 1_000\n  seed: 0xFF\n  adam_epsilon: 1E-6\n  num_train_epochs: 3\n",
    );
    let training = recipe.training;
    assert_eq!((training.learning_rate, training.max_steps, training.seed), (2e-4, Some(1000), 255));
    assert_eq!((training.adam_epsilon, training.num_train_epochs), (1e-6, 3.0));
    assert_eq!(right_after("training: {seed: 18446744073709551615}").training.seed, u64::MAX);
}

#[test]
fn training_rows_have_three_forms() {
    let train = |text: &str| {
        let text = format!("model: {{base: m}}\noutput: {{dir: o}}\ndata:\n  format: alpaca\n  train: {text}\n");
        read(&text, &[]).unwrap().data.train
    };
    let source = |path: &str, format| Source {
        path: path.into(),
        format,
        columns: Renames::default(),
        template: true,
        prompt: None,
        split: None,
        weight: 1.0,
    };
    assert_eq!(train("a.jsonl"), [source("a.jsonl", RowFormat::Alpaca)]);
    assert_eq!(train("[a, \"7\"]"), [source("a", RowFormat::Alpaca), source("7", RowFormat::Alpaca)]);
    assert_eq!(train("{path: a, format: text}"), [source("a", RowFormat::Text)]);
    assert_eq!(
        train("[{path: a, format: tokens, split: test, weight: 0.5}]"),
        [Source { split: Some("test".into()), weight: 0.5, ..source("a", RowFormat::Tokens) }]
    );
}

#[test]
fn a_prompt_is_for_rows_that_may_lack_one() {
    let text = "model: {base: m}\noutput: {dir: o}\ndata:\n  prompt: What?\n  train: [a, {path: b, format: messages}, {path: c, prompt: Who?}]\n";
    let recipe = read(text, &[]).unwrap();
    let prompts = |recipe: &Recipe| recipe.data.train.iter().map(|s| s.prompt.clone()).collect::<Vec<_>>();
    assert_eq!(prompts(&recipe), [Some("What?".to_owned()), None, Some("Who?".into())]);
    assert_eq!(read(&recipe.to_yaml(), &[]).unwrap(), recipe, "the resolved form says the same");
    for (train, told) in [
        ("{path: a, format: messages}", "`data.prompt` is asked of no row: format `messages` has no answers without"),
        ("[a, {path: b, format: text, prompt: Who?}]", "`data.train[1].prompt` is asked of no row: format `text`"),
    ] {
        let text = format!("model: {{base: m}}\noutput: {{dir: o}}\ndata:\n  prompt: What?\n  train: {train}\n");
        let error = read(&text, &[]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(told), "{error}");
    }
}

#[test]
fn targets_have_the_forms_of_peft() {
    let targets = |text: &str| right_after(&format!("adapter: {{target_modules: {text}}}")).adapter.target_modules;
    assert_eq!(targets("[q_proj, v_proj]"), TargetModules::Names(vec!["q_proj".into(), "v_proj".into()]));
    assert_eq!(targets("all-linear"), TargetModules::AllLinear);
    assert_eq!(targets("'.*q_proj'"), TargetModules::Regex(".*q_proj".into()));
}

#[test]
fn keys_beside_an_adapter_to_continue_are_remembered() {
    let recipe = right_after("adapter:\n  init_from: old/adapter\n  r: 16\n");
    assert_eq!(recipe.adapter.given.iter().collect::<Vec<_>>(), ["r"]);
    assert!(recipe.to_yaml().contains("adapter:\n  r: 16\n  init_from: old/adapter\n"));
    assert_eq!(read(&recipe.to_yaml(), &[]).unwrap(), recipe);
    assert!(right_after("adapter: {r: 16}").adapter.given.is_empty());
}

#[test]
fn steps_of_warmup_switch_the_ratio_off() {
    let training = right_after("training: {warmup_steps: 5}").training;
    assert_eq!((training.warmup_steps, training.warmup_ratio), (Some(5), 0.0));
    assert_eq!(right_after("").training.warmup_ratio, 0.03);
}

#[test]
fn evaluation_on_start_follows_the_data() {
    assert!(!right_after("").evaluation.eval_on_start);
    assert!(read(MINIMAL, &["data.eval=e.jsonl"]).unwrap().evaluation.eval_on_start);
    assert!(!read(MINIMAL, &["data.eval=e.jsonl", "evaluation.eval_on_start=false"]).unwrap().evaluation.eval_on_start);
}

#[test]
fn line_ends_and_marks_of_other_systems_are_read() {
    let recipe = format!("\u{feff}---\n{MINIMAL}");
    assert_eq!(read(&recipe, &[]).unwrap(), right_after(""));
    assert_eq!(read(&recipe.replace('\n', "\r\n"), &[]).unwrap(), right_after(""));
    let message = read(&format!("{MINIMAL}adapter:\n  r: 0\n").replace('\n', "\r\n"), &[]).unwrap_err();
    assert_eq!(message.to_string(), wrong_after("adapter:\n  r: 0\n"));
}

#[test]
fn the_schema_knows_every_key_with_words_default_and_range() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["training"]["properties"]["learning_rate"]["exclusiveMinimum"], 0.0);
    assert_eq!(schema["properties"]["adapter"]["properties"]["r"]["default"], 16);
    assert_eq!(schema["anyOf"][1]["properties"]["model"]["required"][0], "base");
    let defaults = right_after("").to_json();
    for (section, keys) in defaults.as_object().unwrap() {
        let section_schema = &schema["properties"][section];
        assert_eq!(section_schema["additionalProperties"], false, "{section}");
        let properties = section_schema["properties"].as_object().unwrap();
        assert_eq!(properties.keys().collect::<Vec<_>>(), keys.as_object().unwrap().keys().collect::<Vec<_>>());
        for (key, default) in keys.as_object().unwrap() {
            let described = properties[key]["description"].as_str().unwrap_or_default();
            assert!(described.len() > 10, "{section}.{key} has no description");
            assert!(
                !described.replace("\n\n", "").contains('\n'),
                "{section}.{key}: lines are broken as in the source"
            );
            let depends = matches!(key.as_str(), "base" | "train" | "dir" | "eval_on_start");
            assert_eq!(properties[key].get("default"), (!depends).then_some(default), "{section}.{key}");
        }
    }
}

#[test]
fn words_of_other_tools_lead_to_keys_that_exist() {
    let mut diagnosis = diagnose::Diagnosis::default();
    Recipe::resolve(None, &mut diagnosis);
    let known = |path: &str| diagnosis.known.iter().any(|k| format!("{}.{}", k.section, k.key) == path);
    let section = |name: &str| diagnosis.known.iter().any(|k| k.section == name);
    for (word, ours) in suggest::OTHER_WORDS {
        let key = ours.split(':').next().unwrap();
        assert!(known(key) || section(key), "{ours}");
        let section = key.split('.').next().unwrap();
        assert!(!known(&format!("{section}.{word}")), "{word} is a key of ours");
    }
}

#[test]
fn the_recipes_of_this_project_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in fs::read_dir(root.join("recipes")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let recipe = load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            // As a run leaves it in its folder, from which it goes on.
            read(&recipe.to_yaml(), &[]).unwrap_or_else(|error| panic!("{}, resolved: {error}", path.display()));
        }
    }
    for file in fs::read_dir(root.join("configs/hardware")).unwrap() {
        let preset = file.unwrap().path();
        let text = format!("extends: \"{}\"\n{MINIMAL}", preset.display());
        read(&text, &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}
