//! GGUF files: what is written, read back and compared with what it was made from.

use crate::bench::{Bench, lines, rows, safetensors_bytes, tensors};
use gemma_tune::weights::gguf::Gguf;
use serde_json::{Value, json};

/// Every kind of file, and how far the log-probabilities of a random model, whose weights mean nothing and whose words hang on every
/// bit of them, may be off in the mean.
const KINDS: [(&str, f64); 19] = [
    ("F32", 1e-5),
    ("F16", 3e-3),
    ("BF16", 0.025),
    ("Q8_0", 0.08),
    ("Q6_K", 0.2),
    ("Q5_K_M", 0.35),
    ("Q5_K_S", 0.35),
    ("Q5_1", 0.35),
    ("Q5_0", 0.4),
    ("Q4_K_M", 0.5),
    ("Q4_K_S", 0.5),
    ("Q4_1", 0.6),
    ("Q4_0", 0.9),
    ("IQ4_NL", 0.7),
    ("IQ4_XS", 0.7),
    ("Q3_K_L", 1.0),
    ("Q3_K_M", 1.0),
    ("Q3_K_S", 1.4),
    ("Q2_K", 2.0),
];

/// Numbers as weights are spread, the same ones each time.
pub fn random(seed: u64, count: usize, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| size * (uniform() + uniform() + uniform() + uniform())).collect()
}

pub trait Exports {
    /// A model `w` with the tiny tokenizer whose rows are whole blocks of every type.
    fn with_wide(self) -> Self;

    /// The same of so many layers.
    fn with_wide_layers(self, layers: usize) -> Self;

    /// The log-probabilities of the words of `few.jsonl`.
    fn logprobs(&self, model: &str) -> Vec<f64>;
}

impl Exports for Bench {
    fn with_wide(self) -> Self {
        self.with_wide_layers(8)
    }

    fn with_wide_layers(self, layers: usize) -> Self {
        let bench = self.with_text();
        let (d, f, words, heads, groups, e) = (256, 512, 512, 4, 1, 64);
        crate::bench::copy(&bench.path("t"), &bench.path("w"));
        for (key, value) in [
            ("hidden_size", json!(d)),
            ("intermediate_size", json!(f)),
            ("head_dim", json!(e)),
            ("query_pre_attn_scalar", json!(e)),
            ("num_hidden_layers", json!(layers)),
            ("num_attention_heads", json!(heads)),
            ("num_key_value_heads", json!(groups)),
            (
                "layer_types",
                (0..layers).map(|i| if i % 6 == 5 { "full_attention" } else { "sliding_attention" }).collect(),
            ),
        ] {
            bench.set("w/config.json", key, value);
        }
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), vec![words, d], 0.25),
            ("model.norm.weight".to_owned(), vec![d], 0.5),
        ];
        for layer in 0..layers {
            let mut add = |name: &str, shape: &[usize], size: f32| {
                all.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec(), size));
            };
            for norm in [
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ] {
                add(norm, &[d], 0.5);
            }
            add("self_attn.q_norm", &[e], 0.5);
            add("self_attn.k_norm", &[e], 0.5);
            add("self_attn.q_proj", &[heads * e, d], 0.1);
            add("self_attn.k_proj", &[groups * e, d], 0.1);
            add("self_attn.v_proj", &[groups * e, d], 0.1);
            add("self_attn.o_proj", &[d, heads * e], 0.1);
            add("mlp.gate_proj", &[f, d], 0.1);
            add("mlp.up_proj", &[f, d], 0.1);
            add("mlp.down_proj", &[d, f], 0.1);
        }
        let made = all.into_iter().enumerate().map(|(seed, (name, shape, size))| {
            let values = random(seed as u64 + 1, shape.iter().product(), size);
            (name, shape, values)
        });
        bench.write("w/model.safetensors", safetensors_bytes(&made.collect::<Vec<_>>()));
        bench.write("few.jsonl", lines(&rows(4)));
        bench
    }

    fn logprobs(&self, model: &str) -> Vec<f64> {
        self.run(&format!("score --model {model} --dtype f32 --input few.jsonl --output scores.jsonl")).ok();
        let text = self.text("scores.jsonl");
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let numbers =
            |row: Value| row["logprobs"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        rows.flat_map(|row| -> Vec<f64> { numbers(row) }).collect()
    }
}

