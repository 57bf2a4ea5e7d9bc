use super::*;
use crate::adapter::peft::testing::golden;
use crate::adapter::peft::{CONFIG_FILE, ModuleTensors, PeftAdapter};
use crate::adapter::target::TargetModules;
use crate::error::Place;
use crate::model::{self, Inputs};
use crate::nn::{BaseOnly, Segments, SidePath};
use crate::progress::Silent;
use crate::random::Label;
use crate::testkit::golden::l2_relative;
use crate::weights::{Holding, Source};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;

fn published(size: &str) -> ModelConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/models/gemma-3-{size}.json"));
    ModelConfig::from_hf_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap().0
}

/// A tiny model of `tests/goldens/export`.
fn tiny(name: &str) -> ModelConfig {
    ModelConfig::from_folder(&golden(name)).unwrap().0
}

fn keys(targets: TargetModules) -> recipe::Adapter {
    recipe::Adapter {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: targets,
        exclude_modules: Vec::new(),
        vision_target_modules: Vec::new(),
        audio_target_modules: Vec::new(),
        train_projector: false,
        use_rslora: false,
        use_dora: false,
        init_lora_weights: recipe::InitLoraWeights::Kaiming,
        init_from: None,
        given: BTreeSet::new(),
    }
}

fn names(names: &[&str]) -> TargetModules {
    TargetModules::Names(names.iter().map(|&name| name.into()).collect())
}

/// The keys of a recipe that continues the adapter in `folder` and says nothing else.
fn continuing(folder: &Path) -> recipe::Adapter {
    recipe::Adapter { init_from: Some(folder.into()), ..keys(TargetModules::AllLinear) }
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
    for targets in [names(&["q_proj", "v_proj"]), TargetModules::Regex(r".*\.[qv]_proj".into())] {
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
        let model = model::load(config, &source, &Holding::default(), &device, &Silent).unwrap();
        let adapter = plan.create(&*model, Rng::new(0));
        let original = PeftAdapter::read(folder.path(), &model.config().places()).unwrap();
        let (tensors, settings) = peft::from_adapter(&adapter, &plan.config);
        assert_eq!(tensors, original.tensors, "{name} {changes:?}");
        assert_eq!(plan.trainable(), adapter.trainable(), "{name} {changes:?}");
        assert_eq!(plan.sites.len(), adapter.modules().len(), "{name} {changes:?}");

        // What is saved in the end is read as the same adapter.
        let saved = tempfile::tempdir().unwrap();
        tensors.write(saved.path(), model.config().multimodal()).unwrap();
        std::fs::write(saved.path().join(CONFIG_FILE), settings.to_json()).unwrap();
        let again = PeftAdapter::read(saved.path(), &model.config().places()).unwrap();
        assert_eq!((again.tensors, again.ignored), (tensors, Vec::new()), "{name} {changes:?}");
    }
}

