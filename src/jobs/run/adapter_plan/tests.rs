use super::*;
use crate::adapter::peft::testing::golden;
use crate::adapter::peft::{CONFIG_FILE, PeftAdapter};
use crate::progress::Silent;
use crate::weights::{Holding, Source};
use burn::tensor::Device;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;

fn published(size: &str) -> TextConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/models/gemma-3-{size}.json"));
    TextConfig::from_hf_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap().0
}

/// A tiny model of `tests/goldens/export`.
fn tiny(name: &str) -> TextConfig {
    TextConfig::from_folder(&golden(name)).unwrap().0
}

fn keys(targets: recipe::TargetModules) -> recipe::Adapter {
    recipe::Adapter {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: targets,
        exclude_modules: Vec::new(),
        use_rslora: false,
        use_dora: false,
        init_lora_weights: recipe::InitLoraWeights::Kaiming,
        init_from: None,
        given: BTreeSet::new(),
    }
}

fn names(names: &[&str]) -> recipe::TargetModules {
    recipe::TargetModules::Names(names.iter().map(|&name| name.into()).collect())
}

/// The keys of a recipe that continues the adapter in `folder` and says nothing else.
fn continuing(folder: &Path) -> recipe::Adapter {
    recipe::Adapter { init_from: Some(folder.into()), ..keys(recipe::TargetModules::AllLinear) }
}

/// A copy of a golden adapter whose `adapter_config.json` says other things.
fn saying(name: &str, changes: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    std::fs::write(&path, config.to_string()).unwrap();
    dir
}

#[test]
fn a_multimodal_models_vision_tower_is_never_targeted() {
    let layers = r"model\.language_model\.layers\.\d+\.(self_attn\.q_proj|self_attn\.v_proj)";
    let expected = TargetModules::Regex(layers.into());
    for targets in [names(&["q_proj", "v_proj"]), recipe::TargetModules::Regex(r".*\.[qv]_proj".into())] {
        let plan = AdapterPlan::new(&keys(targets), &published("4b")).unwrap();
        assert_eq!(plan.config.target_modules, expected);
        assert_eq!(plan.sites.len(), 68);
    }
    let plan = AdapterPlan::new(&keys(names(&["q_proj", "v_proj"])), &published("270m")).unwrap();
    assert_eq!(plan.config.target_modules, TargetModules::Names(vec!["q_proj".into(), "v_proj".into()]));
}

#[test]
fn what_is_given_may_not_contradict_the_adapter_that_is_continued() {
    let folder = saying("text-lora", &[("exclude_modules", json!(["vision_tower"]))]);
    let with = |given: &str, change: fn(&mut recipe::Adapter)| {
        let mut keys = continuing(folder.path());
        change(&mut keys);
        keys.given = [given.to_owned()].into();
        AdapterPlan::new(&keys, &tiny("text")).map_err(|e| (e.what().to_owned(), e.place().cloned()))
    };
    let all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    assert_eq!(with("target_modules", |_| {}).unwrap().sites.len(), 14);
    assert_eq!(with("", |keys| keys.target_modules = names(&["k_proj"])).unwrap().sites.len(), 14);
    let mut by_name = continuing(folder.path());
    (by_name.target_modules, by_name.given) = (names(&all), ["target_modules".to_owned()].into());
    assert_eq!(AdapterPlan::new(&by_name, &tiny("text")).unwrap().sites.len(), 14);

    let contradicts = |key: &str| {
        let what = format!("`adapter.{key}` contradicts the adapter that `init_from` continues");
        Some((what, Some(Place::Key(format!("adapter.{key}")))))
    };
    let wrong = |given, change| with(given, change).err();
    assert_eq!(wrong("r", |_| {}), contradicts("r"));
    assert_eq!(wrong("use_dora", |keys| keys.use_dora = true), contradicts("use_dora"));
    assert_eq!(wrong("target_modules", |keys| keys.target_modules = names(&["k_proj"])), contradicts("target_modules"));
    assert_eq!(
        wrong("exclude_modules", |keys| keys.exclude_modules = vec!["v_proj".into()]),
        contradicts("exclude_modules")
    );
}

#[test]
fn every_adapter_that_can_be_used_can_be_continued() {
    let python = json!("model(?!.*vision).*_proj");
    let extra = json!(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "fc1"]);
    for (model, name, changes) in [
        ("text", "text-lora", vec![]),
        ("text", "text-dora", vec![]),
        ("text", "text-rslora", vec![]),
        ("text", "text-patterns", vec![]),
        ("text", "text-lora", vec![("target_modules", python)]),
        ("text", "text-lora", vec![("target_modules", extra)]),
        ("multimodal", "multimodal-lora", vec![]),
        // Saved for the text-only model; the language model inside is the same.
        ("multimodal", "text-lora", vec![]),
    ] {
        let folder = saying(name, &changes);
        let (config, device) = (tiny(model), Device::flex());
        let plan = AdapterPlan::new(&continuing(folder.path()), &config).unwrap();
        let source = Source::open_folder(&golden(model)).unwrap();
        let model = Gemma3::load(config, &source, &Holding::default(), &device, &Silent).unwrap();
        let adapter = plan.create(&model, Rng::new(0));
        let original = PeftAdapter::read(folder.path(), &model.config.sites()).unwrap();
        let (tensors, settings) = peft::from_adapter(&adapter, &plan.config);
        assert_eq!(tensors, original.tensors, "{name} {changes:?}");
        assert_eq!(plan.trainable(), adapter.trainable(), "{name} {changes:?}");
        assert_eq!(plan.sites.len(), adapter.modules().len(), "{name} {changes:?}");

        // What is saved in the end is read as the same adapter.
        let saved = tempfile::tempdir().unwrap();
        tensors.write(saved.path(), model.config.multimodal).unwrap();
        std::fs::write(saved.path().join(CONFIG_FILE), settings.to_json()).unwrap();
        let again = PeftAdapter::read(saved.path(), &model.config.sites()).unwrap();
        assert_eq!((again.tensors, again.ignored), (tensors, Vec::new()), "{name} {changes:?}");
    }
}

#[test]
fn patterns_that_would_mean_other_modules_once_saved_are_refused() {
    let folder = saying(
        "text-patterns",
        &[(
            "rank_pattern",
            json!({"model.layers.\\d.self_attn.q_proj": 3,
        "layers\\.1\\.mlp\\..*": 1}),
        )],
    );
    assert_eq!(AdapterPlan::new(&continuing(folder.path()), &tiny("text")).unwrap().sites.len(), 12);
    let error = AdapterPlan::new(&continuing(folder.path()), &tiny("multimodal")).unwrap_err();
    assert_eq!(
        error.what(),
        "`rank_pattern` or `alpha_pattern` is written for other paths than this model's \
         `model.language_model.layers.0.self_attn.q_proj`"
    );
    assert_eq!(error.place(), Some(&Place::Path(folder.path().join(CONFIG_FILE))));
}