pub fn mean_gap(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f64>() / one.len() as f64
}

#[test]
fn every_kind_is_read_back_as_the_model_that_it_was_made_from() {
    let bench = Bench::new().with_wide();
    let expected = bench.logprobs("w");
    let (mut sizes, mut gaps) = (Vec::new(), Vec::new());
    for (kind, limit) in KINDS {
        let said = bench.run(&format!("export gguf --model w --quant {kind} --output w.gguf --json")).json();
        assert_eq!((&said["quant"], &said["tensors"]), (&json!(kind), &json!(2 + 8 * 13)), "{kind}");
        assert_eq!(said["bytes"], bench.read("w.gguf").len());
        let gap = mean_gap(&bench.logprobs("w.gguf"), &expected);
        gaps.push((kind, gap, limit));
        sizes.push((kind, said["bytes"].as_u64().expect("a number")));
    }
    let is_right = |(kind, gap, limit): &(&str, f64, f64)| gap <= limit && (*kind == "F32" || *gap > 0.0);
    assert!(gaps.iter().all(is_right), "{gaps:?}");
    let size = |kind: &str| sizes.iter().find(|(of, _)| *of == kind).expect("a kind").1;
    let order =
        ["F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"];
    assert!(order.windows(2).all(|pair| size(pair[0]) > size(pair[1])), "{sizes:?}");
    // Again from the file: what has its type already is copied.
    bench.run("export gguf --model w --quant q4_k_m --output one.gguf").ok();
    let again = bench.run("export gguf --model one.gguf --quant q4_k_m --output two.gguf --json").json();
    assert_eq!(again["types"], json!({"F32": 2 + 8 * 6 - 1, "Q4_K": 7 * 8 - 8, "Q6_K": 8 + 1}));
    let (one, two) = (Gguf::open(&bench.path("one.gguf")).unwrap(), Gguf::open(&bench.path("two.gguf")).unwrap());
    for (a, b) in one.header().tensors.iter().zip(&two.header().tensors) {
        assert_eq!((&a.name, one.bytes(a)), (&b.name, two.bytes(b)));
    }
}

#[test]
fn an_adapter_is_in_the_file() {
    let bench = Bench::new().with_wide();
    let sets =
        "--set model.base=w --set training.max_steps=3 --set evaluation.eval_steps=null --set data.eval_fraction=0";
    bench.run(&format!("train r.yaml {sets}")).ok();
    bench.run("export gguf --model w --adapter out --quant f32 --output tuned.gguf").ok();
    bench.run("merge --model w --adapter out --output merged --dtype f32").ok();
    let (file, merged, base) = (bench.logprobs("tuned.gguf"), bench.logprobs("merged"), bench.logprobs("w"));
    assert!(mean_gap(&file, &merged) < 1e-5);
    assert!(mean_gap(&file, &base) > 1e-2, "the adapter does something");
    let beside = bench.logprobs("w --adapter out");
    assert!(mean_gap(&file, &beside) < 1e-4);
    // From a GGUF file as well, of which it was not trained.
    bench.run("export gguf --model w --quant f32 --output w.gguf").ok();
    let said = bench.run("export gguf --model w.gguf --adapter out --quant bf16 --output again.gguf");
    assert!(said.stderr.contains("Warning: this adapter was trained on other weights"), "{}", said.stderr);
    assert!(mean_gap(&bench.logprobs("again.gguf"), &file) < 2e-2);
}

