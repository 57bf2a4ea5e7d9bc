//! Each verb, by what scripts read of it.

use crate::bench::{Bench, copy, golden, lines, tensors};
use serde_json::{Value, json};

/// The objects of jsonl.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn a_shown_recipe_is_the_same_recipe() {
    let bench = Bench::new();
    let shown = bench.run("recipe show r.yaml --set training.seed=9").ok();
    bench.write("shown.yaml", &shown);
    assert_eq!(bench.run("recipe show shown.yaml").ok(), shown);
    let json = bench.run("recipe show shown.yaml --json").json();
    assert_eq!(json["training"]["seed"], 9);
    assert_eq!(json["adapter"]["lora_dropout"], 0.1);
    assert_eq!(json["training"]["adam_beta2"], 0.999, "defaults are spelt out");
    bench.run("recipe check shown.yaml").ok();
}

#[test]
fn the_schema_describes_every_key() {
    let bench = Bench::new();
    let schema = bench.run("recipe schema").json();
    let shown = bench.run("recipe show r.yaml --json").json();
    let text = schema.to_string();
    for (section, value) in shown.as_object().expect("sections") {
        assert!(schema["properties"][section].is_object(), "{section}");
        for key in keys(value) {
            assert!(text.contains(&format!("\"{key}\":")), "{section}.{key}");
        }
    }
}

#[test]
fn preview_and_stats_show_what_is_learnt() {
    let bench = Bench::new().with_text();
    let preview = objects(&bench.run("data preview r.yaml --rows 2 --json").ok());
    assert_eq!(preview.len(), 2);
    for key in ["row", "input_ids", "labels", "segments", "images", "audio"] {
        assert!(keys(&preview[0]).contains(&key), "{key}");
    }
    let first = &objects(&bench.text("rows.jsonl"))[0];
    assert_eq!((&preview[0]["input_ids"], &preview[0]["labels"]), (&first["input_ids"], &first["labels"]));
    assert_eq!(preview[0]["segments"], json!([[0, 5]]));

    let rows = objects(&bench.text("rows.jsonl"));
    let stats =
        bench.run("data stats r.yaml --set data.eval_fraction=0 --set evaluation.eval_steps=null --json").json();
    let count = |key: &str, keep: fn(&Value) -> bool| -> usize {
        rows.iter().map(|row| row[key].as_array().expect("a list").iter().filter(|x| keep(x)).count()).sum()
    };
    assert_eq!(stats["rows"], 40);
    assert_eq!(stats["tokens"], count("input_ids", |_| true));
    assert_eq!(stats["supervised_tokens"], count("labels", |label| *label != -100));
    assert_eq!((&stats["lengths"]["min"], &stats["lengths"]["max"]), (&json!(5), &json!(20)));

    // Text: the answer and its end are learnt, nothing else.
    let recipe =
        bench.text("r.yaml").replace("base: m", "base: t").replace("rows.jsonl, format: tokens", "chats.jsonl");
    bench.write("chat.yaml", recipe.replace("eval_fraction: 0.1", "eval_fraction: 0.5"));
    let chat = objects(&bench.run("data preview chat.yaml --json").ok());
    let labels = numbers(&chat[0]["labels"]);
    let learnt: Vec<usize> = (0..labels.len()).filter(|&t| labels[t] >= 0.0).collect();
    assert!(learnt[0] > 5 && learnt.len() >= 2, "{learnt:?}");
    assert_eq!(learnt, (learnt[0]..learnt[0] + learnt.len()).collect::<Vec<_>>(), "one span");
}

