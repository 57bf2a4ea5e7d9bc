//! What is read is never written: every verb that writes a file, with every kind of file that it reads.

use crate::bench::{Bench, Said};
use crate::multimodal;
use serde_json::json;
use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options that name a file to be written, by their verbs.
const FILES: &[(&str, &str)] = &[
    ("data preview", "media-tensors"),
    ("evaluate", "output"),
    ("export gguf", "output"),
    ("export gguf", "save-imatrix"),
    ("export gguf-lora", "output"),
    ("export gguf-mmproj", "output"),
    ("export ollama", "save-imatrix"),
    ("generate", "output"),
    ("init", "output"),
    ("score", "logits"),
    ("score", "output"),
];

/// Options that name a folder to be written; what is there already stays, or the whole of it is ours.
const FOLDERS: &[(&str, &str)] = &[
    ("export ollama", "output"),
    ("export slice", "output"),
    ("merge", "output"),
    #[cfg(feature = "serve")]
    ("serve", "jobs"),
    #[cfg(feature = "studio")]
    ("studio", "dir"),
    ("train", "output"),
];

/// Options and arguments that name what is read, whatever the verb.
const READ: &[&str] = &[
    "recipe",
    "adapter",
    "adapter-dir",
    "choices",
    "imatrix",
    "input",
    "folder",
    "merged",
    "gguf",
    "gguf_lora",
    "gguf-lora",
    "api-key-file",
    "route",
];

/// Every option and argument whose value is a path, with its verb.
fn paths(command: &clap::Command, verb: &str, found: &mut Vec<(String, String)>) {
    for arg in command.get_arguments() {
        if arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
            let name = arg.get_long().map_or(arg.get_id().to_string(), str::to_owned);
            found.push((verb.to_owned(), name));
        }
    }
    for inner in command.get_subcommands() {
        paths(inner, format!("{verb} {}", inner.get_name()).trim_start(), found);
    }
}

#[test]
fn every_path_of_the_command_line_is_known_as_read_or_written() {
    let mut found = Vec::new();
    paths(&gemma_tune::cli::command(), "", &mut found);
    let written: Vec<_> = FILES.iter().chain(FOLDERS).map(|(v, o)| (v.to_string(), o.to_string())).collect();
    let unknown: Vec<_> =
        found.iter().filter(|path| !written.contains(path) && !READ.contains(&path.1.as_str())).collect();
    assert!(unknown.is_empty(), "say in `FILES`, `FOLDERS` or `READ` what becomes of {unknown:?}");
    let gone: Vec<_> = written.iter().filter(|path| !found.contains(path)).collect();
    assert!(gone.is_empty(), "no such options: {gone:?}");
}

/// A folder with all kinds of inputs, `OLLAMA_MODELS` in `store`, and an adapter of a run in `out`.
struct Inputs(Bench);

impl Inputs {
    fn run(&self, args: &str) -> Said {
        let mut command = self.0.command(args);
        self.0.said(command.env("OLLAMA_MODELS", self.0.path("store")))
    }

    /// Refused, with every file as it was.
    #[track_caller]
    fn refused(&self, command: &str, option: &str) {
        let bench = &self.0;
        let state = || -> BTreeMap<String, Vec<u8>> {
            let files = bench.files(".").into_iter().filter(|file| !file.contains("cache/"));
            files.map(|file| (file.clone(), bench.read(&file))).collect()
        };
        let before = state();
        let said = self.run(command);
        assert_eq!(said.code, Some(2), "{command}: {}", said.stderr);
        let words = format!("error: `--{option}` is a file that is read: `");
        assert!(said.problem().starts_with(&words), "{command}: {}", said.stderr);
        assert!(said.problem().contains("it is kept; name another file"), "{command}: {}", said.stderr);
        let changed: Vec<_> = state().into_iter().filter(|(file, bytes)| before.get(file) != Some(bytes)).collect();
        assert!(changed.is_empty(), "{command} changed {:?}", changed.iter().map(|c| &c.0).collect::<Vec<_>>());
        assert!(before.keys().all(|file| bench.path(file).exists()), "{command} took a file away");
    }
}