#[test]
fn the_file_says_what_llama_cpp_asks_for() {
    let bench = Bench::new().with_wide();
    bench.run("export gguf --model w --quant Q4_K_M --output w.gguf").ok();
    let gguf = Gguf::open(&bench.path("w.gguf")).unwrap();
    let metadata = gguf.metadata();
    let of = |key: &str| metadata.get(key).map(ToString::to_string).unwrap_or_default();
    for (key, value) in [
        ("general.architecture", "\"gemma3\""),
        ("general.name", "\"w\""),
        ("general.license", "\"gemma\""),
        ("general.file_type", "15"),
        ("general.quantization_version", "2"),
        ("gemma3.block_count", "8"),
        ("gemma3.attention.head_count", "4"),
        ("gemma3.attention.head_count_kv", "1"),
        ("gemma3.attention.key_length", "64"),
        ("gemma3.attention.sliding_window", "8"),
        ("gemma3.rope.freq_base", "1000000.0"),
        ("tokenizer.ggml.model", "\"llama\""),
        ("tokenizer.ggml.tokens", "an array of 512"),
        ("tokenizer.ggml.bos_token_id", "2"),
        ("tokenizer.ggml.add_bos_token", "true"),
        ("tokenizer.ggml.add_space_prefix", "false"),
    ] {
        assert_eq!(of(key), value, "{key}");
    }
    let template = metadata.str("tokenizer.chat_template").expect("the model's template");
    assert!(template.contains("start_of_turn"), "{template}");
    // The same texts become the same tokens.
    bench.write("few.jsonl", lines(&[json!({"messages": [{"role": "user", "content": "Two and two, é 你?"}]})]));
    let ids = |model: &str| {
        bench.run(&format!("score --model {model} --dtype f32 --input few.jsonl --output scores.jsonl")).ok();
        serde_json::from_str::<Value>(&bench.text("scores.jsonl")).expect("JSON")["input_ids"].clone()
    };
    assert_eq!(ids("w.gguf"), ids("w"));
    // A model without a tokenizer makes a file without one.
    bench.set("m/config.json", "query_pre_attn_scalar", json!(16));
    let said = bench.run("export gguf --model m --quant q8_0 --output m.gguf");
    assert!(said.stderr.contains("The model has no tokenizer"), "{}", said.stderr);
    assert!(
        said.stderr.contains("tensors of F16 instead of Q8_0, whose blocks their rows do not fill"),
        "{}",
        said.stderr
    );
    bench.write("few.jsonl", lines(&rows(2)));
    assert!(mean_gap(&bench.logprobs("m.gguf"), &bench.logprobs("m")) < 1e-2);
}

