//! Broken input, and what the user reads about it. Every message says what is wrong, where, and mostly what to do;
//! nothing panics and nothing half-written stays.

use crate::bench::{Bench, Said, golden, safetensors_bytes, tensors};
use serde_json::{Value, json};
use std::fmt::Write;

/// Commands on a model.
const TRAIN: &str = "train r.yaml";
const SCORE: &str = "score --model m --input rows.jsonl --output scores.jsonl";
const GGUF: &str = "score --model g.gguf --input rows.jsonl --output scores.jsonl";
const MERGE: &str = "merge --model m --adapter a --output merged";

/// A way to break what a command needs.
type Case = (&'static str, &'static str, fn(&Bench));

/// Breaks each thing in a folder of its own, and writes down what the command says.
#[track_caller]
fn reports(cases: &[Case]) -> String {
    let mut report = String::new();
    for (name, command, damage) in cases {
        let bench = Bench::new();
        std::fs::copy(golden("gguf/tiny-gemma3.gguf"), bench.path("g.gguf")).expect("a copy");
        crate::bench::copy(&golden("model/lora/adapter"), &bench.path("a"));
        damage(&bench);
        let said = bench.run(command);
        check(name, &bench, &said);
        writeln!(report, "## {name}\n$ gemma-tune {command}  # {}\n{}\n", said.code.unwrap_or(-1), said.problem())
            .expect("a string");
    }
    report
}

#[track_caller]
fn check(name: &str, bench: &Bench, said: &Said) {
    let Said { code, stdout, stderr } = said;
    assert!(matches!(code, Some(1 | 2)), "{name}: exit code {code:?}\n{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{name}: {stderr}");
    assert!(said.problem().starts_with("error: "), "{name}: {stderr}");
    assert!(said.problem().contains("\n  --> "), "{name} has no place: {stderr}");
    for output in ["out", "merged"] {
        let files = bench.files(output);
        assert!(files.is_empty(), "{name} left {files:?}");
    }
    assert!(!bench.path("scores.jsonl").exists(), "{name} left scores");
}

/// Compares with `snapshots/NAME.snap`.
macro_rules! snapshot {
    ($name:literal, $cases:expr) => {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, reports($cases));
        })
    };
}

/// Changes the header of a safetensors file and keeps its data.
fn header(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    bench.edit(name, |bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        change(&mut header);
        let header = header.to_string();
        let data = bytes.split_off(8 + length);
        *bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    });
}

/// Changes the tensors of a safetensors file.
fn change_tensors(bench: &Bench, name: &str, change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let mut all = tensors(&bench.read(name));
    change(&mut all);
    bench.write(name, safetensors_bytes(&all));
}

const WEIGHTS: &str = "m/model.safetensors";
const ADAPTER: &str = "a/adapter_model.safetensors";

#[test]
fn broken_weights() {
    snapshot!(
        "broken_weights",
        &[
            ("a model that is not there", SCORE, |b| std::fs::rename(b.path("m"), b.path("n")).unwrap()),
            ("no weights", SCORE, |b| std::fs::remove_file(b.path(WEIGHTS)).unwrap()),
            ("cut in the data", TRAIN, |b| b.edit(WEIGHTS, |bytes| bytes.truncate(300_000))),
            ("cut in the header", SCORE, |b| b.edit(WEIGHTS, |bytes| bytes.truncate(100))),
            ("empty", SCORE, |b| b.edit(WEIGHTS, Vec::clear)),
            ("a header length of 2^63", SCORE, |b| b.edit(WEIGHTS, |bytes| bytes[7] = 0x80)),
            ("a header length past the end", SCORE, |b| b.edit(WEIGHTS, |bytes| bytes[3] = 1)),
            ("a header that is no JSON", SCORE, |b| b.edit(WEIGHTS, |bytes| bytes[8] = b'#')),
            ("offsets that run backwards", SCORE, |b| {
                header(b, WEIGHTS, |h| h["model.norm.weight"]["data_offsets"] = json!([200, 8]));
            }),
            ("an unknown dtype", SCORE, |b| header(b, WEIGHTS, |h| h["model.norm.weight"]["dtype"] = json!("Q9"))),
            ("a dtype of integers", SCORE, |b| header(b, WEIGHTS, |h| h["model.norm.weight"]["dtype"] = json!("I32"))),
            ("a tensor of another shape", TRAIN, |b| change_tensors(b, WEIGHTS, |all| {
                let norm = all.iter_mut().find(|t| t.0 == "model.norm.weight").unwrap();
                (norm.1, norm.2) = (vec![47], norm.2[..47].to_vec());
            })),
            ("a missing tensor", TRAIN, |b| change_tensors(b, WEIGHTS, |all| {
                all.retain(|t| t.0 != "model.layers.3.mlp.up_proj.weight");
            })),
            ("an index that names a missing shard", SCORE, |b| {
                std::fs::remove_file(b.path(WEIGHTS)).unwrap();
                let map = json!({"model.norm.weight": "model-00001-of-00002.safetensors"});
                b.write("m/model.safetensors.index.json", json!({"metadata": {}, "weight_map": map}).to_string());
            }),
            ("an index that leaves the folder", SCORE, |b| {
                std::fs::remove_file(b.path(WEIGHTS)).unwrap();
                let map = json!({"model.norm.weight": "../g.gguf"});
                b.write("m/model.safetensors.index.json", json!({"metadata": {}, "weight_map": map}).to_string());
            }),
        ]
    );
}

