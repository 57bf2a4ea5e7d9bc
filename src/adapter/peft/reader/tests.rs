use super::*;
use crate::adapter::peft::CONFIG_FILE;
use crate::adapter::peft::testing::{golden, shapes};
use crate::adapter::target::TargetModules;
use crate::weights::HostData;
use crate::weights::names::Projection;
use crate::weights::safetensors_file::{FORMAT_PT, write_safetensors};
use std::fs;
use tempfile::TempDir;

fn read(name: &str) -> PeftAdapter {
    PeftAdapter::read(&golden(name), &shapes()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let file = SafetensorsFile::open(&dir.join(TENSORS_FILE)).unwrap();
    let mut names: Vec<_> = file.header().tensors.iter().map(|entry| entry.name.clone()).collect();
    names.sort();
    names
}

/// A copy of the golden LoRA with its tensors changed.
fn changed(change: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden("text-lora").join(CONFIG_FILE), dir.path().join(CONFIG_FILE)).unwrap();
    let file = SafetensorsFile::open(&golden("text-lora").join(TENSORS_FILE)).unwrap();
    let all = file.header().tensors.iter();
    let mut tensors = all.map(|e| (e.name.clone(), file.read(&e.name, &e.shape, None).unwrap())).collect();
    change(&mut tensors);
    write_safetensors(&dir.path().join(TENSORS_FILE), tensors, FORMAT_PT).unwrap();
    dir
}

fn problems(dir: &Path) -> Vec<String> {
    PeftAdapter::read(dir, &shapes()).unwrap_err().iter().map(|e| e.what().to_owned()).collect()
}

#[test]
fn what_peft_saved_is_read_with_its_scalings() {
    let lora = read("text-lora");
    assert_eq!((lora.tensors.modules.len(), lora.tensors.parameters()), (14, 464));
    let down = &lora.tensors.modules[&TensorId::Projection(1, Projection::Down)];
    assert_eq!((&down.a.shape[..], &down.b.shape[..], down.scaling), (&[2, 12][..], &[8, 2][..], 2.0));
    let rslora = read("text-rslora");
    assert!(rslora.tensors.modules.values().all(|module| module.scaling == 1.0));
    let dora = read("text-dora");
    assert_eq!(dora.tensors.modules[&TensorId::Projection(0, Projection::Up)].magnitude.as_ref().unwrap().shape, [12]);
    let patterns = read("text-patterns");
    assert_eq!(patterns.tensors.modules.len(), 12);
    assert_eq!(patterns.tensors.modules[&TensorId::Projection(0, Projection::Q)].a.shape, [3, 8]);
    assert_eq!(patterns.tensors.modules[&TensorId::Projection(0, Projection::V)].scaling, 4.5);
    assert_eq!(read("multimodal-lora").tensors.modules.len(), 4);
}

#[test]
fn an_adapter_on_some_layers_is_what_peft_makes_of_it() {
    let layers = read("text-layers");
    let have: Vec<_> = layers.tensors.modules.keys().copied().collect();
    assert_eq!(
        have,
        [
            TensorId::Projection(0, Projection::Up),
            TensorId::Projection(1, Projection::Q),
            TensorId::Projection(1, Projection::Down)
        ]
    );
    assert_eq!(layers.tensors.modules[&TensorId::Projection(1, Projection::Q)].scaling, 1.5);
    assert_eq!(layers.tensors.modules[&TensorId::Projection(1, Projection::Down)].a.shape, [1, 12]);
    assert_eq!(
        read("text-layer").tensors.modules.keys().collect::<Vec<_>>(),
        [&TensorId::Projection(0, Projection::V)]
    );
}

#[test]
fn numbers_that_are_no_weights_are_named() {
    for (wrong, what) in [
        (f32::NAN, "holds a number that is not finite, at position 3"),
        (f32::NEG_INFINITY, "holds a number that is not finite, at position 3"),
        (1e37, "holds 1e37, which is no weight, at position 3"),
    ] {
        let dir = changed(|tensors| {
            let HostData::F32(values) = &mut tensors.values_mut().next().unwrap().data else { panic!("f32") };
            values[3] = wrong;
        });
        let name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";
        assert_eq!(problems(dir.path()), [format!("tensor `{name}` {what}")]);
    }
}