/// Text: the model `t`, a copy of it as `hub/model` of the Hub and as `ollama:t` of Ollama, an adapter, rows.
fn text() -> (Inputs, String) {
    use sha2::{Digest, Sha256};
    let bench = Bench::new().with_text();
    bench.set("t/config.json", "query_pre_attn_scalar", json!(16)); // its `head_dim`, as a GGUF file has it
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    bench.write("held.jsonl", bench.text("chats.jsonl"));
    bench.write(
        "t.yaml",
        "model: {base: t, dtype: f32}\nadapter: {r: 2, lora_alpha: 4, target_modules: [q_proj]}\n\
         data: {train: [{path: chats.jsonl, format: messages}], eval: [{path: held.jsonl, format: messages}], max_length: 64}\n\
         training: {gradient_accumulation_steps: 1, max_steps: 1}\noutput: {dir: out, report_to: [jsonl]}\n",
    );
    bench.run("train t.yaml").ok();
    bench.run("export gguf --model t --quant f32 --output t.gguf").ok();
    let bytes = bench.read("t.gguf");
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = format!("store/blobs/sha256-{hash}");
    bench.write(&blob, &bytes);
    let layer = json!({
        "mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{hash}"), "size": bytes.len(),
    });
    bench.write("store/manifests/h/library/t/latest", json!({"schemaVersion": 2, "layers": [layer]}).to_string());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = "hf/hub/models--hub--model";
    crate::bench::copy(&bench.path("t"), &bench.path(&format!("{repository}/snapshots/{commit}")));
    bench.write(&format!("{repository}/refs/main"), commit);
    (Inputs(bench), blob)
}

#[test]
fn a_models_and_adapters_files_are_kept_wherever_they_lie() {
    let (inputs, blob) = text();
    let snapshot = "hf/hub/models--hub--model/snapshots/0123456789abcdef0123456789abcdef01234567/model.safetensors";
    let models =
        [("t", "t/model.safetensors"), ("t.gguf", "t.gguf"), ("ollama:t", blob.as_str()), ("hub/model", snapshot)];
    let adapters = ["out/adapter/adapter_model.safetensors", "out/adapter/adapter_config.json"];
    let verbs = [
        ("score --input chats.jsonl --model", "output"),
        ("score --input chats.jsonl --model", "logits"),
        ("generate --input prompts.jsonl --model", "output"),
        ("evaluate --input chats.jsonl --model", "output"),
        ("export gguf --quant f32 --model", "output"),
        ("export gguf --quant q8_0 --imatrix chats.jsonl --output new.gguf --model", "save-imatrix"),
        ("export ollama --imatrix chats.jsonl --output new --model", "save-imatrix"),
    ];
    for (verb, option) in verbs {
        for (model, file) in models {
            inputs.refused(&format!("{verb} {model} --{option} {file}"), option);
        }
        for adapter in ["out", "out/adapter"] {
            for file in adapters {
                inputs.refused(&format!("{verb} t --adapter {adapter} --{option} {file}"), option);
            }
        }
    }
    for (model, file) in models.into_iter().skip(1) {
        // Also of a model that would be opened only after the first is measured.
        inputs.refused(&format!("evaluate --input chats.jsonl --model t --model {model} --output {file}"), "output");
    }
    for file in adapters {
        inputs.refused(&format!("export gguf-lora --adapter out --output {file}"), "output");
    }
    inputs.refused("export gguf-lora --adapter out --model t.gguf --output t.gguf", "output");
}