const CONFIG: &str = "m/config.json";

#[test]
fn broken_config() {
    snapshot!(
        "broken_config",
        &[
            ("missing", SCORE, |b| std::fs::remove_file(b.path(CONFIG)).unwrap()),
            ("no JSON", SCORE, |b| b.write(CONFIG, "{\"hidden_size\": 48,\n  oops}")),
            ("a list", SCORE, |b| b.write(CONFIG, "[]")),
            ("another model type", TRAIN, |b| b.set(CONFIG, "model_type", json!("llama"))),
            ("an unknown key that may change numbers", SCORE, |b| b.set(CONFIG, "residual_multiplier", json!(0.5))),
            ("a missing key", SCORE, |b| b.set(CONFIG, "hidden_size", Value::Null)),
            ("heads that do not divide", SCORE, |b| b.set(CONFIG, "num_key_value_heads", json!(3))),
            ("a size of 2^62", SCORE, |b| b.set(CONFIG, "hidden_size", json!(1u64 << 62))),
            ("no layers", SCORE, |b| b.set(CONFIG, "num_hidden_layers", json!(0))),
            ("a text for a number", SCORE, |b| b.set(CONFIG, "hidden_size", json!("48"))),
            ("an unknown layer type", SCORE, |b| b.set(CONFIG, "layer_types", json!(["linear_attention"]))),
        ]
    );
}

#[test]
fn broken_gguf() {
    snapshot!(
        "broken_gguf",
        &[
            ("another format", GGUF, |b| b.edit("g.gguf", |bytes| bytes[0] = b'X')),
            ("an unknown version", GGUF, |b| b.edit("g.gguf", |bytes| bytes[4] = 99)),
            ("a count of 2^63 tensors", GGUF, |b| b.edit("g.gguf", |bytes| bytes[15] = 0x80)),
            ("a count of 2^63 keys", GGUF, |b| b.edit("g.gguf", |bytes| bytes[23] = 0x80)),
            ("a key of 2^63 bytes", GGUF, |b| b.edit("g.gguf", |bytes| bytes[31] = 0x80)),
            ("an unknown kind of value", GGUF, |b| b.edit("g.gguf", |bytes| {
                let key = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
                bytes[32 + key] = 77;
            })),
            ("cut in the header", GGUF, |b| b.edit("g.gguf", |bytes| bytes.truncate(2000))),
            ("cut in the data", GGUF, |b| b.edit("g.gguf", |bytes| bytes.truncate(100_000))),
            ("eight bytes", GGUF, |b| b.edit("g.gguf", |bytes| bytes.truncate(8))),
            ("empty", GGUF, |b| b.edit("g.gguf", Vec::clear)),
            ("missing", GGUF, |b| std::fs::remove_file(b.path("g.gguf")).unwrap()),
        ]
    );
}