#[test]
fn a_head_that_judges_stands_beside_an_adapter_and_goes_on_with_it() {
    let device = Device::flex();
    for (base, name) in [("text", "text-lora"), ("multimodal", "multimodal-lora")] {
        let source = Source::open_folder(&golden(base)).unwrap();
        let model = model::load(tiny(base), &source, &Holding::default(), &device, &Silent).unwrap();
        let places = model.config().places_of_judge();
        let head = |adapter: &Adapter| adapter.whole()[0].value.to_data().try_to_vec::<f32>().unwrap();
        // New beside a new adapter, and beside one that goes on and had none.
        for keys in [keys(names(&["q_proj"])), continuing(&golden(name))] {
            let plan = AdapterPlan::of(Task::Reward, &keys, &tiny(base)).unwrap();
            let adapter = plan.create(&*model, Rng::new(7));
            assert_eq!((plan.trainable(), plan.is_beside_text()), (adapter.trainable(), false));
            assert_eq!(head(&adapter), head(&plan.create(&*model, Rng::new(7))));
            assert_ne!(head(&adapter), head(&plan.create(&*model, Rng::new(8))));
            let deviation = head(&adapter).iter().map(|x| x * x).sum::<f32>() / head(&adapter).len() as f32;
            assert!((0.01..0.03).contains(&deviation.sqrt()), "{deviation}");

            let saved = tempfile::tempdir().unwrap();
            let (tensors, config) = peft::from_adapter(&adapter, &plan.config);
            tensors.write(saved.path(), model.config().multimodal()).unwrap();
            std::fs::write(saved.path().join(CONFIG_FILE), config.to_json()).unwrap();
            let again = PeftAdapter::read(saved.path(), &places).unwrap();
            assert!(again.config.judges() && again.tensors == tensors && again.ignored.is_empty());
            let going_on = AdapterPlan::of(Task::Reward, &continuing(saved.path()), &tiny(base)).unwrap();
            assert_eq!(head(&going_on.create(&*model, Rng::new(9))), head(&adapter));
            // Nobody else can do anything with it.
            let error = AdapterPlan::new(&continuing(saved.path()), &tiny(base)).unwrap_err();
            assert!(error.what().starts_with("the adapter is a reward model"), "{error}");
        }
    }
    let nested = ModelConfig::published("google/gemma-3n-E2B-it").unwrap().unwrap();
    let error = AdapterPlan::of(Task::Reward, &keys(names(&["q_proj"])), &nested).unwrap_err();
    assert_eq!(
        (error.what(), error.place()),
        ("`task: reward` trains a head that no Gemma 3n has", Some(&Place::Key("task".into())))
    );
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

/// `W + s B A` of a saved module, from the numbers of `adapter_config.json` by PEFT's rules, in f64.
fn as_peft_merges(base: &[f32], module: &ModuleTensors, config: &Value) -> Vec<f64> {
    let number = |key: &str| config[key].as_f64().unwrap();
    let r = number("r");
    let scaling = number("lora_alpha") / if config["use_rslora"] == true { r.sqrt() } else { r };
    let (a, b) = (module.a.to_f32(), module.b.to_f32());
    let (r, inputs) = (module.a.shape[0], module.a.shape[1]);
    let value = |(i, w): (usize, &f32)| {
        let (row, column) = (i / inputs, i % inputs);
        let product = |k: usize| f64::from(b[row * r + k]) * f64::from(a[k * inputs + column]);
        f64::from(*w) + scaling * (0..r).map(product).sum::<f64>()
    };
    base.iter().enumerate().map(value).collect()
}

#[test]
fn a_pissa_adapter_is_saved_with_twice_the_rank_for_the_original_base() {
    let source = Source::open_folder(&golden("text")).unwrap();
    let model = model::load(tiny("text"), &source, &Holding::default(), &Device::flex(), &Silent).unwrap();
    for use_rslora in [false, true] {
        let init_lora_weights = recipe::InitLoraWeights::Pissa;
        let keys = recipe::Adapter { r: 3, init_lora_weights, use_rslora, ..keys(TargetModules::AllLinear) };
        let plan = AdapterPlan::new(&keys, &tiny("text")).unwrap();
        let mut adapter = plan.create(&*model, Rng::new(5));
        let mut random = Rng::new(6).stream(&[Label::Purpose("test")]);
        let trained = adapter.parameters().into_iter().map(|parameter| {
            let [rows, columns] = parameter.dims();
            let noise = TensorData::new(random.uniform_f32(rows * columns, -0.2, 0.2), [rows, columns]);
            parameter + Tensor::from_data(noise, &Device::flex())
        });
        let trained = trained.collect();
        adapter.set_parameters(trained);

        let saved = tempfile::tempdir().unwrap();
        let (tensors, settings) = peft::from_adapter(&adapter, &plan.config);
        tensors.write(saved.path(), false).unwrap();
        std::fs::write(saved.path().join(CONFIG_FILE), settings.to_json()).unwrap();
        let config: Value = serde_json::from_str(&settings.to_json()).unwrap();
        assert_eq!(config["r"], 6);
        for module in adapter.modules() {
            let weight = model.linear(module.site.index).weight.to_f32();
            let base: Vec<f32> = weight.to_data().iter().collect();
            let (a0, b0) = module.subtracted.clone().unwrap();
            let moved = module.b.clone().matmul(module.a.clone()) - b0.matmul(a0);
            let expected = weight + moved.mul_scalar(module.scaling);
            let saved = &tensors.modules[&module.site.weight];
            let merged = as_peft_merges(&base, saved, &config);
            let gap = l2_relative(&expected.into_data().iter::<f32>().collect::<Vec<_>>(), &merged);
            assert!(gap < 1e-6, "rslora {use_rslora} {:?}: {gap:e}", module.site);
        }

        // On the original base, as another program would use it.
        let read = peft::read(saved.path(), &*model).unwrap();
        let output = |side: &dyn SidePath| -> Vec<f32> {
            let inputs = Inputs::text(vec![2, 9, 4, 11, 7, 3, 5], Segments::from_lengths([7]));
            model.hidden(&inputs, side).into_data().iter().collect()
        };
        let expected: Vec<f64> = output(&adapter).into_iter().map(f64::from).collect();
        let gap = l2_relative(&output(&read), &expected);
        assert!(gap < 1e-5, "rslora {use_rslora}: {gap:e}");
        assert!(l2_relative(&output(&BaseOnly), &expected) > 0.05, "the adapter does nothing");
    }
}
