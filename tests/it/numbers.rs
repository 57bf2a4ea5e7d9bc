//! Numbers that are none, configurations that contradict their weights, and runs that change nothing.

use crate::bench::{Bench, Said, copy, golden, safetensors_bytes, tensors};
use gemma_tune::weights::Source;
use gemma_tune::weights::gguf::Gguf;
use serde_json::{Value, json};

const WEIGHTS: &str = "m/model.safetensors";
const TRAIN: &str = "train r.yaml --set training.max_steps=2";
const SCORE: &str = "score --model m --input rows.jsonl --output scores.jsonl";

/// A model `m`, the adapter `a` for it, and the model `t` with a tokenizer.
fn bench() -> Bench {
    let bench = Bench::new().with_text();
    copy(&golden("model/lora/adapter"), &bench.path("a"));
    bench.write("prompts.jsonl", "{\"prompt\": \"the cat\"}\n");
    bench
}

/// Changes the tensors of a safetensors file whose names contain `part`.
fn change(bench: &Bench, file: &str, part: &str, change: impl Fn(&mut Vec<f32>)) {
    let mut all = tensors(&bench.read(file));
    let found = all.iter_mut().filter(|(name, ..)| name.contains(part));
    assert!(found.map(|(.., values)| change(values)).count() > 0, "no {part}");
    bench.write(file, safetensors_bytes(&all));
}

#[track_caller]
fn refused(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, Some(code), "{}{}", said.stdout, said.stderr);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    for part in parts {
        assert!(said.problem().contains(part), "{part:?} is not in {}", said.stderr);
    }
}

#[test]
fn a_base_with_a_number_that_is_none_is_refused_by_every_verb() {
    for (part, at, wrong, says) in [
        ("layers.5.mlp.up_proj.weight", 50, f32::NAN, "the number at [1, 2] is NaN"),
        ("embed_tokens.weight", 0, f32::INFINITY, "the number at [0, 0] is inf"),
        ("layers.2.input_layernorm.weight", 7, 1e37, "the number at [7] is 1e37, which is no weight"),
    ] {
        let bench = bench();
        for file in [WEIGHTS, "t/model.safetensors"] {
            change(&bench, file, part, |values| values[at] = wrong);
        }
        let tensor = format!("tensor `model.{part}`: {says}");
        for command in [
            TRAIN,
            "train r.yaml --set model.dtype=bf16",
            "train r.yaml --set model.quantization=nf4",
            SCORE,
            "score --model m --adapter a --input rows.jsonl --output scores.jsonl",
            "generate --model t --input prompts.jsonl --output answers.jsonl",
            "chat --model t",
            "evaluate r.yaml --adapter a",
            "merge --model m --adapter a --output merged",
        ] {
            refused(&bench.run(command), 2, &[&tensor, "model.safetensors"]);
        }
        for left in ["out/adapter", "scores.jsonl", "answers.jsonl", "merged"] {
            assert!(!bench.path(left).exists(), "{left}");
        }
    }
}

#[test]
fn a_scale_in_a_quantised_file_is_looked_at_however_it_is_held() {
    let bench = bench();
    bench.write("g.gguf", std::fs::read(golden("gguf/tiny-gemma3.gguf")).unwrap());
    let gguf = Gguf::open(&bench.path("g.gguf")).unwrap();
    let quantised = |name: &&str| ["Q4_0", "Q4_K", "Q8_0", "Q5_K"].contains(name);
    let mut entries = gguf.header().tensors.iter();
    let entry = entries.find(|entry| quantised(&entry.type_name().as_str()) && entry.name.starts_with("blk.")).unwrap();
    let (start, name) = (entry.bytes.start, entry.name.clone());
    bench.edit("g.gguf", |bytes| bytes[start..start + 2].copy_from_slice(&0x7e00u16.to_le_bytes()));
    let train = format!("{TRAIN} --set model.base=g.gguf");
    for command in [
        "score --model g.gguf --input rows.jsonl --output scores.jsonl".to_owned(),
        train.clone(),
        format!("{train} --set model.quantization=as_stored"),
        format!("{train} --set model.quantization=int8"),
    ] {
        refused(
            &bench.run(&command),
            2,
            &[&format!("tensor `{name}`: the block at [0, 0] has the scale NaN"), "g.gguf"],
        );
    }
}