#[test]
fn what_cannot_be_exported_is_refused_before_anything_is_written() {
    let bench = Bench::new().with_wide();
    let refused = |args: &str| {
        let said = bench.run(&format!("export gguf {args}"));
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        said.stderr
    };
    assert!(refused("--model w --quant Q9 --output a.gguf").contains("[possible values: F32, F16"));
    assert!(refused("--model w --quant q8_0 --output w").contains("`--output` names a folder"));
    assert!(refused("--model w --quant q8_0 --output w/config.json").contains("is a file that is read"));
    assert!(refused("--model w --quant q8_0 --output none/a.gguf").contains("does not exist"));
    assert!(refused("--model nowhere --quant q8_0 --output a.gguf").contains("nowhere"));
    assert!(refused("--model m --quant q8_0 --output a.gguf").contains("`query_pre_attn_scalar` of this model"));
    bench.run("train r.yaml").ok();
    assert!(refused("--model w --adapter out --quant q8_0 --output a.gguf").contains("made for another base"));
    // A number that is none, by the name of its tensor.
    let mut model = tensors(&bench.read("w/model.safetensors"));
    model.iter_mut().find(|tensor| tensor.0.ends_with("3.mlp.up_proj.weight")).expect("a tensor").2[700] = f32::NAN;
    bench.write("w/model.safetensors", safetensors_bytes(&model));
    let said = refused("--model w --quant q4_k_m --output a.gguf");
    assert!(said.contains("tensor `model.layers.3.mlp.up_proj.weight`: the number at [2, 188] is NaN"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    assert!(!bench.path("a.gguf").exists());
    let left = bench.files(".").into_iter().filter(|name| name.contains(".tmp-")).collect::<Vec<_>>();
    assert_eq!(left, Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_pipe_gets_the_file_and_stays_a_pipe() {
    let bench = Bench::new().with_wide();
    bench.run("export gguf --model w --quant q5_0 --output w.gguf").ok();
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().expect("mkfifo").success());
    let pipe = bench.path("pipe");
    let reader = std::thread::spawn(move || std::fs::read(pipe).expect("the pipe"));
    bench.run("export gguf --model w --quant q5_0 --output pipe").ok();
    assert_eq!(reader.join().expect("a reader"), bench.read("w.gguf"));
    use std::os::unix::fs::FileTypeExt;
    assert!(std::fs::metadata(bench.path("pipe")).expect("the pipe").file_type().is_fifo());
}

#[test]
fn an_adapter_alone_is_a_file_for_its_base() {
    let bench = Bench::new().with_wide();
    let sets =
        "--set model.base=w --set training.max_steps=2 --set evaluation.eval_steps=null --set data.eval_fraction=0";
    bench.run(&format!("train r.yaml {sets} --set adapter.use_rslora=true")).ok();
    let said = bench.run("export gguf-lora --adapter out --output a.gguf --json").json();
    assert_eq!((&said["modules"], &said["alpha"]), (&json!(56), &json!(16.0)), "8 sqrt(4)");
    let gguf = Gguf::open(&bench.path("a.gguf")).unwrap();
    assert_eq!(gguf.architecture(), Some("gemma3"));
    assert_eq!(gguf.metadata().str("general.type"), Some("adapter"));
    assert_eq!(gguf.metadata().f64("adapter.lora.alpha"), Some(16.0));
    let entry = |name: &str| gguf.entry(name).expect("a tensor").shape.clone();
    assert_eq!(
        (entry("blk.7.ffn_down.weight.lora_a"), entry("blk.7.ffn_down.weight.lora_b")),
        (vec![4, 512], vec![256, 4])
    );
    // The very file of its base, one that lacks layers, and none at all.
    bench.run("export gguf --model w --quant q4_0 --output w.gguf").ok();
    bench.run("export gguf-lora --adapter out --model w.gguf --output b.gguf").ok();
    assert_eq!(bench.read("a.gguf")[200..], bench.read("b.gguf")[200..]);
    let other = bench.run("export gguf-lora --adapter out --model m --output c.gguf");
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    std::fs::rename(bench.path("w"), bench.path("gone")).expect("a folder");
    let alone = bench.run("export gguf-lora --adapter out --output d.gguf");
    assert!(alone.code == Some(0) && alone.stderr.contains("The base is not on this machine"), "{}", alone.stderr);
    assert_eq!(bench.read("a.gguf")[200..], bench.read("d.gguf")[200..]);
    std::fs::rename(bench.path("gone"), bench.path("w")).expect("a folder");
    // DoRA has no such file.
    bench.run(&format!("train r.yaml {sets} --set adapter.use_dora=true --set output.dir=dora")).ok();
    let dora = bench.run("export gguf-lora --adapter dora --output e.gguf");
    assert_eq!(dora.code, Some(2));
    assert!(dora.problem().contains("DoRA") && dora.problem().contains("export gguf --adapter"), "{}", dora.stderr);
    assert!(!bench.path("e.gguf").exists() && !bench.path("c.gguf").exists());
}

#[test]
fn a_folder_for_ollama_has_the_model_and_how_to_talk_to_it() {
    let bench = Bench::new().with_wide();
    let mut command = bench.command("export ollama --model w --quant q8_0 --output o --system");
    bench.said(command.arg("Be brief.")).ok();
    assert_eq!(bench.files("o"), ["o/Modelfile", "o/model.gguf"]);
    let modelfile = bench.text("o/Modelfile");
    assert!(modelfile.starts_with("FROM ./model.gguf\nTEMPLATE "), "{modelfile}");
    assert!(modelfile.contains("SYSTEM \"\"\"Be brief.\"\"\"\nPARAMETER stop <end_of_turn>\n"), "{modelfile}");
    assert!(mean_gap(&bench.logprobs("o/model.gguf"), &bench.logprobs("w")) < 0.08);
    // Again into the same folder; never into another.
    bench.run("export ollama --model w --output o").ok();
    let refused = bench.run("export ollama --model w --output w");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("has no `Modelfile`"), "{}", refused.stderr);
    // A Modelfile has no way to say this, which is known before anything is read.
    let mut command = bench.command("export ollama --model nowhere --output p --system");
    let refused = bench.said(command.arg("Say\n\"\"\"\noften."));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("line 2 of the text ends with `\"\"\"`"), "{}", refused.stderr);
}

#[test]
fn a_model_of_ollama_is_tuned_where_it_lies_and_gets_an_adapter() {
    use sha2::{Digest, Sha256};
    let bench = Bench::new().with_wide();
    bench.run("export gguf --model w --quant q8_0 --output w.gguf").ok();
    let bytes = bench.read("w.gguf");
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bench.write(&format!("store/blobs/sha256-{hash}"), &bytes);
    let layer = |kind: &str, hash: &str, size: usize| json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": format!("sha256:{hash}"), "size": size});
    let layers = [layer("model", &hash, bytes.len()), layer("template", &"0".repeat(64), 3)];
    bench.write(
        "store/manifests/example.org/library/keeper/270m",
        json!({"schemaVersion": 2, "layers": layers}).to_string(),
    );
    let store = bench.path("store");
    let run = |args: &str| bench.said(bench.command(args).env("OLLAMA_MODELS", &store));

    let scored = |model: &str| run(&format!("score --model {model} --input rows.jsonl --json")).ok().to_owned();
    assert_eq!(scored("ollama:keeper:270m"), scored("w.gguf"));
    let sets = "--set adapter.target_modules=[q_proj] --set training.max_steps=2 --set output.dir=out";
    run(&format!("train r.yaml --set model.base=ollama:keeper:270m {sets}")).ok();
    run("export ollama --model ollama:keeper:270m --adapter out --adapter-only --output o").ok();
    assert_eq!(bench.files("o"), ["o/Modelfile", "o/adapter.gguf"]);
    let modelfile = bench.text("o/Modelfile");
    assert!(modelfile.starts_with("FROM keeper:270m\nADAPTER ./adapter.gguf\nTEMPLATE "), "{modelfile}");

    let unknown = run("inspect ollama:keeper:27m");
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.problem().contains("did you mean `ollama:keeper:270m`?"), "{}", unknown.stderr);
    let folder = run("export ollama --model w --adapter out --adapter-only --output p");
    assert_eq!(folder.code, Some(2), "{}", folder.stderr);
    assert!(folder.problem().contains("a model of its own or a `.gguf` file"), "{}", folder.stderr);
}