#[test]
fn train_on_all_learns_prompts_too() {
    let bench = Bench::new().with_text();
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let talk = [said("user", "Two and two?"), said("assistant", "Four."), said("user", "And three?")];
    bench.write(
        "pairs.jsonl",
        lines(&[
            json!({"prompt": "Two and two? ", "completion": "Four."}),
            json!({"prompt": [talk[0]], "completion": [talk[1]]}),
            json!({"prompt": talk, "completion": [said("assistant", "Five.")]}),
        ]),
    );
    let masked = |train_on: &str| -> Vec<usize> {
        let sets = "--set model.base=t --set data.train=pairs.jsonl --set data.format=prompt_completion --set data.eval_fraction=0 \
                    --set evaluation.eval_steps=null";
        let command = format!("data preview r.yaml --json {sets} --set data.train_on={train_on}");
        let rows = objects(&bench.run(&command).ok());
        rows.iter().map(|row| numbers(&row["labels"]).iter().filter(|label| **label < 0.0).count()).collect()
    };
    assert!(masked("assistant").iter().all(|masked| *masked > 3), "{:?}", masked("assistant"));
    assert_eq!(masked("all"), [1, 1, 1], "all but `<bos>`, which nothing predicts");
}

#[test]
fn scores_are_log_probabilities_of_the_logits() {
    let bench = Bench::new();
    bench.write("few.jsonl", lines(&crate::bench::rows(2)));
    bench.run("score --model m --input few.jsonl --output scores.jsonl --logits logits.safetensors").ok();
    let scores = objects(&bench.text("scores.jsonl"));
    let logits = tensors(&bench.read("logits.safetensors"));
    assert_eq!(keys(&scores[0]).len(), 4);
    for (row, (score, (name, shape, logits))) in scores.iter().zip(&logits).enumerate() {
        let ids = numbers(&score["input_ids"]);
        assert_eq!((name.as_str(), shape.as_slice()), (format!("logits.{row}").as_str(), [ids.len(), 320].as_slice()));
        let logprobs = numbers(&score["logprobs"]);
        assert_eq!(logprobs.len(), ids.len() - 1);
        let mut sum = 0.0;
        for (t, logprob) in logprobs.iter().enumerate() {
            let logits = &logits[t * 320..(t + 1) * 320];
            let most = logits.iter().fold(f64::MIN, |m, x| m.max(f64::from(*x)));
            let normaliser = most + logits.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln();
            let expected = f64::from(logits[ids[t + 1] as usize]) - normaliser;
            assert!((logprob - expected).abs() < 1e-4, "row {row}, token {t}: {logprob} instead of {expected}");
            sum -= logprob;
        }
        assert!((score["nll"].as_f64().unwrap() - sum / logprobs.len() as f64).abs() < 1e-9);
    }
}

#[test]
fn a_merged_model_scores_like_base_and_adapter() {
    let bench = Bench::new().trained();
    let merged = bench.run("merge --model m --adapter out/adapter --output merged --dtype f32 --json").json();
    assert_eq!((&merged["modules"], &merged["tensors"]), (&json!(49), &json!(93)));
    let score = |model: &str| -> Vec<f64> {
        objects(&bench.run(&format!("score {model} --input rows.jsonl")).ok())
            .iter()
            .map(|row| row["nll"].as_f64().unwrap())
            .collect()
    };
    let (base, tuned, merged) = (score("--model m"), score("--model m --adapter out/adapter"), score("--model merged"));
    let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(gap(&tuned, &merged) < 1e-4, "{}", gap(&tuned, &merged));
    assert!(gap(&tuned, &base) > 0.05, "the adapter does nothing: {}", gap(&tuned, &base));

    let evaluation = bench.run("evaluate r.yaml --adapter out/adapter --json").json();
    let summary: Value = serde_json::from_slice(&bench.read("out/summary.json")).expect("JSON");
    assert_eq!(evaluation["loss"], summary["last_eval"]["eval_loss"]);
    assert!(evaluation["loss"].as_f64() < evaluation["base_loss"].as_f64());
    assert_eq!(evaluation["base_perplexity"].as_f64().unwrap(), evaluation["base_loss"].as_f64().unwrap().exp());
}