#[test]
fn a_scale_of_bitsandbytes_is_looked_at() {
    for (form, part) in [("nf4", ".absmax"), ("nf4_double", ".nested_absmax")] {
        let bench = bench();
        copy(&golden(&format!("quant/{form}")), &bench.path("q"));
        let file = std::fs::read_dir(bench.path("q")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let file = format!("q/{}", file.into_iter().find(|name| name.ends_with(".safetensors")).unwrap());
        let mut name = String::new();
        bench.edit(&file, |bytes| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            let entry = header.as_object().unwrap().iter().find(|(name, _)| name.ends_with(part)).unwrap();
            name = entry.0.trim_end_matches(part).to_owned();
            let at = 8 + length + entry.1["data_offsets"][0].as_u64().unwrap() as usize;
            bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        });
        let said = bench.run(&SCORE.replace("--model m", "--model q"));
        refused(&said, 2, &[&format!("tensor `{name}`: the block at [0, 0] has the scale inf")]);
    }
}

#[test]
fn an_adapter_with_a_number_that_is_none_is_refused_by_every_verb() {
    let tensors = "a/adapter_model.safetensors";
    type Damage = fn(&Bench);
    let cases: [(Damage, &str); 4] = [
        (
            |b| change(b, "a/adapter_model.safetensors", "layers.3.mlp.up_proj.lora_B", |v| v[2] = f32::NAN),
            "lora_B.weight` holds a number that is not finite",
        ),
        (
            |b| change(b, "a/adapter_model.safetensors", "layers.3.mlp.up_proj.lora_A", |v| v[2] = 1e37),
            "lora_A.weight` holds 1e37, which is no weight, at position 2",
        ),
        (
            |b| b.set("a/adapter_config.json", "lora_alpha", json!(1e300)),
            "`lora_alpha` must be a number that f32 can hold",
        ),
        (|b| b.set("a/adapter_config.json", "lora_alpha", json!(1e36)), "its scale is "),
    ];
    assert!(bench().path(tensors).exists());
    for (damage, says) in cases {
        let bench = bench();
        damage(&bench);
        for command in [
            "train r.yaml --set adapter.init_from=a",
            "score --model m --adapter a --input rows.jsonl --output scores.jsonl",
            "generate --model t --adapter a --input prompts.jsonl --output answers.jsonl",
            "chat --model t --adapter a",
            "evaluate r.yaml --adapter a",
            "merge --model m --adapter a --output merged",
        ] {
            // The recipe's own rank and scale are not what is asked about.
            if command.starts_with("train") {
                bench.edit("r.yaml", |bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes =
                        text.replace("r: 4, lora_alpha: 8, ", "").replace(", target_modules: all-linear", "").into();
                });
            }
            refused(&bench.run(command), 2, &[says]);
        }
    }
}

#[test]
fn what_becomes_no_number_while_computing_fails_where_it_did() {
    let bench = bench();
    for file in [WEIGHTS, "t/model.safetensors"] {
        change(&bench, file, "layers.6.mlp.", |values| values.iter_mut().for_each(|x| *x *= 1e14));
    }
    refused(&bench.run(SCORE), 1, &["the log-probability of token 2 is not finite", "rows.jsonl, row 1"]);
    assert!(!bench.path("scores.jsonl").exists());
    let generate = "generate --model t --input prompts.jsonl --output answers.jsonl";
    refused(&bench.run(generate), 1, &["numbers that are not finite after 0 tokens", "prompts.jsonl, row 1"]);
    refused(&bench.run("evaluate r.yaml --adapter a"), 1, &["the loss on the evaluation data is not finite"]);
    let one_row = "--set data.packing=false --set training.gradient_accumulation_steps=1";
    for steps in 1..=4 {
        let said =
            bench.run(&format!("train r.yaml --set training.max_steps={steps} --set output.dir=o{steps} {one_row}"));
        refused(&said, 1, &[&format!("no step of {steps} was taken"), &format!("step {steps}")]);
        assert!(!bench.path(&format!("o{steps}/adapter")).exists());
    }
}

