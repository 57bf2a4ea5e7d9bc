//! `verify`: that an adapter does something, and that what was made of it says the same.

use crate::bench::{Bench, copy, golden, lines, rows, safetensors_bytes, tensors};
use crate::exports::Exports;
use serde_json::{Value, json};

/// A wide model `w` with an adapter in `out/adapter` and everything that is made of it.
fn exported() -> Bench {
    let bench = Bench::new().with_wide();
    let sets = "--set model.base=w --set training.max_steps=6 --set evaluation.eval_steps=null";
    bench.run(&format!("train r.yaml {sets}")).ok();
    bench.run("merge --model w --adapter out --output merged --dtype f32").ok();
    for quant in ["f32", "q8_0"] {
        bench.run(&format!("export gguf --model w --adapter out --quant {quant} --output {quant}.gguf")).ok();
    }
    bench.run("export gguf-lora --adapter out --output lora.gguf").ok();
    bench
}

fn line<'a>(report: &'a Value, what: &str) -> &'a Value {
    let lines = report["compared"].as_array().expect("lines");
    lines.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("no {what} in {report}"))
}

#[test]
fn every_export_says_what_was_trained() {
    let bench = exported();
    let all = "verify --model w --adapter out --merged merged --gguf f32.gguf --gguf-lora lora.gguf";
    let report = bench.run(&format!("{all} --json")).json();
    assert_eq!(report["rows_from"], "the evaluation rows of the adapter's run");
    let base = line(&report, "base");
    assert!(base["mean_kl"].as_f64() > Some(1e-4) && base["limit"].is_null(), "the adapter does something: {base}");
    for what in ["merged", "gguf", "gguf-lora"] {
        let line = line(&report, what);
        assert!(line["mean_kl"].as_f64() < Some(1e-8), "{line}");
        let effect = line["effect"].as_f64().expect("a step");
        assert!((effect - 1.0).abs() < 1e-3 && line["top_1"] == 1.0 && line["limit"] == 1e-4, "{line}");
    }
    assert_eq!((&line(&report, "gguf")["stored"], &report["problems"]), (&json!("F32"), &json!([])));
    let said = bench.run(all).ok();
    assert!(said.starts_with("Against base and adapter, at ") && said.contains("merged F32"), "{said}");
    // Rows of texts, which the file's own tokenizer reads as well.
    bench.write("texts.jsonl", lines(&[json!({"text": "Two and two, é 你?"}), json!({"input_ids": [2, 9, 8, 7]})]));
    let report = bench.run(&format!("{all} --input texts.jsonl --json")).json();
    assert_eq!((&report["rows_from"], &report["rows"]), (&json!("`texts.jsonl`"), &json!(2)));
    assert_eq!(line(&report, "gguf")["same_tokens"], true);
}

#[test]
fn so_many_tokens_are_compared_as_are_asked_for() {
    let bench = exported();
    bench.write("few.jsonl", lines(&rows(5)));
    let tokens = |n: usize| {
        let report = bench.run(&format!("verify --model w --adapter out --input few.jsonl --tokens {n} --json")).json();
        (report["tokens"].as_u64(), report["rows"].as_u64())
    };
    let lengths = [5, 12, 19, 10, 17];
    assert_eq!(tokens(1), (Some(1), Some(1)));
    assert_eq!(tokens(17), (Some(17), Some(2)));
    assert_eq!(tokens(18), (Some(18), Some(3)));
    assert_eq!(tokens(500), (Some(lengths.iter().sum()), Some(5)));
}

#[test]
fn an_export_of_something_else_fails() {
    let bench = exported();
    let failed = |args: &str| {
        let said = bench.run(&format!("verify --model w --adapter out {args}"));
        assert_eq!(said.code, Some(1), "{args}: {}", said.stderr);
        assert!(said.stdout.contains("Against base and adapter"), "the numbers are printed all the same");
        said.stderr
    };
    // The base in the place of the merged model, in three forms.
    bench.run("export gguf --model w --quant q8_0 --output plain.gguf").ok();
    let said = failed("--merged w");
    assert!(
        said.contains("the merged `w` is not what was trained") && said.contains("1e-4 is the limit of F32"),
        "{said}"
    );
    assert!(said.contains("has 0 % of the adapter's effect"), "{said}");
    assert!(failed("--gguf plain.gguf").contains("of the adapter's effect: the adapter is not in it"));
    // The adapter at a twentieth of its scale.
    let mut config: Value = serde_json::from_str(&bench.text("out/adapter/adapter_config.json")).expect("JSON");
    config["lora_alpha"] = json!(config["lora_alpha"].as_f64().expect("a number") / 20.0);
    copy(&bench.path("out/adapter"), &bench.path("weak"));
    bench.write("weak/adapter_config.json", config.to_string());
    bench.run("merge --model w --adapter weak --output third --dtype f32").ok();
    bench.run("export gguf-lora --adapter weak --output third.gguf").ok();
    assert!(failed("--merged third").contains("of the adapter's effect"));
    assert!(failed("--gguf-lora third.gguf").contains("the gguf-lora `third.gguf` is not what was trained"));
    // Problems of several exports, with those that are right among them.
    let both = failed("--merged merged --gguf plain.gguf --gguf q8_0.gguf");
    assert!(both.contains("plain.gguf") && !both.contains("`merged`"), "{both}");
}