#[test]
fn greedy_generation_takes_the_most_likely_token() {
    let bench = Bench::new().with_text();
    let prompts = [
        json!({"prompt": "What is two and two?", "id": 7}),
        json!({"messages": [{"role": "user", "content": "And a cat?"}]}),
    ];
    bench.write("prompts.jsonl", lines(&prompts));
    bench.run("generate --model t --input prompts.jsonl --output answers.jsonl --max-tokens 6").ok();
    let answers = objects(&bench.text("answers.jsonl"));
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["id"], 7, "a row keeps its keys");
    for answer in &answers {
        let tokens = answer["tokens"].as_u64().expect("a count");
        assert!(tokens <= 6);
        let reason = answer["finish_reason"].as_str().expect("a reason");
        assert!(reason == "stop" || (reason == "length" && tokens == 6), "{reason} after {tokens}");
    }
    // One prompt at a time says the same as two at once.
    let alone = bench.run("generate --model t --input prompts.jsonl --batch-size 1 --max-tokens 6").ok();
    assert_eq!(objects(&alone), answers);
}

/// A tokenizer may have words that the model has not, when the two are of different models.
#[test]
fn raw_prompts_of_unknown_words_are_refused() {
    let bench = Bench::new();
    copy(&golden("tokenizer"), &bench.path("m"));
    let said = bench.run("generate --model m --raw --prompt <end_of_turn>zebra~quartz --max-tokens 2");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("is not in the model's vocabulary of 320"), "{}", said.stderr);
}

#[test]
fn inspect_counts_the_parameters() {
    let bench = Bench::new();
    let model = bench.run("inspect m --json").json();
    let stored: usize = tensors(&bench.read("m/model.safetensors")).iter().map(|t| t.2.len()).sum();
    assert_eq!(model["parameters"], stored);
    assert_eq!((&model["num_hidden_layers"], &model["vocab_size"]), (&json!(7), &json!(320)));
    assert_eq!(model["tensors"].as_array().expect("a list").len(), 93);
    assert!(bench.run("inspect m").ok().contains("parameters     162,128"));
}

#[test]
fn rows_on_standard_input_in_another_form_are_named() {
    let bench = Bench::new().with_text();
    for (text, hint) in [
        ("[{\"prompt\": \"Hi\"}]\n", "`jq -c '.[]'` makes lines of a list"),
        ("[\n{\"prompt\": \"Hi\"}\n]\n", "`jq -c '.[]'` makes lines of a list"),
        ("{\"prompt\":\n\"Hi\"}\n", "each row is an object on a line of its own"),
        ("What is two and two?\n", "each line is a JSON object, such as `{\"prompt\": \"Hi\"}`"),
    ] {
        bench.write("in", text);
        for verb in ["generate", "score"] {
            let mut command = bench.command(&format!("{verb} --model t --input -"));
            let said = bench.said(command.stdin(std::fs::File::open(bench.path("in")).unwrap()));
            assert_eq!(said.code, Some(2), "{text}: {}", said.stderr);
            assert!(said.problem().contains(hint), "{text}: {}", said.stderr);
        }
    }
}

/// A model whose tokenizer has lost a token, and perhaps its config.
fn without(bench: &Bench, token: &str, with_config: bool) {
    crate::bench::copy(&bench.path("t"), &bench.path("d"));
    let mut file: Value = serde_json::from_str(&bench.text("d/tokenizer.json")).expect("JSON");
    let added = file["added_tokens"].as_array_mut().expect("tokens");
    added.retain(|entry| entry["content"] != token);
    let words = file["model"]["vocab"].as_object_mut().expect("words");
    let id = words.remove(token).expect("the token is there");
    words.insert("<lost>".into(), id);
    bench.write("d/tokenizer.json", file.to_string());
    if !with_config {
        std::fs::remove_file(bench.path("d/tokenizer_config.json")).unwrap();
    }
}

