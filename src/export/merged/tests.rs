use super::*;
use crate::adapter::peft::PeftAdapter;
use crate::adapter::peft::testing::{golden, shapes};
use crate::progress::Silent;
use crate::testkit::golden::Golden;
use crate::weights::names::{Projection, TensorId};
use crate::weights::safetensors_file::SafetensorsFile;
use std::fs;

/// Merges a golden adapter into its golden base and gives the folder's path in `root`.
fn merge(
    root: &Path,
    base: &str,
    adapter: &str,
    dtype: HostDtype,
    max_shard_bytes: usize,
) -> (std::path::PathBuf, Merged) {
    let source = Source::open_folder(&golden(base)).unwrap();
    let config = fs::read_to_string(golden(base).join("config.json")).unwrap();
    let adapter = PeftAdapter::read(&golden(&format!("{base}-{adapter}")), &shapes()).unwrap();
    let dir = root.join("merged");
    let merge = Merge { max_shard_bytes, ..Merge::new(&source, &adapter.tensors, &config, dtype) };
    let companions = |to: &Path| super::super::companions::copy_companions(&golden(base), to).map(|_| ());
    let merged = merge.write(&dir, companions, &Silent).unwrap();
    (dir, merged)
}

/// Largest difference between the merged folder and PEFT's merge, over all adapted and not adapted projections.
fn gap(dir: &Path, base: &str, adapter: &str) -> f64 {
    let expected = Golden::read(&golden(&format!("{base}-{adapter}-merged.safetensors")));
    let merged = Golden::read(&dir.join("model.safetensors"));
    let mut gap = 0.0f64;
    for name in expected.names() {
        for (ours, theirs) in merged.values(name).iter().zip(expected.values(name)) {
            gap = gap.max((ours - theirs).abs());
        }
    }
    gap
}

#[test]
fn equals_the_merge_of_peft() {
    for (adapter, modules) in [("lora", 14), ("rslora", 4), ("dora", 4), ("patterns", 12), ("layers", 3), ("layer", 1)]
    {
        let root = tempfile::tempdir().unwrap();
        let (dir, merged) = merge(root.path(), "text", adapter, HostDtype::F32, MAX_SHARD_BYTES);
        assert_eq!(merged.modules, modules, "{adapter}");
        assert!(merged.changed > 0.99, "{adapter}: {merged:?}");
        let gap = gap(&dir, "text", adapter);
        assert!(gap < 1e-6, "{adapter}: {gap:e}");
    }
}

#[test]
fn a_multimodal_checkpoint_keeps_its_tower_and_its_spelling() {
    let root = tempfile::tempdir().unwrap();
    let (dir, merged) = merge(root.path(), "multimodal", "lora", HostDtype::F32, MAX_SHARD_BYTES);
    assert_eq!(merged.modules, 4);
    assert!(gap(&dir, "multimodal", "lora") < 1e-6);
    let before = SafetensorsFile::open(&golden("multimodal/model.safetensors")).unwrap();
    let after = SafetensorsFile::open(&dir.join("model.safetensors")).unwrap();
    let names = |file: &SafetensorsFile| {
        let mut names: Vec<_> = file.header().tensors.iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
        names.sort();
        names
    };
    assert_eq!(names(&before), names(&after));
    for (name, shape) in names(&before).iter().filter(|(name, _)| !name.contains("language_model")) {
        assert_eq!(before.read(name, shape, None).unwrap(), after.read(name, shape, None).unwrap());
    }
}

/// A copy of the golden multimodal model whose tensors have other names.
fn renamed(root: &Path, rename: impl Fn(&str) -> String) -> std::path::PathBuf {
    let (from, to) = (golden("multimodal"), root.join("renamed"));
    fs::create_dir(&to).unwrap();
    fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| (rename(&name), view));
    fs::write(to.join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    to
}