#[test]
fn broken_data() {
    snapshot!(
        "broken_data",
        &[
            ("missing", TRAIN, |b| std::fs::remove_file(b.path("rows.jsonl")).unwrap()),
            ("empty", TRAIN, |b| b.write("rows.jsonl", "")),
            ("not UTF-8", TRAIN, |b| b.write("rows.jsonl", b"{\"input_ids\": [2, 5]}\n{\"text\": \"\xff\xfe\"}\n")),
            ("not UTF-8, scored", SCORE, |b| b
                .write("rows.jsonl", b"{\"input_ids\": [2, 5]}\n{\"text\": \"\xff\xfe\"}\n")),
            ("a row that is no JSON", TRAIN, |b| b
                .write("rows.jsonl", "{\"input_ids\": [2, 5, 6]}\n{\"input_ids\": [2,\n")),
            ("a row that is no object", TRAIN, |b| b.write("rows.jsonl", "{\"input_ids\": [2, 5, 6]}\n[2, 5]\n")),
            ("a row without its key", TRAIN, |b| b.write("rows.jsonl", "{\"ids\": [2, 5, 6]}\n")),
            ("a token outside of the vocabulary", TRAIN, |b| b.write("rows.jsonl", "{\"input_ids\": [2, 320]}\n")),
            ("a token outside of the vocabulary, scored", SCORE, |b| b
                .write("rows.jsonl", "{\"input_ids\": [2, 320]}\n")),
            ("a negative token", TRAIN, |b| b.write("rows.jsonl", "{\"input_ids\": [2, -1]}\n")),
            ("a token of 2^40", SCORE, |b| b.write("rows.jsonl", "{\"input_ids\": [2, 1099511627776]}\n")),
            ("a row without tokens", SCORE, |b| b.write("rows.jsonl", "{\"input_ids\": []}\n")),
            ("labels that are too short", TRAIN, |b| b
                .write("rows.jsonl", "{\"input_ids\": [2, 5, 6], \"labels\": [5]}\n")),
            ("nothing is supervised", TRAIN, |b| {
                b.write("rows.jsonl", "{\"input_ids\": [2, 5, 6], \"labels\": [-100, -100, -100]}\n");
            }),
            (
                "text for a model without a tokenizer",
                "train r.yaml --set data.format=text --set data.train=rows.jsonl",
                |b| {
                    b.write("rows.jsonl", "{\"text\": \"hello\"}\n");
                }
            ),
            ("a gap in a row", SCORE, |b| b.write("rows.jsonl", "{\"neither\": 1}\n")),
        ]
    );
}

#[test]
fn broken_tokenizer() {
    const CHAT: &str = "generate --model t --prompt hi --max-tokens 2";
    let with_text = |damage: fn(&Bench)| {
        let bench = Bench::new().with_text();
        damage(&bench);
        let said = bench.run(CHAT);
        check("a broken tokenizer", &bench, &said);
        format!("{}\n\n", said.problem())
    };
    let report = [
        with_text(|b| b.write("t/tokenizer.json", "garbage")),
        with_text(|b| b.write("t/tokenizer.json", "{}")),
        with_text(|b| b.write("t/tokenizer_config.json", "[")),
        with_text(|b| std::fs::remove_file(b.path("t/tokenizer.json")).unwrap()),
        with_text(|b| b.set("t/tokenizer_config.json", "chat_template", json!("{{ oops("))),
    ];
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("broken_tokenizer", report.concat());
    });
}

#[test]
fn broken_adapters() {
    snapshot!(
        "broken_adapters",
        &[
            ("missing", MERGE, |b| std::fs::remove_dir_all(b.path("a")).unwrap()),
            ("no weights", MERGE, |b| std::fs::remove_file(b.path(ADAPTER)).unwrap()),
            ("no config", MERGE, |b| std::fs::remove_file(b.path("a/adapter_config.json")).unwrap()),
            ("a config that is no JSON", MERGE, |b| b.write("a/adapter_config.json", "{")),
            ("another kind of adapter", MERGE, |b| b.set("a/adapter_config.json", "peft_type", json!("IA3"))),
            ("modules that are saved whole", MERGE, |b| b.set(
                "a/adapter_config.json",
                "modules_to_save",
                json!(["lm_head"])
            )),
            ("a rank of 0", MERGE, |b| b.set("a/adapter_config.json", "r", json!(0))),
            ("another rank than the tensors'", MERGE, |b| b.set("a/adapter_config.json", "r", json!(5))),
            ("weights cut short", MERGE, |b| b.edit(ADAPTER, |bytes| bytes.truncate(50_000))),
            ("a missing tensor", MERGE, |b| change_tensors(b, ADAPTER, |all| drop(all.remove(0)))),
            ("a tensor of a layer that is not there", MERGE, |b| change_tensors(b, ADAPTER, |all| {
                all[0].0 = all[0].0.replace("layers.0.", "layers.99.");
            })),
            ("a number that is not one", MERGE, |b| change_tensors(b, ADAPTER, |all| all[0].2[0] = f32::NAN)),
            ("a merge into a folder that is in use", "merge --model m --adapter a --output m", |_| {}),
        ]
    );
}