#[test]
fn inspect_agrees_with_chat_and_training_on_what_a_tokenizer_lacks() {
    let bench = Bench::new().with_text();
    bench.write("text.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"cd\"}\n");
    let inspected = |model: &str| bench.run(&format!("inspect {model} --json"));
    assert!(inspected("t").json()["chat_problem"].is_null());
    assert_eq!(inspected("m").json()["chat_problem"], "this model has no tokenizer");
    for (token, with_config, chat, text) in [
        ("<end_of_turn>", false, true, false),
        ("<start_of_turn>", true, true, false),
        ("<bos>", false, true, true),
        ("<eos>", false, false, true),
    ] {
        without(&bench, token, with_config);
        let asked = bench.run("generate --model d --prompt Hi --max-tokens 1");
        let problem = inspected("d").json()["chat_problem"].clone();
        assert_eq!((asked.code == Some(2), problem.is_string()), (chat, chat), "{token}: {}", asked.stderr);
        assert!(!chat || asked.problem().contains(problem.as_str().unwrap()), "{token}: {}", asked.stderr);
        assert_eq!(bench.run("inspect d").ok().contains("chat           impossible: "), chat, "{token}");
        for (rows, refused) in [("chats.jsonl", chat), ("text.jsonl", text)] {
            let said = bench.run(&format!("train --model d --data {rows} --dry-run"));
            assert_eq!(said.code, Some(if refused { 2 } else { 0 }), "{token}, {rows}: {}", said.stderr);
            assert!(!refused || said.problem().contains(&format!("`{token}`")), "{token}, {rows}: {}", said.stderr);
        }
    }
}

#[test]
fn an_adapter_that_is_wrong_is_known_before_the_model_is_loaded() {
    let bench = Bench::new().with_text();
    bench.write("empty/notes.txt", "");
    for verb in ["chat", "generate --prompt Hi", "score --input rows.jsonl"] {
        for adapter in ["nowhere", "empty"] {
            let said = bench.run(&format!("{verb} --model t --adapter {adapter}"));
            assert_eq!(said.code, Some(2), "{verb}: {}", said.stderr);
            assert_eq!(said.problem(), said.stderr.trim_end(), "{verb} says nothing of loading");
        }
    }
}

#[test]
fn an_adapter_of_another_base_is_one_problem_with_both_names() {
    let bench = Bench::new().with_text();
    crate::bench::copy(&crate::bench::golden("export/text"), &bench.path("small"));
    bench.run("train r.yaml --set model.base=t").ok();
    bench.write("in.jsonl", "{\"input_ids\": [1, 2, 3]}\n");
    for (args, place) in [
        ("merge --model small --adapter out/adapter --output merged", "out/adapter"),
        ("score --model small --adapter out --input in.jsonl", "out/adapter"),
        ("evaluate r.yaml --set model.base=small --adapter out", "out/adapter"),
        ("train r.yaml --set model.base=small --set adapter.init_from=out/adapter --set output.dir=new", "out/adapter"),
        ("estimate r.yaml --set model.base=small --set adapter.init_from=out/adapter", "out/adapter"),
        (
            "recipe check r.yaml --set model.base=small --set adapter.init_from=out/adapter",
            "--set adapter.init_from=out/adapter",
        ),
    ] {
        let args = match args.contains("init_from") {
            true => {
                bench.write(
                    "c.yaml",
                    bench
                        .text("r.yaml")
                        .replace("adapter: {r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}\n", ""),
                );
                args.replace("r.yaml", "c.yaml")
            }
            false => args.to_owned(),
        };
        let said = bench.run(&args);
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        let problem = said.problem();
        assert!(
            problem.starts_with("error: the adapter was made for another base than `small`: its `model.layers.0."),
            "{args}: {problem}"
        );
        assert!(problem.contains(&format!("\n  --> {place}\n")), "{args}: {problem}");
        assert!(
            problem
                .ends_with("hint: it was made for `t`: name that as the base, or an adapter that was made for `small`"),
            "{args}: {problem}"
        );
        assert!(!said.stderr.contains("Warning: this adapter was trained on other weights"), "{args}: {}", said.stderr);
    }
}