#[test]
fn every_spelling_is_written_as_transformers_5_saves_it() {
    let names = |dir: &Path| {
        let file = SafetensorsFile::open(&dir.join("model.safetensors")).unwrap();
        file.header().tensors.iter().map(|entry| entry.name.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    let on_the_hub = |name: &str| name.replace("vision_tower.", "vision_tower.vision_model.");
    let modules = |name: &str| match name.strip_prefix("language_model.model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => format!("model.{name}"),
    };
    for rename in [&on_the_hub as &dyn Fn(&str) -> String, &modules] {
        let root = tempfile::tempdir().unwrap();
        let base = renamed(root.path(), rename);
        assert_ne!(names(&base), names(&golden("multimodal")));
        let source = Source::open_folder(&base).unwrap();
        let config = fs::read_to_string(base.join("config.json")).unwrap();
        let adapter = PeftAdapter::read(&golden("multimodal-lora"), &shapes()).unwrap();
        let dir = root.path().join("merged");
        Merge::new(&source, &adapter.tensors, &config, HostDtype::BF16).write(&dir, |_| Ok(()), &Silent).unwrap();
        assert_eq!(names(&dir), names(&golden("multimodal")));
        let tower = "vision_tower.encoder.layers.0.mlp.fc1.weight";
        let stored = |dir: &Path| {
            let file = SafetensorsFile::open(&dir.join("model.safetensors")).unwrap();
            file.read(tower, &file.entry(tower).unwrap().shape, None).unwrap()
        };
        assert_eq!(stored(&dir), stored(&golden("multimodal")), "a tower stays as it is stored");
    }
}

#[test]
fn bf16_rounds_the_f32_merge_once() {
    let root = tempfile::tempdir().unwrap();
    let (dir, merged) = merge(root.path(), "text", "lora", HostDtype::BF16, MAX_SHARD_BYTES);
    let exact = tempfile::tempdir().unwrap();
    let (exact, _) = merge(exact.path(), "text", "lora", HostDtype::F32, MAX_SHARD_BYTES);
    let (rounded, exact) = (Source::open_folder(&dir).unwrap(), Source::open_folder(&exact).unwrap());
    for info in exact.tensors() {
        let (_, id) = Spelling::parse(&info.name).unwrap();
        let expected: Vec<bf16> =
            exact.read(&id, &info.shape, None).unwrap().to_f32().into_iter().map(bf16::from_f32).collect();
        assert_eq!(rounded.read(&id, &info.shape, None).unwrap().data, HostData::BF16(expected), "{id}");
    }
    assert_eq!(merged.bytes * 2, exact.tensors().iter().map(|info| info.bytes).sum::<u64>());
    let config: Value = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
    assert!(dir.join("generation_config.json").is_file());
}

#[test]
fn shards_and_their_index_hold_the_same_model() {
    let root = tempfile::tempdir().unwrap();
    let (dir, merged) = merge(root.path(), "text", "dora", HostDtype::F32, 2000);
    assert!(dir.join("model.safetensors.index.json").is_file());
    let whole = tempfile::tempdir().unwrap();
    let (whole, _) = merge(whole.path(), "text", "dora", HostDtype::F32, MAX_SHARD_BYTES);
    let (sharded, whole) = (Source::open_folder(&dir).unwrap(), Source::open_folder(&whole).unwrap());
    assert_eq!(sharded.tensors().len(), merged.tensors);
    for info in whole.tensors() {
        let (_, id) = Spelling::parse(&info.name).unwrap();
        assert_eq!(sharded.read(&id, &info.shape, None).unwrap(), whole.read(&id, &info.shape, None).unwrap());
    }
}

#[test]
fn nothing_is_left_of_a_merge_that_cannot_be() {
    let root = tempfile::tempdir().unwrap();
    let source = Source::open_folder(&golden("text")).unwrap();
    let config = fs::read_to_string(golden("text/config.json")).unwrap();
    let mut adapter = PeftAdapter::read(&golden("text-lora"), &shapes()).unwrap().tensors;
    let dir = root.path().join("merged");
    let write = |adapter: &AdapterTensors, config: &str, dtype| {
        Merge::new(&source, adapter, config, dtype).write(&dir, |_| Ok(()), &Silent).unwrap_err().to_string()
    };
    assert!(write(&adapter, &config, HostDtype::F16).contains("not as f16"));
    assert!(write(&adapter, "[]", HostDtype::F32).contains("holds no JSON object"));
    let module = adapter.modules.remove(&TensorId::Projection(0, Projection::Q)).unwrap();
    adapter.modules.insert(TensorId::Projection(9, Projection::Q), module.clone());
    let error = write(&adapter, &config, HostDtype::F32);
    assert!(error.contains("does not have what the adapter changes: `model.layers.9.self_attn.q_proj`"), "{error}");
    adapter.modules.remove(&TensorId::Projection(9, Projection::Q));
    adapter.modules.insert(TensorId::Projection(0, Projection::Down), module);
    let error = write(&adapter, &config, HostDtype::F32);
    assert!(error.contains("does not fit") && error.contains("--> model.layers.0.mlp.down_proj.weight"), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("precious.txt"), "").unwrap();
    assert!(write(&adapter, &config, HostDtype::F32).contains("not empty"));
}