#[test]
fn an_adapter_that_changes_nothing_fails() {
    let bench = Bench::new().with_wide();
    let sets = "--set model.base=w --set training.max_steps=2 --set evaluation.eval_steps=null";
    bench.run(&format!("train r.yaml {sets}")).ok();
    let file = "out/adapter/adapter_model.safetensors";
    let mut zeros = tensors(&bench.read(file));
    zeros.iter_mut().filter(|tensor| tensor.0.contains("lora_B")).for_each(|tensor| tensor.2.fill(0.0));
    bench.write(file, safetensors_bytes(&zeros));
    let said = bench.run("verify --model w --adapter out --json");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.problem().contains("the adapter changes nothing"), "{}", said.stderr);
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(report["compared"][0]["max_kl"], 0.0);
}

#[test]
fn rows_are_the_runs_own_or_a_text_and_said() {
    let bench = Bench::new().with_wide();
    let sets = "--set model.base=w --set training.max_steps=2 --set evaluation.eval_steps=null";
    bench.run(&format!("train r.yaml {sets} --set data.eval_fraction=0")).ok();
    let said = bench.run("verify --model w --adapter out");
    assert!(
        said.stderr.contains("The adapter's run has no evaluation rows: a built-in text is read."),
        "{}",
        said.stderr
    );
    assert!(said.ok().contains("of 2 rows of a built-in text:"));
    copy(&bench.path("out/adapter"), &bench.path("alone"));
    let alone = bench.run("verify --model w --adapter alone --json").json();
    assert_eq!(alone["rows_from"], "a built-in text");
    // Rows that are gone since.
    bench.run(&format!("train r.yaml {sets} --set output.dir=held")).ok();
    std::fs::remove_file(bench.path("rows.jsonl")).expect("the rows");
    let said = bench.run("verify --model w --adapter held");
    assert!(said.stderr.contains("The evaluation rows of the adapter's run cannot be read"), "{}", said.stderr);
    assert_eq!(said.code, Some(0));
    // Without a tokenizer there is no text.
    std::fs::remove_file(bench.path("w/tokenizer.json")).expect("the tokenizer");
    let none = bench.run("verify --model w --adapter alone");
    assert!(none.code == Some(2) && none.stderr.contains("name rows of token ids with `--input`"), "{}", none.stderr);
}

#[test]
fn wrong_names_are_refused_before_the_model_is_loaded() {
    let bench = exported();
    for (args, said) in [
        ("--merged nowhere", "there is no such file or folder"),
        ("--merged f32.gguf", "`--merged` names a file"),
        ("--gguf merged", "`--gguf` names a folder"),
        ("--gguf-lora out", "`--gguf-lora` names a folder"),
        ("--gguf-lora f32.gguf", "is no LoRA adapter"),
        ("--gguf lora.gguf", "lora.gguf"),
        ("--gguf f32.gguf --target vllm", "cannot be used with"),
        ("--input nowhere.jsonl", "nowhere.jsonl"),
        ("--merged m", "this model has 320 words"),
    ] {
        let found = bench.run(&format!("verify --model w --adapter out {args}"));
        assert_eq!(found.code, Some(2), "{args}: {}", found.stderr);
        assert!(found.stderr.contains(said), "{args}: {}", found.stderr);
        assert!(!found.stderr.contains("Reading the rows"), "{args}: {}", found.stderr);
    }
}

#[test]
fn a_file_of_towers_is_known_before_the_base_is_opened() {
    let bench = exported();
    copy(&golden("multimodal/model"), &bench.path("see"));
    bench.run("export gguf-mmproj --model see --output see.gguf").ok();
    let said = bench.run("verify --model nowhere --adapter out --gguf f32.gguf --gguf see.gguf");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("this is what looks at pictures (mmproj)"), "{}", said.stderr);
}

#[test]
fn exports_offer_the_command_that_checks_them() {
    let bench = Bench::new().with_wide();
    let sets = "--set model.base=w --set training.max_steps=2 --set evaluation.eval_steps=null";
    bench.run(&format!("train r.yaml {sets}")).ok();
    let offered = |args: &str| {
        let said = bench.run(args);
        let line = said.stderr.lines().find_map(|line| line.strip_prefix("Check it: gemma-tune ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{args}: {}", said.stderr))
    };
    for args in [
        "merge --model w --adapter out --output merged",
        "export gguf --model w --adapter out --quant q8_0 --output a.gguf",
        "export ollama --model w --adapter out --output o",
        "export gguf-lora --adapter out --output lora.gguf",
    ] {
        let command = offered(args);
        let said = bench.run(&command);
        assert!(said.code.is_some_and(|code| code < 2), "{command}: {}", said.stderr);
        assert!(said.stdout.contains("adapter in it"), "{command}");
    }
    let mut spaced = bench.command("export gguf --model w --adapter out --quant f32 --output");
    let said = bench.said(spaced.arg("a file.gguf"));
    assert!(said.stderr.contains("--gguf 'a file.gguf'"), "{}", said.stderr);
    let plain = bench.run("export gguf --model w --quant f32 --output plain.gguf");
    assert!(!plain.stderr.contains("Check it"), "nothing was folded in: {}", plain.stderr);
}