#[test]
fn a_model_is_called_pre_trained_or_instruction_tuned() {
    let bench = Bench::new();
    crate::bench::copy(&bench.path("m"), &bench.path("gemma-3-tiny-it"));
    let variant = |model: &str| bench.run(&format!("inspect {model} --json")).json()["variant"].clone();
    assert_eq!((variant("m"), variant("gemma-3-tiny-it")), (json!("unknown"), json!("instruct")));
    let text = bench.run("inspect gemma-3-tiny-it").ok();
    assert!(text.contains("\nvariant        instruction-tuned: its name says so\n"), "{text}");
    let told = bench.run("train r.yaml --dry-run --set model.base=gemma-3-tiny-it").stderr;
    assert!(told.contains("320 words; instruction-tuned: its name says so"), "{told}");
    let told = bench.run("train r.yaml --dry-run").stderr;
    assert!(told.contains("pre-trained or instruction-tuned: neither its name nor its files tell"), "{told}");
}

#[test]
fn conversations_with_a_model_that_was_never_taught_any_are_warned_of() {
    let bench = Bench::new().with_text();
    crate::bench::copy(&bench.path("t"), &bench.path("gemma-3-tiny-pt"));
    crate::bench::copy(&bench.path("t"), &bench.path("plain"));
    bench.set("plain/tokenizer_config.json", "chat_template", Value::Null);
    bench.run("train r.yaml --set model.base=gemma-3-tiny-pt --set training.max_steps=1").ok();
    let said = |args: &str| {
        let said = bench.run(args);
        assert_eq!(said.code, Some(0), "{args}: {}", said.stderr);
        said.stderr
    };
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n{\"prompt\": \"Hi\"}\n");
    for (model, words) in [
        ("gemma-3-tiny-pt", "warning: `gemma-3-tiny-pt` is pre-trained (its name says so): "),
        ("plain", "warning: `plain` has no chat template, "),
    ] {
        let generate = format!("generate --model {model} --input prompts.jsonl --max-tokens 1");
        for args in [&generate, &format!("chat --model {model}")] {
            assert_eq!(said(args).matches(words).count(), 1, "{args}");
        }
        assert!(!said(&format!("{generate} --raw")).contains("warning: "), "{model}: plain text is what it knows");
    }
    let chat = "generate --prompt Hi --max-tokens 1";
    assert!(!said(&format!("{chat} --model t")).contains("warning: "), "it has a template");
    assert!(!said(&format!("{chat} --model gemma-3-tiny-pt --adapter out")).contains("warning: "), "it was taught");
}

/// The folder of `owner/tiny` in the cache of the Hub.
const SNAPSHOT: &str = "hf/hub/models--owner--tiny/snapshots/0123456789abcdef0123456789abcdef01234567";

/// Puts the model `t` into the cache of the Hub as `owner/tiny`.
fn cached(bench: &Bench) {
    crate::bench::copy(&bench.path("t"), &bench.path(SNAPSHOT));
    bench.write("hf/hub/models--owner--tiny/refs/main", "0123456789abcdef0123456789abcdef01234567");
}

#[test]
fn looking_at_data_needs_no_weights() {
    let bench = Bench::new().with_text();
    cached(&bench);
    std::fs::remove_file(bench.path(&format!("{SNAPSHOT}/model.safetensors"))).expect("weights");
    let sets = "--set data.train=chats.jsonl --set data.format=messages --set data.eval_fraction=0 --set evaluation.eval_steps=null";
    let with = |verb: &str, model: &str| bench.run(&format!("{verb} r.yaml {sets} --json --set model.base={model}"));
    for verb in ["data preview", "data stats"] {
        let hub = with(verb, "owner/tiny").ok();
        assert!(!hub.is_empty());
        assert_eq!(hub, with(verb, "t").ok(), "{verb}");
    }
    let train = with("train --dry-run", "owner/tiny");
    assert_eq!(train.code, Some(1), "{}", train.stderr);
}