#[test]
fn texts_show_which_numbers_count_and_llama_cpp_reads_what_was_measured() {
    let bench = Bench::new().with_wide();
    let export = |more: &str| bench.run(&format!("export gguf --model w {more}")).ok().to_owned();
    export("--quant q3_k_m --imatrix rows.jsonl --save-imatrix i.gguf --output a.gguf");
    let matrix = Gguf::open(&bench.path("i.gguf")).unwrap();
    assert_eq!(matrix.metadata().str("general.type"), Some("imatrix"));
    let numbers = |name: &str| -> Vec<f32> {
        let bytes = matrix.bytes(matrix.entry(name).unwrap_or_else(|| panic!("{name}")));
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let sums = |name: &str| numbers(&format!("{name}.weight.in_sum2"));
    assert_eq!(sums("blk.3.attn_q"), sums("blk.3.attn_v"), "what comes into one comes into the other");
    assert_ne!(sums("blk.3.attn_q"), sums("blk.4.attn_q"));
    assert!(sums("blk.7.ffn_down").iter().all(|sum| *sum >= 0.0) && sums("token_embd").iter().sum::<f32>() > 0.0);
    let tokens: usize = bench
        .text("rows.jsonl")
        .lines()
        .map(|row| {
            let row: Value = serde_json::from_str(row).unwrap();
            row["input_ids"].as_array().unwrap().len()
        })
        .sum();
    assert_eq!(numbers("blk.0.attn_q.weight.counts"), [tokens as f32]);

    // The same from the matrix; another file without it, which is less like the model where it counts.
    export("--quant q3_k_m --imatrix i.gguf --output b.gguf");
    export("--quant q3_k_m --output c.gguf");
    let [a, b, c] = ["a", "b", "c"].map(|name| Gguf::open(&bench.path(&format!("{name}.gguf"))).unwrap());
    assert_eq!(a.metadata().str("quantize.imatrix.file"), Some("rows.jsonl"));
    let bytes = |gguf: &Gguf, name: &str| gguf.bytes(gguf.entry(name).unwrap()).to_vec();
    assert_eq!(bytes(&a, "blk.2.ffn_down.weight"), bytes(&b, "blk.2.ffn_down.weight"));
    assert_ne!(bytes(&a, "blk.2.ffn_down.weight"), bytes(&c, "blk.2.ffn_down.weight"));
    let refused = bench.run("export gguf --model w --quant q4_0 --imatrix w/model.safetensors --output d.gguf");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[test]
fn a_matrix_of_another_model_is_refused_and_what_it_lacks_is_said() {
    use gemma_tune::export::gguf::importance::Importance;
    let bench = Bench::new().with_wide();
    bench.run("export gguf --model w --quant q4_0 --imatrix rows.jsonl --save-imatrix i.gguf --output a.gguf").ok();
    let whole = Importance::read(&bench.path("i.gguf")).expect("a matrix");
    let with = |change: &dyn Fn(&mut Importance)| {
        let mut changed = whole.clone();
        change(&mut changed);
        changed.write(&bench.path("changed.gguf")).expect("a file");
        bench.run("export gguf --model w --quant q4_0 --imatrix changed.gguf --output b.gguf")
    };
    let wide = with(&|matrix| matrix.of.values_mut().for_each(|squares| squares.sums.push(1.0)));
    assert!(wide.code == Some(2) && wide.problem().contains(" inputs, the model's "), "{}", wide.stderr);
    assert!(wide.problem().contains("--> changed.gguf"), "{}", wide.stderr);
    let zeros = with(&|matrix| matrix.of.values_mut().for_each(|squares| squares.sums.fill(0.0)));
    assert!(zeros.code == Some(2) && zeros.problem().contains("says nothing of any matrix"), "{}", zeros.stderr);
    assert!(!bench.path("b.gguf").exists());
    let fewer = with(&|matrix| drop(matrix.of.pop_first()));
    assert!(fewer.stderr.contains("`changed.gguf` says nothing of 1 of "), "{}", fewer.stderr);
    fewer.ok();
    let same = with(&|_| ());
    assert!(!same.stderr.contains("says nothing"), "{}", same.stderr);
    assert!(bench.read("a.gguf").len().abs_diff(bench.read("b.gguf").len()) < 64, "but for the matrix's name");
}

#[test]
fn a_size_that_no_choice_can_meet_is_refused() {
    let bench = Bench::new();
    bench.set("m/config.json", "query_pre_attn_scalar", json!(16));
    let export = |more: &str| bench.run(&format!("export gguf --model m --imatrix rows.jsonl {more} --output x.gguf"));
    let small = export("--target-size 1kB");
    assert!(small.code == Some(2) && small.problem().contains("the smallest file has"), "{}", small.stderr);
    assert!(!small.stderr.contains("inf") && !small.stderr.contains("NaN"), "{}", small.stderr);
    let bits = export("--bits 4");
    assert!(bits.code == Some(2) && bits.problem().contains("4 bits are too few"), "{}", bits.stderr);
    // A model whose rows fill no blocks.
    crate::bench::copy(&crate::bench::golden("export/text"), &bench.path("tiny"));
    bench.write("few.jsonl", "{\"input_ids\": [2, 3, 4, 5]}\n");
    let tiny = |more: &str| bench.run(&format!("export gguf --model tiny --imatrix few.jsonl {more} --output t.gguf"));
    let none = tiny("--bits 4.5");
    assert!(none.code == Some(2) && none.problem().contains("so that no bits can be chosen"), "{}", none.stderr);
    let whole = tiny("--target-size 1MB");
    assert!(whole.stderr.contains("the file is as small as it gets, and nothing is measured"), "{}", whole.stderr);
    whole.ok();
    // Headers tell, so that nothing is loaded or read for it.
    for said in [small, bits, none] {
        let is_begun = ["Loading the model", "Calibrating"].iter().any(|work| said.stderr.contains(work));
        assert!(!is_begun, "{}", said.stderr);
    }
    assert!(!bench.path("x.gguf").exists());
}

#[test]
fn the_base_is_opened_once_for_measuring_and_for_writing() {
    let bench = Bench::new().with_wide();
    bench.run("train r.yaml --set model.base=w --set training.max_steps=2").ok();
    let said = bench.run("export gguf --model w --adapter out --quant q4_0 --imatrix rows.jsonl --output a.gguf");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr.matches("Adapter: out/adapter").count(), 1, "{}", said.stderr);
}

#[test]
fn a_size_gets_the_mixture_that_does_the_least_harm() {
    let bench = Bench::new().with_wide_layers(3); // every matrix is tried in every kind
    let small = bench.run("export gguf --model w --quant q2_k --output q2.gguf --json").json();
    let large = bench.run("export gguf --model w --quant q6_k --output q6.gguf --json").json();
    let [small, large] = [small, large].map(|said| said["bytes"].as_u64().unwrap());
    let target = (small + large) / 2;
    let said = bench
        .run(&format!("export gguf --model w --imatrix rows.jsonl --target-size {target} --output m.gguf --json"))
        .json();
    let bytes = said["bytes"].as_u64().unwrap();
    assert!(bytes <= target && bytes > target * 9 / 10, "{said} {target}");
    assert_eq!(said["quant"], "measured");
    assert!(said["types"].as_object().unwrap().len() > 2, "{said}");
    let gap = |file: &str| mean_gap(&bench.logprobs(file), &bench.logprobs("w"));
    let [measured, smaller] = [gap("m.gguf"), gap("q2.gguf")];
    assert!(measured < smaller, "{measured} {smaller}");

    let by_bits = bench.run("export gguf --model w --imatrix rows.jsonl --bits 5 --output n.gguf --json").json();
    assert!(by_bits["bytes"].as_u64().unwrap() < large, "{by_bits}");
    let refused = bench.run("export gguf --model w --imatrix rows.jsonl --target-size 1kB --output x.gguf");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("the smallest file has"), "{}", refused.stderr);
    assert!(!bench.path("x.gguf").exists());
    for args in ["--target-size 1MB --output x.gguf", "--quant q4_0 --bits 5 --output x.gguf"] {
        assert_eq!(bench.run(&format!("export gguf --model w {args}")).code, Some(2), "{args}");
    }
}