#[test]
fn what_vllm_needs_is_said_without_a_model_in_memory() {
    let bench = Bench::new().trained();
    let said = bench.run("verify --model m --adapter out --target vllm --json").json();
    assert_eq!((&said["flags"], &said["notes"]), (&json!(["--enable-lora"]), &json!([])));
    let sets = "--set training.max_steps=1 --set evaluation.eval_steps=null --set output.dir=dora";
    bench.run(&format!("train r.yaml {sets} --set adapter.use_dora=true --set adapter.r=24")).ok();
    let said = bench.run("verify --model m --adapter dora --target vllm");
    assert_eq!((said.code, said.stdout.trim()), (Some(1), "vLLM is started with: --enable-lora --max-lora-rank 32"));
    assert!(said.problem().contains("vLLM refuses DoRA adapters; merge it"), "{}", said.stderr);
}

#[test]
fn pictures_are_compared_where_something_sees_and_refused_where_nothing_does() {
    let bench = Bench::new();
    copy(&golden("multimodal/model"), &bench.path("see"));
    copy(&golden("multimodal/pictures"), &bench.path("pictures"));
    bench.write("see.jsonl", std::fs::read(golden("multimodal/rows.jsonl")).expect("rows"));
    let sets = "--set model.base=see --set data.train=see.jsonl --set data.format=messages --set data.eval_fraction=0 \
                --set data.max_length=512 --set training.max_steps=2 --set evaluation.eval_steps=null";
    bench.run(&format!("train r.yaml {sets}")).ok();
    bench.run("merge --model see --adapter out --output merged --dtype f32").ok();
    let report = bench.run("verify --model see --adapter out --merged merged --input see.jsonl --json").json();
    assert!(line(&report, "merged")["mean_kl"].as_f64() < Some(1e-8), "{report}");
    bench.write("fake.gguf", "GGUF");
    let said = bench.run("verify --model see --adapter out --gguf fake.gguf --input see.jsonl");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("a GGUF file has no towers"), "{}", said.stderr);
}

#[test]
fn whoever_takes_rows_reads_them_as_training_does() {
    let bench = exported();
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let turns = json!([turn("user", "Two and two?"), turn("assistant", "Four.")]);
    let shared = json!([{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}]);
    bench.write("messages.jsonl", lines(&[json!({"messages": turns})]));
    bench.write("answers.jsonl", lines(&[json!({"prompt": "Two and two?", "completion": "Four.", "id": 7})]));
    bench.write("alpaca.json", json!([{"instruction": "Two and two?", "input": "", "output": "Four."}]).to_string());
    bench.write("shared.jsonl", lines(&[json!({"conversations": shared})]));
    bench.write("answers.csv", "Question,Answer\nTwo and two?,Four.\n");
    let scored = |file: &str| bench.run(&format!("score --model w --input {file}")).json();
    let expected = scored("messages.jsonl");
    assert!(expected["supervised_nll"].is_number(), "{expected}");
    for file in ["answers.jsonl", "alpaca.json", "shared.jsonl", "answers.csv"] {
        assert_eq!(scored(file), expected, "{file}");
        let report = bench.run(&format!("verify --model w --adapter out --input {file} --json")).json();
        assert_eq!(report["tokens"].as_u64(), expected["input_ids"].as_array().map(|ids| ids.len() as u64), "{file}");
    }
    for file in ["answers.jsonl", "answers.csv"] {
        bench.run(&format!("export gguf --model w --quant q4_0 --imatrix {file} --output {file}.gguf")).ok();
    }
    let end = |file: &str| bench.read(file).split_off(bench.read(file).len() - (64 << 10));
    assert_eq!(end("answers.jsonl.gguf"), end("answers.csv.gguf"), "the last matrices");
    // What no column says is told with a name that works.
    bench.write("other.csv", "frage,antwort\nZwei und zwei,Vier\n");
    for verb in [
        "score --model w",
        "verify --model w --adapter out",
        "export gguf --model w --quant q4_0 --output x.gguf --imatrix",
    ] {
        let input = if verb.ends_with("--imatrix") { "" } else { "--input " };
        let refused = bench.run(&format!("{verb} {input}other.csv"));
        assert_eq!(refused.code, Some(2), "{verb}: {}", refused.stderr);
        let problem = refused.problem();
        assert!(problem.contains("call the columns `prompt` and `completion`"), "{verb}: {problem}");
        assert!(!problem.contains("data.columns"), "{verb}: {problem}");
    }
}
