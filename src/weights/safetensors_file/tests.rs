use super::*;
use crate::weights::{HostData, SafetensorsFolder, names::TensorId};
use half::{bf16, f16};
use proptest::prelude::*;
use std::fs;

/// A file with this header text and this many bytes of tensors.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn message(file: &[u8]) -> String {
    parse(file).unwrap_err().what().to_owned()
}

fn two() -> Vec<(String, HostTensor)> {
    let halves = [1.0f32, -2.5].map(f16::from_f32).to_vec();
    let brains = [1.0f32, -2.5, 3.0].map(bf16::from_f32).to_vec();
    vec![
        ("z".into(), HostTensor { shape: vec![2, 1], data: HostData::F16(halves) }),
        ("b".into(), HostTensor { shape: vec![3], data: HostData::BF16(brains) }),
        ("y".into(), HostTensor::f32([2, 2], vec![1.0, f32::MIN_POSITIVE, -0.0, 7.25])),
    ]
}

#[test]
fn what_is_written_is_read_back_by_us_and_by_the_crate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    write_safetensors(&path, two(), FORMAT_PT).unwrap();
    let bytes = fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ours = SafetensorsFile::open(&path).unwrap();
    for (name, tensor) in two() {
        assert_eq!(ours.read(&name, &tensor.shape, None).unwrap(), tensor);
        assert_eq!(theirs.tensor(&name).unwrap().data(), tensor.data.as_bytes());
    }
    assert_eq!(ours.header().metadata["format"], "pt");
    assert_eq!(ours.header().data_start % 8, 0);
    // Wider elements first, then by name.
    let order: Vec<_> = ours.header().tensors.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(order, ["y", "b", "z"]);
    write_safetensors(&path, two().into_iter().rev(), FORMAT_PT).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "the order of the input does not matter");
}

#[test]
fn types_are_converted_on_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    // 1 + 2^-8 lies halfway between two BF16 values and goes to the even one; NaN stays NaN.
    let values = vec![1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.0, f32::NAN, f32::INFINITY, 65504.0];
    write_safetensors(&path, [("t".into(), HostTensor::f32([6], values))], &[]).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let brains = file.read("t", &[6], Some(HostDtype::BF16)).unwrap().to_f32();
    assert_eq!(brains[..3], [1.0, 1.0 + 4.0 / 256.0, 0.0]);
    assert!(brains[2].is_sign_negative() && brains[3].is_nan() && brains[4] == f32::INFINITY);
    let halves = file.read("t", &[6], Some(HostDtype::F16)).unwrap().to_f32();
    assert_eq!((halves[0], halves[5]), (1.0 + 1.0 / 256.0, 65504.0));

    write_safetensors(&path, [("t".into(), HostTensor::f32([1], vec![1.0e5]))], &[]).unwrap();
    let error = SafetensorsFile::open(&path).unwrap().read("t", &[1], Some(HostDtype::F16)).unwrap_err();
    assert_eq!(error.what(), "tensor `t` has values that f16 cannot hold (beyond 65,504)");
}

