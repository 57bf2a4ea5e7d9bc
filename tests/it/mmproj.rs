//! What looks at pictures as a GGUF file of its own.

use crate::bench::Bench;
use crate::multimodal::{bench, hearing_bench};
use gemma_tune::weights::gguf::{Array, Gguf, Value};
use gemma_tune::weights::names::{TensorId, VisionModule, VisionProjection, VisionTensor};
use gemma_tune::weights::{HostDtype, Source};
use serde_json::json;

/// The numbers of a tensor in f32, and what they are stored as.
fn floats(gguf: &Gguf, name: &str) -> (String, Vec<f32>) {
    let entry = gguf.entry(name).unwrap_or_else(|| panic!("{name}"));
    let bytes = gguf.bytes(entry);
    let values = match entry.type_name().as_str() {
        "F16" => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    (entry.type_name(), values)
}

/// Every tensor of tower and projector of a folder: what it is, and its numbers.
fn stored(bench: &Bench, model: &str) -> Vec<(VisionTensor, Vec<usize>, Vec<f32>)> {
    let source = Source::open_folder(&bench.path(model)).unwrap();
    let tensors = source.tensors().into_iter().filter_map(|info| match source.parse(&info.name) {
        Some(TensorId::Vision(id)) => {
            let tensor = source.read(&TensorId::Vision(id), &info.shape, Some(HostDtype::F32)).unwrap();
            Some((id, info.shape, tensor.into_f32()))
        }
        _ => None,
    });
    tensors.collect()
}

#[test]
fn tower_and_projector_are_in_a_file_of_their_own() {
    let bench = bench();
    let said = bench.run("export gguf-mmproj --model v --quant f32 --output v.gguf --json").json();
    assert_eq!((&said["tensors"], &said["types"]), (&json!(39), &json!({"F32": 39})));
    let gguf = Gguf::open(&bench.path("v.gguf")).unwrap();
    let tensors = stored(&bench, "v");
    assert_eq!(tensors.len(), 39);
    for (id, shape, values) in &tensors {
        let (of, found) = floats(&gguf, &id.mmproj());
        let one_plus = if *id == VisionTensor::MmSoftEmbNorm { 1.0 } else { 0.0 };
        assert_eq!((of.as_str(), &gguf.entry(&id.mmproj()).unwrap().shape), ("F32", shape), "{id:?}");
        assert_eq!(found, values.iter().map(|x| x + one_plus).collect::<Vec<f32>>(), "{id:?}");
    }
    let of = |key: &str| gguf.metadata().get(key).map(ToString::to_string).unwrap_or_default();
    for (key, value) in [
        ("general.architecture", "\"clip\""),
        ("general.type", "\"mmproj\""),
        ("general.name", "\"v\""),
        ("clip.projector_type", "\"gemma3\""),
        ("clip.has_vision_encoder", "true"),
        ("clip.vision.image_size", "32"),
        ("clip.vision.patch_size", "8"),
        ("clip.vision.block_count", "2"),
        ("clip.vision.projection_dim", "32"),
        ("clip.vision.projector.scale_factor", "2"),
    ] {
        assert_eq!(of(key), value, "{key}");
    }
    assert_eq!(gguf.metadata().get("clip.vision.image_mean"), Some(&Value::Array(Array::F32(vec![0.5; 3]))));

    // In halves unless something else is asked for: matrices of layers and the projector's; what places patches stays f32.
    let said = bench.run("export gguf-mmproj --model v --output half.gguf --json").json();
    assert_eq!((&said["quant"], &said["types"]), (&json!("F16"), &json!({"F16": 13, "F32": 26})));
    let half = Gguf::open(&bench.path("half.gguf")).unwrap();
    for (name, of) in
        [("v.patch_embd.weight", "F32"), ("v.position_embd.weight", "F32"), ("mm.input_projection.weight", "F16")]
    {
        assert_eq!(floats(&half, name).0, of, "{name}");
    }
    let said = bench.run("export gguf-mmproj --model v --quant bf16 --output brain.gguf --json").json();
    assert_eq!(said["types"], json!({"BF16": 12, "F16": 1, "F32": 26}));
}

#[test]
fn an_adapter_on_the_tower_is_in_the_file_and_the_rest_in_the_language_models() {
    let bench = bench();
    let keys = "--set adapter.vision_target_modules=[q_proj,fc1] --set adapter.train_projector=true";
    bench.run(&format!("train v.yaml {keys}")).ok();
    let said = bench.run("export gguf-mmproj --model v --adapter out --quant f32 --output v.gguf --json").json();
    assert_eq!(said["modules"], json!(2 * 2 + 2));
    bench.run("merge --model v --adapter out --output merged --dtype f32").ok();
    let (gguf, base) = (Gguf::open(&bench.path("v.gguf")).unwrap(), stored(&bench, "v"));
    let mut changed = 0;
    for (id, _, merged) in stored(&bench, "merged") {
        let before = &base.iter().find(|(of_base, ..)| *of_base == id).unwrap().2;
        let one_plus = if id == VisionTensor::MmSoftEmbNorm { 1.0 } else { 0.0 };
        let shifted: Vec<f32> = merged.iter().map(|x| x + one_plus).collect();
        assert_eq!(floats(&gguf, &id.mmproj()).1, shifted, "{id:?}");
        changed += usize::from(merged != *before);
    }
    assert_eq!(changed, 6);
    // The other file holds the other part, and says so.
    let said = bench.run("export gguf --model v --adapter out --quant f32 --output text.gguf");
    assert!(said.stderr.contains("Warning: a part of the adapter is on what looks at pictures"), "{}", said.stderr);
    said.ok();
    let text = bench.run("export gguf --model merged --quant f32 --output merged.gguf");
    assert!(text.stderr.contains("`export gguf-mmproj` writes that"), "{}", text.stderr);
    let (one, other) = (Gguf::open(&bench.path("text.gguf")).unwrap(), Gguf::open(&bench.path("merged.gguf")).unwrap());
    for (one_entry, other_entry) in one.header().tensors.iter().zip(&other.header().tensors) {
        assert_eq!((&one_entry.name, one.bytes(one_entry)), (&other_entry.name, other.bytes(other_entry)));
    }
    // One that is on the language model alone changes nothing here.
    bench.run("train v.yaml --set output.dir=text").ok();
    let said = bench.run("export gguf-mmproj --model v --adapter text --quant f32 --output same.gguf");
    assert!(said.stderr.contains("changes nothing of what looks at pictures"), "{}", said.stderr);
    let same = Gguf::open(&bench.path("same.gguf")).unwrap();
    let fc1 = VisionTensor::Weight(VisionModule::Projection(1, VisionProjection::Fc1)).mmproj();
    let expected = stored(&bench, "v").into_iter().find(|(id, ..)| id.mmproj() == fc1).unwrap().2;
    assert_eq!(floats(&same, &fc1).1, expected);
}

#[test]
fn models_without_such_a_file_are_refused() {
    let bench = bench();
    let refused = |args: &str| {
        let said = bench.run(&format!("export gguf-mmproj {args} --output a.gguf"));
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        said.stderr
    };
    assert!(refused("--model m").contains("looks at no pictures"));
    assert!(refused("--model v --quant q8_0").contains("[possible values: F32, F16, BF16]"));
    bench.run("export gguf --model v --quant f32 --output text.gguf").ok();
    assert!(refused("--model text.gguf").contains("looks at no pictures"));
    let bench = hearing_bench();
    let said = bench.run("export gguf-mmproj --model n --output a.gguf");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("the towers of a Gemma 3n are not written"), "{}", said.stderr);
    assert!(said.problem().contains("convert_hf_to_gguf.py --mmproj"), "{}", said.stderr);
    assert!(!bench.path("a.gguf").exists());
}

#[test]
fn an_adapter_on_towers_that_no_file_holds_is_refused() {
    let bench = hearing_bench();
    bench.run("train v.yaml --set adapter.train_projector=true").ok();
    let said = bench.run("export gguf --model n --adapter out --quant f32 --output n.gguf");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let told = "the GGUF file of a language model does not hold what the adapter changes: 2 modules: ";
    assert!(said.problem().contains(told), "{}", said.stderr);
    assert_eq!(said.problem().matches("hint:").count(), 1, "{}", said.stderr);
    assert!(!bench.path("n.gguf").exists());
}
