use super::*;
use crate::weights::HostData;
use half::{bf16, f16};
use proptest::prelude::*;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gguf").join(name)
}

/// Writes GGUF bytes entry by entry, right or wrong.
struct Builder {
    version: u32,
    counts: Option<(u64, u64)>,
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Builder { version: 3, counts: None, metadata: Vec::new(), tensors: Vec::new(), data: Vec::new() }
    }

    fn metadata(mut self, key: &str, of: u32, value: &[u8]) -> Self {
        self.metadata.push([&text(key)[..], &of.to_le_bytes(), value].concat());
        self
    }

    /// `axes` as in the file: innermost first.
    fn tensor(mut self, name: &str, axes: &[u64], of: u32, offset: u64) -> Self {
        let axes_bytes: Vec<u8> = axes.iter().flat_map(|a| a.to_le_bytes()).collect();
        let count = (axes.len() as u32).to_le_bytes();
        self.tensors.push([&text(name)[..], &count, &axes_bytes, &of.to_le_bytes(), &offset.to_le_bytes()].concat());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    fn build(&self) -> Vec<u8> {
        let (tensors, metadata) = self.counts.unwrap_or((self.tensors.len() as u64, self.metadata.len() as u64));
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(tensors.to_le_bytes());
        file.extend(metadata.to_le_bytes());
        file.extend(self.metadata.concat());
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn array(of: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&of.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A small valid file with every kind of entry.
fn small() -> Builder {
    Builder::new()
        .metadata("general.architecture", 8, &text("gemma3"))
        .metadata("a.u32", 4, &7u32.to_le_bytes())
        .metadata("a.f32", 6, &1.5f32.to_le_bytes())
        .metadata("a.bool", 7, &[1])
        .metadata("a.texts", 9, &array(8, 2, &[text("x"), text("yz")].concat()))
        .metadata("a.nested", 9, &array(9, 2, &[array(0, 1, &[5]), array(0, 2, &[6, 7])].concat()))
        .tensor("output_norm.weight", &[2], 0, 0)
        .tensor("blk.0.attn_q.weight", &[2, 3], 1, 32)
        .data(&[[1.5f32.to_le_bytes(), 1f32.to_le_bytes()].concat(), vec![0; 24 + 12]].concat())
}

fn message(file: &[u8]) -> String {
    parse(file).unwrap_err().what().to_owned()
}

#[test]
fn every_tensor_of_the_golden_model_is_read_bit_for_bit() {
    let gguf = Gguf::open(&golden("tiny-gemma3.gguf")).unwrap();
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("tiny-gemma3.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!(gguf.header().tensors.len(), expected.len());
    for (name, of) in expected {
        let id = TensorId::parse_hf(name).unwrap();
        let shape: Vec<usize> = of["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        assert_eq!(gguf.entry(&id.gguf()).unwrap().type_name(), of["type"]);
        let tensor = gguf.read(&id, &shape, Some(HostDtype::F32)).unwrap();
        let HostData::F32(values) = &tensor.data else { panic!("{name} is not f32") };
        for (value, first) in values.iter().zip(of["first"].as_array().unwrap()) {
            assert_eq!(f64::from(*value), first.as_f64().unwrap(), "{name}");
        }
        let mut crc = flate2::Crc::new();
        crc.update(tensor.data.as_bytes());
        assert_eq!(u64::from(crc.sum()), of["crc32"].as_u64().unwrap(), "{name}");

        let brains = gguf.read(&id, &shape, Some(HostDtype::BF16)).unwrap();
        assert_eq!(brains.data, HostData::BF16(values.iter().map(|&v| bf16::from_f32(v)).collect()), "{name}");
        let halves = gguf.read(&id, &shape, Some(HostDtype::F16)).unwrap();
        assert_eq!(halves.data, HostData::F16(values.iter().map(|&v| f16::from_f32(v)).collect()), "{name}");
        let own = gguf.read(&id, &shape, None).unwrap().dtype();
        let float = if of["type"] == "F16" { HostDtype::F16 } else { HostDtype::BF16 };
        assert_eq!(own, if of["type"] == "F32" { HostDtype::F32 } else { float }, "{name}");
    }
}

#[test]
fn the_golden_vocabulary_is_read() {
    let gguf = Gguf::open(&golden("tiny-gemma3.gguf")).unwrap();
    assert_eq!(gguf.architecture(), Some("gemma3"));
    let vocabulary = gguf.vocabulary().unwrap().unwrap();
    assert_eq!((vocabulary.tokens.len(), vocabulary.scores.len(), vocabulary.types.len()), (320, 320, 320));
    assert_eq!(&vocabulary.tokens[..4], ["<pad>", "<eos>", "<bos>", "<unk>"]);
    let pad_and_newline = (vocabulary.types[0], vocabulary.tokens[263].as_str(), vocabulary.types[263]);
    assert_eq!(pad_and_newline, (3, "\n", 4));
    let ids = (vocabulary.padding, vocabulary.eos, vocabulary.bos, vocabulary.unknown);
    assert_eq!(ids, (Some(0), Some(1), Some(2), Some(3)));
    assert_eq!(vocabulary.chat_template.as_deref(), Some("{{ bos_token }}"));
    assert!(!vocabulary.add_space_prefix);
}

#[test]
fn only_a_file_that_says_so_puts_a_space_before_the_text() {
    let gguf = Gguf::open(&golden("tiny-gemma3.gguf")).unwrap();
    let with = |says: Option<bool>| {
        let mut metadata = gguf.header().metadata.clone();
        let key = "tokenizer.ggml.add_space_prefix".to_owned();
        match says {
            Some(says) => metadata.0.insert(key, Value::Bool(says)),
            None => metadata.0.remove(&key),
        };
        Vocabulary::read(&metadata).unwrap().unwrap().add_space_prefix
    };
    assert_eq!([with(None), with(Some(false)), with(Some(true))], [false, false, true]);
}

#[test]
fn values_of_every_kind_are_read() {
    let header = parse(&small().build()).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.metadata.u64("a.u32"), Some(7));
    assert_eq!(header.metadata.f64("a.f32"), Some(1.5));
    assert_eq!(header.metadata.bool("a.bool"), Some(true));
    assert_eq!(header.metadata.strings("a.texts").unwrap(), ["x", "yz"]);
    let nested = Array::Array(vec![Array::U8(vec![5]), Array::U8(vec![6, 7])]);
    assert_eq!(header.metadata.get("a.nested"), Some(&Value::Array(nested)));
    assert_eq!(header.tensors[1].shape, [3, 2]);
    let old = Builder { version: 2, ..small() };
    assert_eq!(parse(&old.build()).unwrap().version, 2);
}

#[test]
fn other_files_and_versions_are_told_apart() {
    assert_eq!(message(b"PK\x03\x04 a zip"), "this is not a GGUF file");
    assert_eq!(message(&Builder { version: 1, ..small() }.build()), "GGUF version 1 cannot be read");
    assert_eq!(message(&Builder { version: 3u32.swap_bytes(), ..small() }.build()), "this GGUF file is big endian");
    assert_eq!(message(&Builder { version: 0, ..small() }.build()), "GGUF version 0 cannot be read");
    assert_eq!(message(b"GG"), "the magic number needs 4 bytes, but the file has only 2 more");
}

#[test]
fn lying_counts_and_lengths_are_refused_before_they_are_used() {
    let counts = |counts| message(&Builder { counts: Some(counts), ..small() }.build());
    let tensors = counts((u64::MAX, 6));
    assert_eq!(tensors, "the number of tensors of 18446744073709551615 cannot fit into the rest of the file");
    assert!(counts((2, 1 << 40)).starts_with("the number of metadata entries"));
    let texts = Builder::new().metadata("t", 9, &array(8, 1 << 60, &text("x")));
    assert_eq!(message(&texts.build()), "t of 1152921504606846976 cannot fit into the rest of the file");
    let numbers = Builder::new().metadata("t", 9, &array(10, u64::MAX / 4, &[]));
    assert!(message(&numbers.build()).contains("cannot fit"));
    let long = Builder::new().metadata("t", 8, &u64::MAX.to_le_bytes());
    assert!(message(&long.build()).contains("cannot fit"));
    let deep = array(9, 1, &array(9, 1, &array(9, 1, &array(9, 1, &array(9, 1, &array(0, 1, &[1]))))));
    assert_eq!(message(&Builder::new().metadata("t", 9, &deep).build()), "metadata `t` nests arrays deeper than 4");
}

#[test]
fn wrong_entries_are_named() {
    let data = [0; 64];
    let one = |axes: &[u64], of, offset| message(&Builder::new().tensor("t", axes, of, offset).data(&data).build());
    assert_eq!(one(&[4], 0, 8), "tensor `t` starts at 8, which is not a multiple of 32");
    assert_eq!(one(&[33], 8, 0), "tensor `t`: rows of 33 are not whole blocks of 32 (Q8_0)");
    assert_eq!(one(&[32], 0, 0), "tensor `t` needs 128 bytes from byte 64, but the file has 128");
    assert_eq!(one(&[1; 5], 0, 0), "tensor `t` has 5 axes; at most 4 are possible");
    assert_eq!(one(&[1 << 40, 1 << 40], 0, 0), "tensor `t` is larger than any file");
    assert_eq!(one(&[1], 0, u64::MAX - 31), "tensor `t` is larger than any file");
    let twice = Builder::new().tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).data(&data);
    assert_eq!(message(&twice.build()), "tensor `t` is in the file twice");
    let overlap = Builder::new().tensor("a", &[9], 0, 0).tensor("b", &[1], 0, 32).data(&data);
    assert_eq!(message(&overlap.build()), "the bytes of tensors `a` and `b` overlap");
    let keys = Builder::new().metadata("k", 7, &[0]).metadata("k", 7, &[1]);
    assert_eq!(message(&keys.build()), "metadata `k` is in the file twice");
    assert!(message(&Builder::new().metadata("k", 7, &[2]).build()).contains("should be true or false"));
    assert!(message(&Builder::new().metadata("k", 77, &[2]).build()).contains("unknown type 77"));
    let alignment = Builder::new().metadata("general.alignment", 4, &0u32.to_le_bytes());
    assert_eq!(message(&alignment.build()), "`general.alignment` is not a power of two up to 2^20: 0");
}

#[test]
fn errors_say_file_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.gguf");
    std::fs::write(&path, &small().build()[..60]).unwrap();
    let error = Gguf::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("\n  --> {}, byte ", path.display())), "{error}");
    assert!(error.contains("hint: a truncated download"), "{error}");
}