#[test]
fn a_configuration_of_absurd_numbers_is_refused_by_its_key() {
    for (key, value, says) in [
        ("rms_norm_eps", json!(1e300), "`rms_norm_eps`: it is 1e+300; supported: a number from 1e-30 to 1e0"),
        ("rms_norm_eps", json!(1e-60), "`rms_norm_eps`: it is 1e-60"),
        ("rope_theta", json!(1e40), "`rope_theta`: it is 1e+40"),
        ("rope_local_base_freq", json!(1e-3), "`rope_local_base_freq`: it is 0.001"),
        ("query_pre_attn_scalar", json!(1e39), "`query_pre_attn_scalar`: it is 1e+39"),
        ("final_logit_softcapping", json!(30.0), "`final_logit_softcapping`: it is 30.0; supported: null"),
    ] {
        let bench = Bench::new();
        // transformers 5 nests these; the older keys stand alone.
        bench.set("m/config.json", "rope_parameters", Value::Null);
        bench.set("m/config.json", key, value);
        refused(&bench.run(SCORE), 2, &[says, "m/config.json"]);
    }
}

/// The model `m` with a head of its own: the embedding, changed by `change`.
fn with_head(bench: &Bench, change: impl Fn(&mut Vec<f32>)) {
    let mut all = tensors(&bench.read(WEIGHTS));
    let (_, shape, mut head) = all.iter().find(|t| t.0 == "model.embed_tokens.weight").unwrap().clone();
    change(&mut head);
    all.push(("lm_head.weight".into(), shape, head));
    bench.write(WEIGHTS, safetensors_bytes(&all));
}