#[test]
fn a_product_that_leaves_the_range_is_refused_beforehand() {
    let dir = changed(|tensors| {
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("layers.1.mlp.up_proj")) {
            let HostData::F32(values) = &mut tensor.data else { panic!("f32") };
            values[0] = if name.contains("lora_A") { 1e12 } else { -1e10 };
        }
    });
    let found = problems(dir.path());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("the adapter of `model.layers.1.mlp.up_proj` adds numbers of up to 4e22"),
        "{found:?}"
    );

    let dir = changed(|_| {});
    let config = AdapterConfig { lora_alpha: 1e30, ..read("text-lora").config };
    fs::write(dir.path().join(CONFIG_FILE), config.to_json()).unwrap();
    let error = PeftAdapter::read(dir.path(), &shapes()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("`lora_alpha`"), "{error}");
}

#[test]
fn what_is_written_is_what_peft_saved() {
    for (name, multimodal) in [
        ("text-lora", false),
        ("text-rslora", false),
        ("text-dora", false),
        ("text-patterns", false),
        ("text-layers", false),
        ("text-layer", false),
        ("multimodal-lora", true),
    ] {
        let adapter = read(name);
        let dir = tempfile::tempdir().unwrap();
        adapter.tensors.write(dir.path(), multimodal).unwrap();
        fs::write(dir.path().join(CONFIG_FILE), adapter.config.to_json()).unwrap();
        assert_eq!(names(dir.path()), names(&golden(name)), "{name}");
        assert_eq!(PeftAdapter::read(dir.path(), &shapes()).unwrap(), adapter, "{name}");
    }
}

#[test]
fn an_older_spelling_means_the_same() {
    let dir = changed(|tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, t)| (name.replace("model.model.layers", "model.language_model.model.layers"), t))
            .collect();
    });
    assert!(names(dir.path())[0].starts_with("base_model.model.language_model.model.layers.0"));
    assert_eq!(PeftAdapter::read(dir.path(), &shapes()).unwrap().tensors, read("text-lora").tensors);
}

#[test]
fn missing_and_unexpected_tensors_are_named() {
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    let dir = changed(|tensors| {
        let b = tensors.remove(&format!("{q}.lora_B.weight")).unwrap();
        tensors.insert("base_model.model.lm_head.lora_B.weight".into(), b.clone());
        tensors.insert(q.replace("0", "7") + ".lora_B.weight", b.clone());
        tensors.insert(format!("{q}.lora_magnitude_vector"), b);
    });
    assert_eq!(
        problems(dir.path()),
        [
            format!("tensor `{q}.lora_B.weight` is missing"),
            format!("tensor `{q}.lora_magnitude_vector` is unexpected"),
            format!("tensor `{}.lora_B.weight` is beyond the model's layers", q.replace('0', "7")),
            "tensor `base_model.model.lm_head.lora_B.weight` is not on the language model's linear layers".into(),
        ]
    );
    let error = PeftAdapter::read(dir.path(), &shapes()).unwrap_err();
    assert!(error.place().unwrap().to_string().ends_with(TENSORS_FILE), "{error}");
}

#[test]
fn tensors_that_the_settings_do_not_select_are_unexpected() {
    let dir = changed(|_| {});
    let config =
        AdapterConfig { target_modules: TargetModules::Names(vec!["q_proj".into()]), ..read("text-lora").config };
    fs::write(dir.path().join(CONFIG_FILE), config.to_json()).unwrap();
    let found = problems(dir.path());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("24 tensors are unexpected: `") && found[0].ends_with("and 20 more"), "{found:?}");
    // With an expression for Python only, the tensors themselves say what is adapted.
    let config = AdapterConfig { target_modules: TargetModules::Regex("(?!.*vision).*_proj".into()), ..config };
    fs::write(dir.path().join(CONFIG_FILE), config.to_json()).unwrap();
    let adapter = PeftAdapter::read(dir.path(), &shapes()).unwrap();
    assert_eq!((adapter.tensors, adapter.ignored), (read("text-lora").tensors, vec!["target_modules".into()]));
}