#[test]
fn what_the_small_files_make_impossible_is_said_before_the_weights() {
    let bench = Bench::new().with_text();
    crate::bench::copy(&crate::bench::golden("model/dora/adapter"), &bench.path("a"));
    bench.set("a/adapter_config.json", "r", json!(5));
    cached(&bench);
    let weights = format!("{SNAPSHOT}/model.safetensors");
    bench.write(&weights, "these would be gigabytes");
    let whole = bench.text(&format!("{SNAPSHOT}/config.json"));
    let problem = |command: &str| bench.run(command).problem().lines().next().unwrap_or_default().to_owned();
    let targets = "train r.yaml --set model.base=owner/tiny --set adapter.target_modules=[7.mlp.up_proj]";
    assert_eq!(problem(targets), "error: `target_modules` entry `7.mlp.up_proj` matches no module");
    for verb in ["generate --prompt x", "merge --output o"] {
        let said = problem(&format!("{verb} --model owner/tiny --adapter a"));
        assert!(said.contains("expected [5, "), "{verb}: {said}");
    }
    bench.set(&format!("{SNAPSHOT}/config.json"), "hidden_size", json!(0));
    assert!(
        problem("inspect owner/tiny").starts_with("error: `hidden_size`: it is 0"),
        "{}",
        problem("inspect owner/tiny")
    );
    bench.write(&format!("{SNAPSHOT}/config.json"), whole);
    assert!(problem("inspect owner/tiny").contains("header"), "{}", problem("inspect owner/tiny"));
}

#[test]
fn a_dry_run_shows_the_plan_and_the_first_rows_and_writes_nothing() {
    let bench = Bench::new();
    let said = bench.run("train r.yaml --dry-run").ok();
    let preview = bench.run("data preview r.yaml --rows 2").ok();
    assert!(said.contains("Plan: 12 steps") && said.contains("Memory: about"), "{said}");
    assert!(preview.starts_with("--- rows.jsonl, row 1 · 5 tokens · tokens\n") && said.ends_with(&preview), "{said}");
    assert!(!bench.path("out").exists());

    let json = bench.run("train r.yaml --dry-run --json").json();
    assert_eq!((&json["plan"]["total_steps"], &json["plan"]["rows"]), (&json!(12), &json!(36)));
    let rows = objects(&bench.run("data preview r.yaml --rows 2 --json").ok());
    assert_eq!(json["preview"].as_array().expect("a list"), &rows);

    // Over a finished run too.
    bench.run("train r.yaml").ok();
    let files = bench.files("out");
    bench.run("train r.yaml --dry-run").ok();
    assert_eq!(bench.files("out"), files);
}

#[test]
fn a_wrong_command_line_exits_2() {
    let bench = Bench::new();
    for args in ["", "trian r.yaml", "train", "generate --model m", "score --model m", "train r.yaml --set seed"] {
        let said = bench.run(args);
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        assert_eq!(said.stdout, "", "{args}");
    }
    for args in ["--help", "--version", "train --help"] {
        assert!(!bench.run(args).ok().is_empty(), "{args}");
    }
}

#[test]
fn completions_know_the_verbs() {
    let bench = Bench::new();
    let script = bench.run("completions bash").ok();
    for verb in ["train", "recipe", "data", "generate", "chat", "score", "evaluate", "merge", "inspect", "doctor"] {
        assert!(script.contains(&format!("gemma__tune__{verb}")) || script.contains(verb), "{verb}");
    }
    assert!(script.contains("complete -F _gemma__tune"));
}

/// A number after which a line of text goes on with `unit`.
fn number_before(line: &str, unit: &str) -> f64 {
    let (number, _) = line.split_once(unit).unwrap_or_else(|| panic!("`{unit}` is not in `{line}`"));
    number.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("`{line}`"))
}