fn scores(bench: &Bench, model: &str) -> (Vec<f64>, String) {
    let said = bench.run(&SCORE.replace("--model m", &format!("--model {model}")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lines = bench.text("scores.jsonl");
    let nll = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["nll"].as_f64().unwrap());
    (nll.collect(), said.stderr)
}

#[test]
fn a_stored_head_decides_whatever_the_configuration_says() {
    let bench = bench();
    let tied = scores(&bench, "m").0;
    with_head(&bench, |_| {});
    let (same, stderr) = scores(&bench, "m");
    assert_eq!(same, tied, "a head that is the embedding is the embedding");
    assert!(!stderr.contains("lm_head"), "{stderr}");

    let bench = self::bench();
    with_head(&bench, |head| head.iter_mut().for_each(|x| *x *= 0.5));
    let (own, stderr) = scores(&bench, "m");
    assert!(stderr.contains("`tie_word_embeddings: true`, but the file has an `lm_head.weight` that"), "{stderr}");
    assert_ne!(own, tied);
    bench.set("m/config.json", "tie_word_embeddings", json!(false));
    let (untied, stderr) = scores(&bench, "m");
    assert_eq!(untied, own, "as the configuration that says so");
    assert!(!stderr.contains("Warning"), "{stderr}");
    bench.set("m/config.json", "tie_word_embeddings", json!(true));

    let said = bench.run("estimate r.yaml --no-probe --json");
    let with_head = said.json()["memory"]["base_bytes"].as_u64().unwrap();
    let without =
        Bench::new().run("estimate r.yaml --no-probe --json").json()["memory"]["base_bytes"].as_u64().unwrap();
    assert_eq!(with_head - without, 320 * 48 * 4, "the head is counted");

    bench.run("train r.yaml").ok();
    bench.run("merge --model m --adapter out/adapter --output merged --dtype f32").ok();
    let config: Value = serde_json::from_str(&bench.text("merged/config.json")).unwrap();
    assert_eq!(config["tie_word_embeddings"], json!(false));
    let merged = scores(&bench, "merged").0;
    let beside = "score --model m --adapter out/adapter --input rows.jsonl --output scores.jsonl";
    bench.run(beside).ok();
    let beside = bench.text("scores.jsonl");
    for (merged, line) in merged.iter().zip(beside.lines()) {
        let beside = serde_json::from_str::<Value>(line).unwrap()["nll"].as_f64().unwrap();
        assert!((merged - beside).abs() < 1e-4, "{merged} {beside}");
    }
}

#[test]
fn a_head_that_is_promised_and_missing_is_named() {
    let bench = Bench::new();
    bench.set("m/config.json", "tie_word_embeddings", json!(false));
    for command in [SCORE, "train r.yaml --dry-run", "recipe check r.yaml"] {
        refused(&bench.run(command), 2, &["`tie_word_embeddings` is false, but the weights hold no head"]);
    }
}

#[test]
fn layers_that_the_configuration_leaves_out_are_named() {
    let bench = Bench::new();
    let mut config: Value = serde_json::from_str(&bench.text("m/config.json")).unwrap();
    config["num_hidden_layers"] = json!(5);
    let kinds = config["layer_types"].as_array().unwrap()[..5].to_vec();
    config["layer_types"] = kinds.into();
    bench.write("m/config.json", config.to_string());
    let says = "`num_hidden_layers` is 5, but the weights have 7 layers: `model.layers.5.";
    for command in [SCORE, "train r.yaml --dry-run", "estimate r.yaml --no-probe", "recipe check r.yaml"] {
        refused(&bench.run(command), 2, &[says, "and 22 more would be left out"]);
    }
}

#[test]
fn sizes_that_the_weights_do_not_have_are_told_before_the_data() {
    for (key, value) in [
        ("vocab_size", 321),
        ("head_dim", 8),
        ("num_key_value_heads", 4),
        ("intermediate_size", 95),
        ("hidden_size", 96),
    ] {
        let bench = Bench::new();
        bench.set("m/config.json", key, json!(value));
        bench.write("rows.jsonl", "no JSON");
        refused(&bench.run("train r.yaml --dry-run"), 2, &["expected [", "found ["]);
    }
}

#[test]
fn tensors_inside_the_layers_are_computed_with_or_refused() {
    let bench = Bench::new();
    let before = scores(&bench, "m").0;
    let add = |name: &str| {
        let mut all = tensors(&bench.read(WEIGHTS));
        all.push((name.into(), vec![2], vec![0.5, 0.25]));
        bench.write(WEIGHTS, safetensors_bytes(&all));
    };
    add("model.layers.0.self_attn.rotary_emb.inv_freq");
    let (with_buffer, stderr) = scores(&bench, "m");
    assert_eq!((with_buffer, stderr.contains("Warning")), (before.clone(), false), "{stderr}");
    add("score.weight");
    let (with_other, stderr) = scores(&bench, "m");
    assert_eq!(with_other, before);
    assert!(stderr.contains("is no part of a Gemma 3, and is not used: `score.weight`"), "{stderr}");
    add("model.layers.0.self_attn.q_proj.bias");
    let says =
        "the layers hold tensors that this program does not compute with: `model.layers.0.self_attn.q_proj.bias`";
    refused(&bench.run(SCORE), 2, &[says]);
}

#[test]
fn one_step_changes_something() {
    let bench = Bench::new();
    bench.run("train r.yaml --set training.max_steps=1").ok();
    let metrics = bench.text("out/metrics.jsonl");
    let step: Value =
        serde_json::from_str(metrics.lines().find(|line| line.contains("learning_rate")).unwrap()).unwrap();
    assert_eq!(step["learning_rate"], json!(1e-2));
    let adapter = tensors(&bench.read("out/adapter/adapter_model.safetensors"));
    let mut b = adapter.iter().filter(|(name, ..)| name.contains("lora_B"));
    assert!(b.all(|(.., values)| values.iter().any(|x| *x != 0.0)));
}

#[test]
fn a_run_that_would_change_nothing_is_refused_before_it_starts() {
    let bench = Bench::new();
    let still = "train r.yaml --set training.max_steps=1 --set training.warmup_steps=1";
    for command in [still.to_owned(), format!("{still} --dry-run")] {
        refused(&bench.run(&command), 2, &["its learning rate is 0 in its only step", "warm-up"]);
    }
    assert!(!bench.path("out/adapter").exists());
}

#[test]
fn a_run_that_changed_nothing_is_not_done() {
    // With every input dropped no gradient reaches B.
    let bench = Bench::new();
    let said = bench.run("train r.yaml --set training.max_steps=2 --set adapter.lora_dropout=0.9999999999");
    refused(&said, 1, &["2 steps changed nothing", "out"]);
    assert!(!bench.path("out/adapter").exists());
}

#[test]
fn an_adapter_that_changes_nothing_gets_a_warning() {
    let bench = bench();
    change(&bench, "a/adapter_model.safetensors", "lora_B", |values| values.fill(0.0));
    for command in [
        "score --model m --adapter a --input rows.jsonl --output scores.jsonl",
        "evaluate r.yaml --adapter a",
        "merge --model m --adapter a --output merged",
    ] {
        let said = bench.run(command);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stderr.contains("the adapter in `a` changes nothing"), "{}", said.stderr);
    }
}