#[test]
fn broken_recipes() {
    snapshot!(
        "broken_recipes",
        &[
            ("missing", TRAIN, |b| std::fs::remove_file(b.path("r.yaml")).unwrap()),
            ("empty", TRAIN, |b| b.write("r.yaml", "")),
            ("no YAML", TRAIN, |b| b.write("r.yaml", "model: {base: m\ndata: ]")),
            ("several misspelt keys", TRAIN, |b| {
                b.edit("r.yaml", |bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text.replace("lora_alpha", "lora_aplha").replace("max_steps", "max_stpes").into_bytes();
                });
            }),
            ("values out of range", "train r.yaml --set adapter.r=0 --set training.learning_rate=-1", |_| {}),
            ("an unknown key on the command line", "train r.yaml --set training.sede=1", |_| {}),
            ("targets that match nothing", "train r.yaml --set adapter.target_modules=[qkv_proj]", |_| {}),
            ("an unknown device", "train r.yaml --device quantum", |_| {}),
            ("a model that is not there", TRAIN, |b| std::fs::rename(b.path("m"), b.path("n")).unwrap()),
            ("a key that contradicts init_from", TRAIN, |b| {
                b.edit("r.yaml", |bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text.replace("r: 4,", "r: 5, init_from: a,").into_bytes();
                });
            }),
            ("init_from a folder that is not there", "train r.yaml --set adapter.init_from=nowhere", |_| {}),
            ("output.dir is a file", "train r.yaml --set output.dir=rows.jsonl", |_| {}),
            ("output.dir below a file", "train r.yaml --set output.dir=rows.jsonl/out", |_| {}),
        ]
    );
}

/// A disk that takes no more: the process may write files of 64 blocks of 512 bytes only, and the signal for trying more does not end it.
#[cfg(unix)]
#[test]
fn no_space() {
    let bench = Bench::new();
    let limited = |args: &str| {
        let script = format!("ulimit -f 64; exec \"$0\" {args}");
        let mut command = std::process::Command::new("sh");
        bench.settle(&mut command).args(["-c", &script, env!("CARGO_BIN_EXE_gemma-tune")]);
        bench.said(&mut command)
    };
    let full = limited("train r.yaml");
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(!full.stderr.contains("panicked"), "{}", full.stderr);
    insta::assert_snapshot!(full.problem(), @r"
    error: writing the checkpoint failed: File too large (os error 27)
      --> out/checkpoints/step-2
      hint: no larger file may be written here: see `ulimit -f`, or choose a folder on another disk
    ");
    assert!(!bench.path("out/adapter").exists());
    assert_eq!(bench.files("out/checkpoints"), Vec::<String>::new());

    // With space again, the run goes on.
    bench.run("train r.yaml --resume").ok();
    let fresh = Bench::new().trained();
    let adapter = "out/adapter/adapter_model.safetensors";
    assert!(bench.read(adapter) == fresh.read(adapter), "the adapters differ");

    let merge = limited("merge --model m --adapter out/adapter --output merged --dtype f32");
    assert_eq!(merge.code, Some(1), "{}", merge.stderr);
    assert!(merge.problem().contains("\n  --> "), "{}", merge.stderr);
    assert!(!bench.path("merged").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device() {
    let bench = Bench::new();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let said = bench.said(bench.command("recipe schema").stdout(full));
    assert_eq!(
        (said.code, said.problem()),
        (
            Some(1),
            "error: no space left while writing\n  --> stdout\n  hint: it takes no more; name a file, or something else"
        )
    );
}