#[test]
fn doctor_says_what_the_machine_is_and_that_its_gradients_are_right() {
    let bench = Bench::new();
    let found = bench.run("doctor --device cpu --json").json();
    let told = [
        "versions",
        "device",
        "devices",
        "threads",
        "instruction_set",
        "bf16_products",
        "available_bytes",
        "gemm_gflops",
        "peaks",
        "compiled_in",
        "gradient_error",
    ];
    assert_eq!(keys(&found), told);
    assert_eq!(found["versions"], json!({"burn": "0.22.1", "gemma-tune": env!("CARGO_PKG_VERSION")}));
    assert_eq!(found["device"], "cpu");
    assert_eq!(found["devices"], json!([]), "nothing is beside the CPU where the CPU is asked for");
    let threads = std::thread::available_parallelism().expect("threads").get();
    assert_eq!(found["threads"], threads);
    assert_eq!(found["instruction_set"], gemma_tune::ops::instruction_set());
    let mut compiled_in = vec!["cpu"];
    compiled_in.extend(cfg!(feature = "hub").then_some("hub"));
    compiled_in.extend(cfg!(feature = "serve").then_some("serve"));
    compiled_in.extend(cfg!(feature = "studio").then_some("studio"));
    let backends = found["compiled_in"].as_array().expect("a list");
    assert!(compiled_in.iter().all(|name| backends.contains(&json!(name))), "{backends:?}");
    // No machine is outside of this, whatever else it does at the time.
    let speed = found["gemm_gflops"].as_f64().expect("a number");
    assert!((0.1..100_000.0).contains(&speed), "{speed} GFLOP/s");
    let peaks = found["peaks"].as_object().expect("rates");
    assert_eq!(peaks.keys().collect::<Vec<_>>(), ["f32_gflops", "bf16_gflops", "int8_gops", "read_gbytes"]);
    assert!(peaks.values().all(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0)), "{peaks:?}");
    // f32 rounding leaves some error; a wrong term of any gradient leaves far more.
    let error = found["gradient_error"].as_f64().expect("a number");
    assert!(error > 0.0 && error < 1e-3, "{error}");
    if let Ok(memory) = std::fs::read_to_string("/proc/meminfo") {
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("a total");
        let total = number_before(total, " kB") * 1024.0;
        let available = found["available_bytes"].as_f64().expect("a number");
        assert!(available > 1e7 && available <= total, "{available} of {total}");
    }

    let text = bench.run("doctor --device cpu").ok();
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name:<14} ")));
        line.unwrap_or_else(|| panic!("no `{name}` in {text}"))
    };
    assert_eq!(line("version"), format!("burn 0.22.1, gemma-tune {}", env!("CARGO_PKG_VERSION")));
    assert_eq!((line("device"), line("threads")), ("cpu", threads.to_string().as_str()));
    assert_eq!(line("instructions"), gemma_tune::ops::instruction_set());
    assert_eq!(line("bf16 products"), gemma_tune::ops::cpu_bf16_products());
    assert!(number_before(line("speed"), " GFLOP/s in f32 products on the CPU") < 100_000.0);
    assert!(number_before(line("self-check"), ": good") < 1e-3, "{text}");
}

#[test]
fn doctor_refuses_a_device_that_is_not_there() {
    let said = Bench::new().run("doctor --device tpu");
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
    assert!(said.problem().contains("`tpu` is not a device"), "{}", said.stderr);
}

#[test]
fn wherever_a_model_is_named_the_help_says_by_what_names() {
    fn look(command: &clap::Command, verbs: &str, seen: &mut usize) {
        let verbs = format!("{verbs} {}", command.get_name());
        for argument in command.get_arguments().filter(|argument| argument.get_id() == "model") {
            let help = argument.get_help().expect("a help").to_string();
            // Towers and slices are read from folders alone.
            assert!(
                help.contains("llama:") || help.contains("of Ollama") || help.ends_with("or a folder"),
                "{verbs}: {help}"
            );
            *seen += 1;
        }
        command.get_subcommands().for_each(|inner| look(inner, &verbs, seen));
    }
    let mut seen = 0;
    look(&gemma_tune::cli::command(), "", &mut seen);
    assert!(seen > 10, "{seen}");
}