#[test]
fn an_adapter_on_some_layers_is_used_continued_and_merged() {
    let bench = bench();
    let mut all = tensors(&bench.read("a/adapter_model.safetensors"));
    all.retain(|(name, ..)| name.contains("layers.1.") || name.contains("layers.4."));
    bench.write("a/adapter_model.safetensors", safetensors_bytes(&all));
    let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    bench.set("a/adapter_config.json", "target_modules", json!(names));
    refused(&bench.run("merge --model m --adapter a --output merged"), 2, &["tensors are missing"]);
    bench.set("a/adapter_config.json", "layers_to_transform", json!([1, 4]));
    bench.set("a/adapter_config.json", "layers_pattern", json!("layers"));
    bench.run("merge --model m --adapter a --output merged --dtype f32").ok();
    let [base, merged] = [WEIGHTS, "merged/model.safetensors"].map(|file| tensors(&bench.read(file)));
    for ((name, _, base), (_, _, merged)) in base.iter().zip(&merged) {
        let is_changed = name.contains("_proj") && ["layers.1.", "layers.4."].iter().any(|layer| name.contains(layer));
        assert_eq!(base != merged, is_changed, "{name}");
    }
    let recipe = bench.text("r.yaml").replace("r: 4, lora_alpha: 8, ", "init_from: a, ");
    bench.write("r.yaml", recipe.replace(", target_modules: all-linear", ""));
    bench.run("train r.yaml").ok();
    let config: Value = serde_json::from_str(&bench.text("out/adapter/adapter_config.json")).unwrap();
    assert_eq!(config["layers_to_transform"], Value::Null);
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 14, "each by its path");
    bench.run("score --model m --adapter out/adapter --input rows.jsonl --output scores.jsonl").ok();
}

#[test]
fn a_gguf_with_a_head_of_its_own_uses_it() {
    // The tiny file has none; that one is looked for at all is seen from the header's side.
    let source = Source::open_gguf(&golden("gguf/tiny-gemma3.gguf")).unwrap();
    let (embedding, norm) =
        (gemma_tune::weights::names::TensorId::EmbedTokens, gemma_tune::weights::names::TensorId::Norm);
    assert!(source.is_same(&embedding, &embedding).unwrap());
    assert!(!source.is_same(&embedding, &norm).unwrap());
}