#[test]
fn headers_that_lie_are_refused() {
    let entry = |name: &str, shape: &str, from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |shape: &str, from, to, data| message(&file(&format!("{{{}}}", entry("t", shape, from, to)), data));
    assert_eq!(one("[2]", 0, 8, 4), "tensor `t` should end 8 bytes after the header, but the file ends 4");
    assert_eq!(one("[2]", 0, 8, 9), "the last 1 bytes of the file belong to no tensor");
    assert_eq!(one("[2]", 4, 12, 12), "tensor `t` claims the bytes 4..12, but the one before it ends at 0");
    assert_eq!(one("[3]", 0, 8, 8), "tensor `t`: 8 bytes cannot be [3] of F32");
    assert!(one("[4294967296, 4294967296]", 0, 0, 0).starts_with("tensor `t`: 0 bytes cannot be"));
    let pair = |second: String| message(&file(&format!("{{{},{second}}}", entry("a", "[2]", 0, 8)), 16));
    assert_eq!(pair(entry("b", "[2]", 4, 12)), "tensor `b` claims the bytes 4..12, but the one before it ends at 8");
    assert_eq!(pair(entry("a", "[2]", 8, 16)), "tensor `a` is in the header twice");
    assert!(
        message(&file(r#"{"t":{"dtype":"F31","shape":[],"data_offsets":[0,4]}}"#, 4)).contains("tensor `t`: unknown")
    );
    assert!(message(&file("[1, 2]", 0)).starts_with("the header is not valid"));
    assert_eq!(message(b"1234"), "4 bytes are too few for a safetensors file");
    assert!(message(&u64::MAX.to_le_bytes()).contains("more than the format allows"));
    assert_eq!(message(&[16, 0, 0, 0, 0, 0, 0, 0, b'{']), "the header should have 16 bytes, but the file ends after 1");
}

#[test]
fn sums_that_overflow_are_refused() {
    // Each tensor fits into the address space, all together do not.
    let size = usize::MAX / 8;
    let entries: Vec<_> = (0..8)
        .map(|i| {
            format!(r#""t{i}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{}]}}"#, i * size, (i + 1) * size)
        })
        .collect();
    assert!(message(&file(&format!("{{{}}}", entries.join(",")), 8)).contains("but the file ends 8"));
}

#[test]
fn reading_says_what_does_not_fit_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    fs::write(&path, file(r#"{"model.norm.weight":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#, 4)).unwrap();
    let opened = SafetensorsFile::open(&path).unwrap();
    assert_eq!(
        opened.read("model.norm.weight", &[5], None).unwrap_err().to_string(),
        format!(
            "error: tensor `model.norm.weight`: expected [5], found [4]\n  --> {}\n  hint: the tensors and the config \
             beside them do not belong together",
            path.display()
        )
    );
    let error = opened.read("model.norm.weight", &[4], None).unwrap_err();
    assert_eq!(error.what(), "tensor `model.norm.weight` is stored as I8, which cannot be read");
    let error = opened.read("model.norms.weight", &[4], None).unwrap_err();
    assert_eq!(error.hint_text(), Some("the file has `model.norm.weight`: is it of another kind of model?"));
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n").unwrap();
    assert!(SafetensorsFile::open(&path).unwrap_err().what().contains("Git LFS pointer"));
    fs::write(&path, "").unwrap();
    assert_eq!(SafetensorsFile::open(&path).unwrap_err().what(), "0 bytes are too few for a safetensors file");
    assert_eq!(SafetensorsFile::open(dir.path()).unwrap_err().kind(), crate::error::Kind::Recipe);
}

#[test]
fn a_producer_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let specs: Vec<_> = two().iter().map(|(name, tensor)| TensorSpec::of(name, tensor)).collect();
    let error = write_streamed(&path, &specs, FORMAT_PT, |spec| Err(wrong(format!("no `{}`", spec.name)))).unwrap_err();
    assert_eq!(error.what(), "no `y`");
    let other = |_: &TensorSpec| Ok(HostTensor::f32([1], vec![0.0]));
    let error = write_streamed(&path, &specs, FORMAT_PT, other).unwrap_err();
    assert_eq!(error.what(), "tensor `y`: expected [2, 2] of F32, was given [1] of F32 with 1 elements");
    let twice = [specs.as_slice(), &specs].concat();
    assert_eq!(write_streamed(&path, &twice, &[], other).unwrap_err().what(), "tensor `y` would be written twice");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_model_is_cut_into_shards_with_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let specs: Vec<_> = (0..5)
        .map(|i| TensorSpec {
            name: TensorId::LayerNorm(i, crate::weights::names::LayerNorm::QNorm).hf(),
            dtype: HostDtype::F32,
            shape: vec![if i == 2 { 100 } else { 2 }],
        })
        .collect();
    let make = |spec: &TensorSpec| Ok(HostTensor::f32(spec.shape.clone(), vec![0.5; spec.shape[0]]));
    let files = write_sharded(dir.path(), &specs, 20, make).unwrap();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
        ]
    );
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&files[3]).unwrap()).unwrap();
    assert_eq!(index["metadata"], serde_json::json!({"total_parameters": 108, "total_size": 432}));
    assert_eq!(index["weight_map"][&specs[2].name], names[1]);
    let folder = SafetensorsFolder::open(dir.path()).unwrap();
    for spec in &specs {
        let id = TensorId::parse_hf(&spec.name).unwrap();
        assert_eq!(folder.read(&id, &spec.shape, None).unwrap(), make(spec).unwrap());
    }
    let error = write_sharded(dir.path(), &specs, 20, make).unwrap_err();
    assert!(error.what().starts_with("the folder holds a model already"), "{error}");

    let whole = tempfile::tempdir().unwrap();
    let files = write_sharded(whole.path(), &specs, 1 << 30, make).unwrap();
    assert_eq!(files, [whole.path().join("model.safetensors")]);

    let failing = tempfile::tempdir().unwrap();
    let fail_late = |spec: &TensorSpec| if spec.name == specs[4].name { Err(wrong("late")) } else { make(spec) };
    assert_eq!(write_sharded(failing.path(), &specs, 20, fail_late).unwrap_err().what(), "late");
    assert_eq!(fs::read_dir(failing.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic_and_never_pass_where_the_crate_refuses(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let header = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#;
        let mut file = file(header, 11);
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if cut {
            file.truncate(keep.index(file.len()));
        }
        if let Ok(ours) = parse(&file) {
            let theirs = safetensors::SafeTensors::deserialize(&file).unwrap();
            prop_assert_eq!(ours.tensors.len(), theirs.len());
            for entry in ours.tensors {
                prop_assert_eq!(&file[entry.bytes], theirs.tensor(&entry.name).unwrap().data());
            }
        }
    }
}