#[test]
fn recipes_rows_and_texts_are_kept() {
    let (inputs, _) = text();
    // Also where what was prepared of them is in the cache, and they are not opened any more.
    for _ in 0..2 {
        for file in ["t.yaml", "chats.jsonl", "held.jsonl", "t/model.safetensors", "t/config.json"] {
            inputs.refused(&format!("evaluate t.yaml --output {file}"), "output");
            inputs.refused(&format!("data preview t.yaml --media-tensors {file}"), "media-tensors");
        }
        inputs.run("evaluate t.yaml --output fine.jsonl").ok();
        inputs.run("data preview t.yaml").ok();
    }
    for (option, more) in [("output", ""), ("save-imatrix", "--output new.gguf")] {
        let command = "export gguf --model t --quant q8_0 --imatrix chats.jsonl";
        inputs.refused(&format!("{command} {more} --{option} chats.jsonl"), option);
    }
    let said = inputs.run("export gguf --model t --quant q8_0 --imatrix chats.jsonl --output x --save-imatrix ./x");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let expected = "error: `--output` and `--save-imatrix` name the same file";
    assert!(said.problem().starts_with(expected), "{}", said.stderr);
    // A folder that may be replaced, with the model in it.
    inputs.run("export ollama --model t --quant f32 --output o").ok();
    let before = inputs.0.read("o/model.gguf");
    let said = inputs.run("export ollama --model o/model.gguf --output o");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let expected = "error: `--output` is a folder with a file that is read: `o/model.gguf`";
    assert!(said.problem().starts_with(expected), "{}", said.stderr);
    assert!(inputs.0.read("o/model.gguf") == before);
    inputs.run("export ollama --model t --quant f32 --output o").ok();
}

#[test]
fn pictures_that_rows_name_are_kept_also_where_bad_rows_are_left_out() {
    let inputs = Inputs(multimodal::bench());
    inputs.0.write("asked.jsonl", "{\"prompt\": \"What?\", \"images\": [\"pictures/red.png\"]}\n");
    let picture = "pictures/red.png";
    for _ in 0..2 {
        for (command, option) in [
            ("score --model v --input seen.jsonl", "output"),
            ("score --model v --input seen.jsonl", "logits"),
            ("generate --model v --input asked.jsonl", "output"),
            ("evaluate --model v --input seen.jsonl", "output"),
            ("data preview v.yaml", "media-tensors"),
            ("data preview v.yaml --set data.on_bad_row=skip", "media-tensors"),
        ] {
            inputs.refused(&format!("{command} --{option} {picture}"), option);
        }
        inputs.run("data preview v.yaml --media-tensors fine.safetensors").ok();
    }
    inputs.refused("export gguf-mmproj --model v --output v/model.safetensors", "output");
    inputs.refused("data preview v.yaml --media-tensors seen.jsonl", "media-tensors");
}

#[test]
fn what_is_missing_or_grows_no_more_is_told_with_a_hint() {
    let (inputs, blob) = text();
    let said = inputs.run("export gguf --model t --quant q4_k_m --imatrix nope.gguf --output new.gguf");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("there is no such file") && said.problem().contains("hint: "), "{}", said.stderr);
    std::fs::remove_file(inputs.0.path(&blob)).unwrap();
    let said = inputs.run("inspect ollama:t");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("`ollama pull` the model again"), "{}", said.stderr);
}

#[cfg(unix)]
#[test]
fn a_limit_on_files_is_told_of_the_name_that_was_given() {
    let (inputs, _) = text();
    for (verb, output) in [
        ("export gguf --model t --quant f32 --output new", "new"),
        ("merge --model t --adapter out --output new --dtype f32", "new/"),
    ] {
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -f 20; exec \"$0\" {verb}");
        inputs.0.settle(&mut command).args(["-c", &script, env!("CARGO_BIN_EXE_gemma-tune")]);
        let said = inputs.0.said(&mut command);
        assert_eq!(said.code, Some(1), "{verb}: {}", said.stderr);
        assert!(said.problem().contains("File too large") && said.problem().contains("`ulimit -f`"), "{}", said.stderr);
        assert!(said.problem().contains(&format!("--> {output}")), "{verb}: {}", said.stderr);
        assert!(!said.problem().contains(".tmp-") && !inputs.0.path("new").exists(), "{verb}: {}", said.stderr);
    }
}