#[test]
fn shapes_and_numbers_are_checked() {
    let q = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    let dir = changed(|tensors| {
        *tensors.get_mut(q).unwrap() = HostTensor::f32([1, 8], vec![0.0; 8]);
        let k = tensors.get_mut(&q.replace("q_proj", "k_proj")).unwrap();
        let HostData::F32(values) = &mut k.data else { unreachable!() };
        values[5] = f32::NAN;
    });
    assert_eq!(
        problems(dir.path()),
        [
            format!("tensor `{q}`: expected [2, 8], found [1, 8]"),
            format!("tensor `{}` holds a number that is not finite, at position 5", q.replace("q_proj", "k_proj")),
        ]
    );
    let wide = shapes().sites.into_iter().map(|s| Site { in_features: 99, ..s });
    let wide = Places { sites: wide.collect(), whole: Vec::new() };
    let error = PeftAdapter::read(&golden("text-lora"), &wide).unwrap_err();
    assert_eq!(error.iter().count(), 1, "one cause is one problem: {error}");
    let what = "the adapter was made for another base model: its `model.layers.0.self_attn.q_proj` takes 8 numbers, that of the \
                model 99";
    assert_eq!((error.what(), error.exit_code()), (what, 2));
    assert_eq!(AnotherBase::of(&error).unwrap().folder, golden("text-lora"));
    let dir = changed(|_| {});
    let config = AdapterConfig { r: 3, ..read("text-lora").config };
    fs::write(dir.path().join(CONFIG_FILE), config.to_json()).unwrap();
    let error = PeftAdapter::read(dir.path(), &shapes()).unwrap_err();
    assert_eq!(error.iter().count(), 9);
    assert_eq!(error.iter().last().unwrap().what(), "20 more problems like these");
}

#[test]
fn an_adapter_of_a_larger_model_is_one_problem() {
    let mut fewer = shapes();
    fewer.sites.retain(|site| !matches!(site.weight, TensorId::Projection(1, _)));
    let error = PeftAdapter::read(&golden("text-lora"), &fewer).unwrap_err();
    assert_eq!(error.iter().count(), 1, "{error}");
    assert_eq!(error.what(), "the adapter was made for another base model: it has 2 layers, the model 1");
    let base = AnotherBase::of(&error).unwrap().base.clone();
    assert_eq!(
        error.hint_text().unwrap(),
        base.map_or("name the base that it was made for".into(), |b| format!("it was made for `{b}`"))
    );
}

#[test]
fn a_diverged_adapter_is_not_written() {
    let mut tensors = read("text-lora").tensors;
    let HostData::F32(values) = &mut tensors.modules.get_mut(&TensorId::Projection(0, Projection::V)).unwrap().b.data
    else {
        unreachable!()
    };
    values[1] = f32::INFINITY;
    let dir = tempfile::tempdir().unwrap();
    let error = tensors.write(dir.path(), false).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::NonFinite, 1));
    assert!(error.what().contains("layers.0.self_attn.v_proj.lora_B.weight"), "{error}");
    // However many tensors show it, it is one problem.
    for module in tensors.modules.values_mut() {
        let HostData::F32(values) = &mut module.b.data else { unreachable!() };
        values[0] = f32::NAN;
    }
    let error = tensors.write(dir.path(), false).unwrap_err();
    let modules = tensors.modules.len();
    let what = format!("{modules} of {} tensors hold numbers that are no weights; tensor `base_model.", 2 * modules);
    assert!(error.what().starts_with(&what) && modules > 1, "{error}");
    assert!(error.what().ends_with("holds a number that is not finite, at position 0"), "{error}");
    assert_eq!(error.iter().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn damaged_and_foreign_folders_say_what_they_are() {
    let dir = changed(|_| {});
    let path = dir.path().join(TENSORS_FILE);
    let whole = fs::read(&path).unwrap();
    for keep in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..keep]).unwrap();
        let error = PeftAdapter::read(dir.path(), &shapes()).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Weights, 2), "{keep}: {error}");
    }
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("adapter_model.bin"), "").unwrap();
    let error = PeftAdapter::read(dir.path(), &shapes()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("pickle"), "{error}");
    let empty = changed(BTreeMap::clear);
    assert!(problems(empty.path())[0].contains("holds no adapter tensor"));
}
