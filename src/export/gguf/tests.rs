use super::*;
use crate::adapter::peft::PeftAdapter;
use crate::adapter::peft::testing::{golden, shapes};
use crate::progress::Silent;
use crate::weights::gguf::Gguf;
use crate::weights::names::Projection;
use std::fs;

const TRAITS: Traits = Traits { layers: 2, heads_per_group: 2, tied: true, has_importance: false };

fn write(source: &Source, adapter: Option<&AdapterTensors>, file_type: FileType, path: &Path) -> Result<Exported> {
    let metadata = [("general.architecture".to_owned(), Value::String("gemma3".into()))];
    let demands = Demands::default();
    GgufExport {
        source,
        adapter,
        traits: TRAITS,
        file_type,
        types: None,
        importance: None,
        demands: &demands,
        metadata: &metadata,
    }
    .write(path, &Silent)
}

fn read(gguf: &Gguf, id: &TensorId) -> Vec<f32> {
    let shape = gguf.entry(&id.gguf()).unwrap().shape.clone();
    gguf.read(id, &shape, Some(HostDtype::F32)).unwrap().into_f32()
}

#[test]
fn plain_floats_come_back_bit_for_bit_norms_included() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let source = Source::open_folder(&golden("text")).unwrap();
    let exported = write(&source, None, FileType::F32, &path).unwrap();
    assert_eq!(exported.bytes, fs::metadata(&path).unwrap().len());
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.header().tensors.len(), exported.tensors);
    assert_eq!(gguf.header().tensors[0].name, "token_embd.weight");
    let mut seen = 0;
    for info in source.tensors() {
        let id = source.id(&info.name).unwrap();
        let expected = source.read(&id, &info.shape, Some(HostDtype::F32)).unwrap().into_f32();
        let expected: Vec<f32> =
            if id.is_norm() { expected.iter().map(|w| (w + 1.0) - 1.0).collect() } else { expected };
        assert_eq!(read(&gguf, &id), expected, "{id}");
        seen += 1;
    }
    assert_eq!(seen, exported.tensors);
    assert_eq!(gguf.metadata().u64("general.file_type"), Some(0));
    assert!(!gguf.metadata().contains("general.quantization_version"));
}

#[test]
fn an_adapter_is_folded_in_as_merge_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let source = Source::open_folder(&golden("text")).unwrap();
    for name in ["lora", "rslora", "dora"] {
        let adapter = PeftAdapter::read(&golden(&format!("text-{name}")), &shapes()).unwrap();
        let exported = write(&source, Some(&adapter.tensors), FileType::F32, &path).unwrap();
        assert_eq!(exported.modules, adapter.tensors.modules.len());
        let gguf = Gguf::open(&path).unwrap();
        for (id, module) in &adapter.tensors.modules {
            let shape = source.shape(id).unwrap().to_vec();
            let mut weight = source.read(id, &shape, Some(HostDtype::F32)).unwrap().into_f32();
            merge_into(&mut weight, [shape[0], shape[1]], module).unwrap();
            assert_eq!(read(&gguf, id), weight, "{name}: {id}");
        }
    }
}

#[test]
fn what_is_stored_so_already_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let tiny = crate::testkit::golden::folder("gguf").join("tiny-gemma3.gguf");
    let source = Source::open_gguf(&tiny).unwrap();
    let exported = write(&source, None, FileType::Q4_0, &path).unwrap();
    let (from, to) = (Gguf::open(&tiny).unwrap(), Gguf::open(&path).unwrap());
    let bytes = |gguf: &Gguf, id: &TensorId| gguf.bytes(gguf.entry(&id.gguf()).unwrap()).to_vec();
    for id in [TensorId::Projection(1, Projection::Gate), TensorId::Norm] {
        assert_eq!(bytes(&from, &id), bytes(&to, &id), "{id}");
    }
    assert_eq!(exported.instead, [(("Q6_K", "Q8_0"), 1)].into(), "the embedding's rows of 32");
    let embedding = TensorId::EmbedTokens;
    assert_eq!(bytes(&from, &embedding), bytes(&to, &embedding), "Q8_0 in both");
}

#[test]
fn an_adapter_of_what_is_not_in_the_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::open_folder(&golden("text")).unwrap();
    let mut adapter = PeftAdapter::read(&golden("text-lora"), &shapes()).unwrap().tensors;
    let module = adapter.modules.values().next().unwrap().clone();
    adapter.modules.insert(TensorId::Projection(7, Projection::Q), module);
    let error = write(&source, Some(&adapter), FileType::Q8_0, &dir.path().join("m.gguf")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.what().contains("does not hold what the adapter changes: `model.layers.7.self_attn.q_proj`"),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_number_that_no_block_holds_names_its_tensor() {
    let tensor = GgufTensor { name: "blk.0.attn_q.weight".into(), of: QuantType::Q8_0, shape: vec![3000, 32] };
    let mut values = vec![0.5; 3000 * 32];
    values[2500 * 32 + 7] = 7e4;
    let error = quantized(&tensor, &values, None, 0).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let what = "tensor `blk.0.attn_q.weight`: the number at [2500, 7] is 7e4, and a block holds 65504 at most";
    assert_eq!(error.what(), what);
    values[2500 * 32 + 7] = f32::NAN;
    assert!(quantized(&tensor, &values, None, 0).unwrap_err().what().ends_with("at [2500, 7] is NaN"));
}