#[test]
fn reading_says_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let file = small().tensor("output.weight", &[256], 22, 0);
    std::fs::write(&path, file.build()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let norm = gguf.read(&TensorId::Norm, &[2], None).unwrap();
    assert_eq!(norm, HostTensor::f32([2], vec![0.5, 0.0]));
    let error = gguf.read(&TensorId::Norm, &[3], None).unwrap_err();
    assert_eq!(error.what(), "tensor `output_norm.weight`: expected [3], found [2]");
    let error = gguf.read(&TensorId::EmbedTokens, &[3], None).unwrap_err();
    assert_eq!(error.what(), "tensor `token_embd.weight` is missing");
    let error = gguf.read(&TensorId::LmHead, &[256], None).unwrap_err();
    assert_eq!(error.what(), "tensor `output.weight` is stored as IQ2_S, which cannot be read");
    assert!(gguf.vocabulary().unwrap().is_none());

    let split = small().metadata("split.count", 2, &3u16.to_le_bytes());
    std::fs::write(&path, split.build()).unwrap();
    assert!(Gguf::open(&path).unwrap_err().what().contains("3 parts of a split"));
}

#[test]
fn vocabularies_that_do_not_add_up_are_refused() {
    let read = |builder: Builder| Vocabulary::read(&parse(&builder.build()).unwrap().metadata);
    let tokens = array(8, 2, &[text("a"), text("b")].concat());
    let scores = array(6, 2, &[0; 8]);
    let base = |model: &str, types: u64| {
        Builder::new()
            .metadata("tokenizer.ggml.model", 8, &text(model))
            .metadata("tokenizer.ggml.tokens", 9, &tokens)
            .metadata("tokenizer.ggml.scores", 9, &scores)
            .metadata("tokenizer.ggml.token_type", 9, &array(5, types, &vec![0; 4 * types as usize]))
    };
    assert_eq!(read(base("llama", 2)).unwrap().unwrap().tokens, ["a", "b"]);
    let error = read(base("gpt2", 2)).unwrap_err();
    assert_eq!(error.what(), "the file's tokenizer is of kind `gpt2`; Gemma's is `llama`");
    let error = read(base("llama", 1)).unwrap_err();
    assert_eq!(error.what(), "the file's vocabulary does not add up: 2 tokens, 2 scores, 1 types");
    let bos = base("llama", 2).metadata("tokenizer.ggml.bos_token_id", 4, &2u32.to_le_bytes());
    assert!(read(bos).unwrap_err().what().contains("bos_token_id"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut file = small().build();
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if cut {
            file.truncate(keep.index(file.len()));
        }
        if let Ok(header) = parse(&file) {
            for entry in header.tensors {
                prop_assert!(entry.bytes.end <= file.len());
            }
            let _ = Vocabulary::read(&header.metadata);
        }
    }
    /// Whatever still opens after damage to the golden model's header can be read with the shapes that it claims.
    #[test]
    fn damaged_models_that_open_are_read_without_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..3),
    ) {
        static GOLDEN: &[u8] = include_bytes!("../../../tests/goldens/gguf/tiny-gemma3.gguf");
        const HEADER_BYTES: usize = 12832; // where the first tensor starts
        let mut file = GOLDEN.to_vec();
        for (at, bit) in flips {
            file[at.index(HEADER_BYTES)] ^= 1 << bit;
        }
        let saved = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(saved.path(), &file).unwrap();
        if let Ok(gguf) = Gguf::open(saved.path()) {
            for entry in &gguf.header().tensors {
                if let Some(id) = TensorId::parse_gguf(&entry.name) {
                    let _ = gguf.read(&id, &entry.shape, None);
                }
            }
        }
    }
}