#[test]
fn the_estimate_counts_what_each_form_of_an_adapter_keeps() {
    let bench = Bench::new();
    let memory = |sets: &str| {
        let dropout = if sets.contains("lora_dropout") { "" } else { " --set adapter.lora_dropout=0.0" };
        let kept = format!("--set training.activation_checkpointing=false{dropout}");
        let sets: String = sets.split_whitespace().map(|set| format!(" --set {set}")).collect();
        bench.run(&format!("estimate r.yaml --no-probe --json {kept}{sets}")).json()["memory"].clone()
    };
    let bytes = |memory: &Value, part: &str| memory[part].as_u64().unwrap();
    let plain = memory("");
    // Seven layers, 48 tokens, four bytes; d = 48, four heads and two of keys and values of 16, f = 80.
    let more =
        |sets: &str| (bytes(&memory(sets), "activation_bytes") - bytes(&plain, "activation_bytes")) / (7 * 48 * 4);
    let (inputs, outputs, f) = (5 * 48 + 64 + 80, 64 + 2 * 32 + 2 * 48 + 2 * 80, 80);
    assert_eq!(more("adapter.lora_dropout=0.1"), 2 * inputs - 2 * 48 + f);
    assert_eq!(more("adapter.use_dora=true"), outputs + f);
    assert_eq!(more("adapter.use_dora=true adapter.lora_dropout=0.1"), 2 * inputs + 2 * outputs - 2 * 48 + f);
    assert_eq!(more("adapter.init_lora_weights=pissa"), f);
    assert_eq!(more("adapter.r=9"), 7 * 5);
    let adapter = bytes(&plain, "adapter_bytes"); // two passes a step: the values and their gradients
    assert_eq!(bytes(&memory("adapter.init_lora_weights=pissa"), "adapter_bytes"), adapter / 2 * 3);
    assert_eq!(bytes(&memory("evaluation.load_best_model_at_end=true"), "adapter_bytes"), adapter / 2 * 3);
    let one_pass = memory("training.gradient_accumulation_steps=1");
    assert_eq!(bytes(&one_pass, "adapter_bytes"), adapter / 2, "activations go while gradients come");
    assert!(bytes(&memory("evaluation.samples=1"), "workspace_bytes") > bytes(&plain, "workspace_bytes"));
}

#[test]
fn a_loss_that_no_working_model_has_is_said_before_the_first_step() {
    let louder = |factor: f32| {
        let bench = bench();
        change(&bench, WEIGHTS, "model.norm.weight", |values| values.iter_mut().for_each(|x| *x = factor));
        bench
    };
    let summary = |bench: &Bench| -> Value { serde_json::from_slice(&bench.read("out/summary.json")).expect("JSON") };
    let said = bench().run(TRAIN);
    assert!(!said.stderr.contains("would be guessing"), "{}", said.stderr);

    let bench = louder(30.0);
    let said = bench.run(TRAIN);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("warning: the loss of the base model on the first rows is "), "{}", said.stderr);
    assert!(summary(&bench)["warnings"][0].as_str().unwrap().contains("and 5.8 would be guessing"));

    let bench = louder(1e6);
    refused(&bench.run(TRAIN), 2, &["the loss of the base model", "no working model has such a loss"]);
    assert!(!bench.path("out").exists());

    let bench = self::bench();
    change(&bench, "a/adapter_model.safetensors", "lora_B", |values| values.iter_mut().for_each(|x| *x *= 1e12));
    let adapter = "{r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}";
    bench.write("r.yaml", bench.text("r.yaml").replace(adapter, "{init_from: a}"));
    let said = bench.run("train r.yaml --set training.lr_scheduler_type=constant --set training.warmup_ratio=0");
    assert!(said.stderr.contains("warning: the loss with the adapter that is continued is "), "{}", said.stderr);
}
