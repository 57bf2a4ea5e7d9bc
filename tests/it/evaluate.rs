//! `evaluate`: models and adapters side by side on the same rows and questions.

use crate::bench::{Bench, golden, lines};
use serde_json::{Value, json};

/// A model `t` with words and an adapter in `out/adapter`.
fn tuned() -> Bench {
    let bench = Bench::new().with_text();
    let sets = "--set model.base=t --set data.train=chats.jsonl --set data.format=messages --set data.eval=chats.jsonl \
                --set data.eval_fraction=0 --set data.max_length=512 --set training.max_steps=20";
    bench.run(&format!("train r.yaml {sets}")).ok();
    bench
}

fn metric<'r>(report: &'r Value, name: &str) -> &'r Value {
    let metrics = report["metrics"].as_array().expect("metrics");
    metrics.iter().find(|metric| metric["metric"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn rows(bench: &Bench, file: &str) -> Vec<Value> {
    bench.text(file).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn losses_have_intervals_and_the_adapter_a_paired_test() {
    let bench = Bench::new().trained();
    let report = bench.run("evaluate r.yaml --adapter out --output rows.out --json").json();
    let loss = metric(&report, "loss");
    // Sums of rows differ from sums of batches in their last bits.
    let near = |value: &Value, other: f64| (value.as_f64().expect("a number") / other - 1.0).abs() < 1e-9;
    assert!(near(&loss["values"][0]["value"], report["base_loss"].as_f64().expect("a loss")), "{report}");
    assert_eq!(loss["rows"], 4);
    assert!(near(&loss["values"][1]["value"], report["loss"].as_f64().expect("a loss")));
    for value in loss["values"].as_array().expect("values") {
        assert!(value["low"].as_f64() <= value["value"].as_f64() && value["value"].as_f64() <= value["high"].as_f64());
    }
    let by = loss["differences"][1]["value"].as_f64().expect("a difference");
    assert!(by < 0.0 && loss["differences"][0].is_null() && loss["differences"][1]["p"].as_f64() <= Some(1.0));
    assert!(near(&metric(&report, "perplexity")["values"][0]["value"], report["base_perplexity"].as_f64().unwrap()));
    // Sums of the rows are the whole.
    let all = rows(&bench, "rows.out");
    let tokens: f64 = all.iter().filter_map(|row| row["tokens"].as_f64()).sum();
    let sum: f64 = all.iter().map(|row| row["tokens"].as_f64().unwrap() * row["losses"][0].as_f64().unwrap()).sum();
    assert!(near(&report["base_loss"], sum / tokens) && Some(tokens as u64) == report["tokens"].as_u64());
    assert_eq!(all.len(), 4);
    assert!(all[0]["place"].as_str().expect("a place").starts_with("rows.jsonl, row "));
    // The worst first, and as many as are asked for.
    let worst = report["worst"].as_array().expect("rows");
    let last = |row: &Value| row["losses"][1].as_f64();
    assert!(worst.windows(2).all(|pair| last(&pair[0]) >= last(&pair[1])));
    let said = bench.run("evaluate r.yaml --adapter out --worst 1").ok();
    assert!(said.starts_with("loss (nats per supervised token; 4 rows, ") && said.contains("\n  base "), "{said}");
    assert!(said.contains("out/adapter ") && said.contains("rows with the highest loss\n  rows.jsonl, row "), "{said}");
    assert_eq!(said.matches("rows.jsonl, row ").count(), 1);
}

#[test]
fn any_two_are_compared() {
    let bench = tuned();
    bench.run("merge --model t --adapter out --output merged --dtype f32").ok();
    let report = bench.run("evaluate --model t --model merged --adapter out --input chats.jsonl --json").json();
    let contestants: Vec<_> =
        report["contestants"].as_array().expect("contestants").iter().map(Value::to_string).collect();
    assert_eq!(
        contestants,
        [
            r#"{"model":"t","adapter":null}"#,
            r#"{"model":"t","adapter":"out/adapter"}"#,
            r#"{"model":"merged","adapter":null}"#
        ]
    );
    let losses = &metric(&report, "loss")["values"];
    let value = |at: usize| losses[at]["value"].as_f64().expect("a loss");
    assert!((value(1) - value(2)).abs() < 1e-4 && value(0) > value(1) + 0.1, "{losses}");
    // The rows of a recipe, on another model than its own.
    let of = "evaluate r.yaml --set data.eval=chats.jsonl --set data.eval_fraction=0 --set data.format=messages \
              --set data.train=chats.jsonl --model t --model merged --json";
    assert_eq!(metric(&bench.run(of).json(), "loss")["rows"], 2);
    // Models whose rows are not the same.
    let none = bench.run("evaluate --model t --model m --input chats.jsonl");
    assert_eq!(none.code, Some(2), "{}", none.stderr);
}

#[test]
fn what_is_wrong_with_the_second_model_is_known_before_the_first_is_measured() {
    let bench = tuned();
    crate::bench::copy(&bench.path("t"), &bench.path("mute"));
    std::fs::remove_file(bench.path("mute/tokenizer.json")).expect("a tokenizer");
    bench.write("broken.gguf", "GGUF");
    let question = json!({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"});
    bench.write("arc.jsonl", lines(&[question]));
    for (args, said) in [
        ("--model nowhere/model.gguf --input chats.jsonl", "nowhere/model.gguf"),
        ("--model broken.gguf --input chats.jsonl", "broken.gguf"),
        ("--model out/adapter --input chats.jsonl", "out/adapter"),
        ("--model mute --choices arc.jsonl", "this model has no tokenizer"),
    ] {
        let refused = bench.run(&format!("evaluate --model t {args}"));
        assert_eq!(refused.code, Some(2), "{args}: {}", refused.stderr);
        assert!(refused.problem().contains(said), "{args}: {}", refused.stderr);
        assert!(!refused.stderr.contains("Losses of") && !refused.stderr.contains("Asking"), "{}", refused.stderr);
    }
}

#[test]
fn models_that_cut_texts_otherwise_are_compared_by_bytes() {
    let bench = tuned();
    crate::bench::copy(&bench.path("t"), &bench.path("other"));
    // The same model, whose tokenizer joins nothing: the same text in more tokens.
    bench.edit("other/tokenizer.json", |bytes| {
        let mut json: Value = serde_json::from_slice(bytes).expect("a tokenizer");
        json["model"]["merges"] = json!([]);
        *bytes = json.to_string().into_bytes();
    });
    let all = "evaluate --model t --model other --adapter out --input chats.jsonl";
    let said = bench.run(&format!("{all} --json --output rows.out"));
    assert!(said.stderr.contains("Warning: `other` cut the rows into other tokens than `t`"), "{}", said.stderr);
    let report = said.json();
    // The other is that the rows were trained on.
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(2));
    let tokens = |at: usize| report["supervised_tokens"][at].as_u64().expect("tokens");
    assert!(tokens(0) == tokens(1) && tokens(0) < tokens(2), "{report}");
    for name in ["loss", "perplexity"] {
        let differences = &metric(&report, name)["differences"];
        assert!(differences[1].is_object() && differences[2].is_null(), "{differences}");
    }
    let by_bytes = metric(&report, "bits_per_byte");
    assert!(by_bytes["rows"] == 2 && by_bytes["differences"][2]["p"].is_number(), "{by_bytes}");
    // All of the loss by all of the text.
    let loss = |at: usize| metric(&report, "loss")["values"][at]["value"].as_f64().expect("a loss") * tokens(at) as f64;
    let bits = |at: usize| by_bytes["values"][at]["value"].as_f64().expect("bits");
    assert!((loss(0) / bits(0) / (loss(2) / bits(2)) - 1.0).abs() < 1e-6, "one text for both");
    assert!(rows(&bench, "rows.out")[0]["tokens"].is_array());
    let shown = bench.run(all).ok();
    assert!(shown.contains("not compared: of other tokens") && shown.contains("bits_per_byte ("), "{shown}");
    assert!(shown.contains(&format!("{} / {} supervised tokens", tokens(0), tokens(2))), "{shown}");
    // Adapters on one model are compared by tokens, as ever.
    let report = bench.run("evaluate --model t --adapter out --input chats.jsonl --json").json();
    assert!(!report["warnings"].to_string().contains("other tokens"), "{report}");
    assert_eq!(report["metrics"].as_array().map(Vec::len), Some(2));
}

#[test]
fn answers_are_measured_by_every_metric() {
    let bench = tuned();
    let all = "evaluate --model t --adapter out --input chats.jsonl --max-tokens 8";
    let report = bench.run(&format!("{all} --generate --output rows.out --json")).json();
    for (name, highest) in [("exact_match", 1.0), ("rouge_l", 1.0), ("bleu", 100.0), ("chrf", 100.0)] {
        let metric = metric(&report, name);
        assert_eq!((&metric["rows"], &metric["more_is_better"]), (&json!(2), &json!(true)));
        let value = metric["values"][1]["value"].as_f64().expect("a number");
        assert!((0.0..=highest).contains(&value), "{metric}");
    }
    assert_eq!(metric(&report, "wer")["more_is_better"], false);
    assert_eq!(metric(&report, "tool_name")["rows"], 0, "nothing is to be called");
    let latency = &report["latency"][0];
    assert!(latency["first_token_secs"].as_f64() > Some(0.0) && latency["tokens_per_second"].as_f64() > Some(0.0));
    let answered = rows(&bench, "rows.out");
    assert_eq!(answered[0]["reference"], "Four.");
    assert_eq!(answered[0]["answers"].as_array().map(Vec::len), Some(2));
    // It learnt the two answers by heart.
    assert_eq!(metric(&report, "exact_match")["values"][1]["value"], 1.0, "{answered:?}");
    let one = bench.run(&format!("{all} --metrics rouge_l,cer --limit 1 --json")).json();
    assert_eq!((&metric(&one, "cer")["rows"], one["metrics"].as_array().map(Vec::len)), (&json!(1), Some(4)));
    let said = bench.run(&format!("{all} --metrics exact_match")).ok();
    assert!(said.contains("latency\n  base") && said.contains("first token after"), "{said}");
    // Texts have no prompts.
    bench.write("texts.jsonl", lines(&[json!({"text": "Two and two is four."})]));
    let none = bench.run("evaluate --model t --input texts.jsonl --generate");
    assert!(none.code == Some(2) && none.problem().contains("no row has a prompt to answer"), "{}", none.stderr);
}

#[test]
fn calls_of_functions_are_measured_apart() {
    let bench = Bench::new().with_text();
    let call =
        json!({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2, "b": 2}}}]});
    bench.write("calls.jsonl", lines(&[json!({"messages": [{"role": "user", "content": "Two and two?"}, call]})]));
    let all =
        "evaluate --model t --input calls.jsonl --max-tokens 4 --metrics json_valid,tool_name,tool_arguments --json";
    let report = bench.run(all).json();
    for name in ["json_valid", "tool_name", "tool_arguments"] {
        let found = metric(&report, name);
        assert_eq!((&found["rows"], &found["values"][0]["value"]), (&json!(1), &json!(0.0)), "{report}");
    }
}

#[test]
fn choices_are_scored_by_their_log_likelihood() {
    let bench = tuned();
    let question = |text: &str, choices: [&str; 2], key: &str| json!({"id": "q", "question": text, "choices": {"text": choices, "label": ["A", "B"]}, "answerKey": key});
    let asked =
        [question("Two and two?", ["Four", "A cat and a dog"], "A"), question("A cat?", ["x", "An animal"], "B")];
    bench.write("arc.jsonl", lines(&asked));
    let report = bench.run("evaluate --model t --adapter out --choices arc.jsonl --output rows.out --json").json();
    for name in ["arc acc", "arc acc_norm"] {
        assert_eq!(metric(&report, name)["rows"], 2);
    }
    assert!(report.get("loss").is_none(), "there are no rows");
    // The same by hand, from the log-probabilities of all tokens.
    let found = rows(&bench, "rows.out");
    for (at, choice) in ["Four", "A cat and a dog"].into_iter().enumerate() {
        let text = format!("Question: Two and two?\nAnswer: {choice}");
        bench.write("one.jsonl", lines(&[json!({"text": text}), json!({"text": "Question: Two and two?\nAnswer:"})]));
        let scored: Vec<Value> = bench
            .run("score --model t --input one.jsonl")
            .ok()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let [whole, context] = [0, 1].map(|row: usize| scored[row]["logprobs"].as_array().expect("numbers").clone());
        // Without `<eos>`, which ends a text and no choice.
        let of_choice = &whole[context.len() - 1..whole.len() - 1];
        let sum: f64 = of_choice.iter().filter_map(Value::as_f64).sum();
        let theirs = found[0]["loglikelihoods"][0][at].as_f64().expect("a number");
        assert!((sum - theirs).abs() < 1e-4, "{choice}: {sum} {theirs}");
    }
    // In the form of the Hub.
    std::fs::copy(golden("eval/arc.parquet"), bench.path("arc.parquet")).expect("a copy");
    bench.run("evaluate --model t --choices arc.parquet --output hub.out").ok();
    assert_eq!(rows(&bench, "hub.out").len(), 3);
    assert_eq!(rows(&bench, "hub.out")[2]["loglikelihoods"][0].as_array().map(Vec::len), Some(5));
    let few = bench.run("evaluate --model t --choices arc.jsonl --task arc --limit 1 --json").json();
    assert_eq!(metric(&few, "arc acc")["rows"], 1);
    for (args, said) in [
        ("--choices chats.jsonl", "no columns of questions with choices that are known: `messages`"),
        ("--choices arc.jsonl --task piqa", "`sol1` must be a text"),
        ("--choices nowhere.parquet", "nowhere.parquet"),
        ("--choices arc.jsonl --task sums", "possible values: arc, hellaswag, mmlu, piqa"),
    ] {
        let refused = bench.run(&format!("evaluate --model t {args}"));
        assert_eq!(refused.code, Some(2), "{args}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{args}: {}", refused.stderr);
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let bench = Bench::new();
    for (args, said) in [
        ("", "there is nothing to measure"),
        ("--model m", "there is nothing to measure"),
        ("--adapter out", "there is nothing to measure"),
        ("--input rows.jsonl", "--model <MODEL>"),
        ("--model m --choices rows.jsonl --generate", "there are no prompts to answer"),
        ("r.yaml --set data.eval_fraction=0 --set evaluation.eval_steps=null", "the recipe has no evaluation data"),
        ("r.yaml --metrics sharpness", "sharpness"),
        ("r.yaml --output r.yaml", "is a file that is read"),
    ] {
        bench.write("rows.jsonl", lines(&crate::bench::rows(40)));
        let refused = bench.run(&format!("evaluate {args}"));
        assert_eq!(refused.code, Some(2), "{args}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{args}: {}", refused.stderr);
    }
}

#[test]
fn rows_that_an_adapter_was_trained_on_are_named() {
    let bench = Bench::new().trained();
    let known = |args: &str| {
        let said = bench.run(&format!("evaluate {args} --adapter out --json"));
        let shown = said.stderr.contains("Warning: of ") && said.stderr.contains("are answered");
        let report = said.json();
        let warnings = report["warnings"].as_array().expect("warnings").clone();
        assert_eq!(!warnings.is_empty(), shown, "{warnings:?}");
        let words = warnings.first().map_or("", |warning| warning.as_str().expect("a text"));
        assert!(words.is_empty() || words.contains("among those that `out/adapter` "), "{words}");
        let words = words.split_once(" among").map_or("", |(rows, _)| rows).to_owned();
        (words, metric(&report, "loss")["rows"].as_u64().expect("rows"))
    };
    // What was held back was never seen, by whatever file of the recipe it is asked for.
    for recipe in ["r.yaml", "out/recipe.yaml"] {
        assert_eq!(known(recipe), (String::new(), 4), "{recipe}");
    }
    bench.write("new.jsonl", lines(&[json!({"input_ids": [2, 5, 6, 7]})]));
    assert_eq!(known("--model m --input new.jsonl"), (String::new(), 1));
    // Other rows are held back by another share, another seed or another list, and all of the file.
    let (words, rows) = known("out/recipe.yaml --set data.eval_fraction=0.5");
    assert_eq!(words, format!("of {rows} rows that are measured, {} are", rows - 4));
    assert!(known("out/recipe.yaml --set training.seed=8").0.starts_with("of "));
    let all = ("of 40 rows that are measured, 36 are".to_owned(), 40);
    assert_eq!(known("out/recipe.yaml --set data.eval=rows.jsonl --set data.eval_fraction=0"), all);
    assert_eq!(known("--model m --input rows.jsonl"), all);
    // Other tokens are made of the same rows, and the same rows stand in another file.
    assert_eq!(
        known("out/recipe.yaml --set data.eval=rows.jsonl --set data.eval_fraction=0 --set data.max_length=4"),
        all
    );
    bench.write("copy.jsonl", lines(&crate::bench::rows(40)[20..]));
    let (words, rows) = known("--model m --input copy.jsonl");
    assert!(words.starts_with("of 20 rows that are measured, ") && rows == 20, "{words}");
    // A run that went on with another's adapter.
    bench.write("other.jsonl", lines(&[json!({"input_ids": [2, 5, 6, 7]}), json!({"input_ids": [2, 7, 6, 5]})]));
    let adapter = "{r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}";
    bench.write("next.yaml", bench.text("r.yaml").replace(adapter, "{init_from: out/adapter}"));
    let sets = "--set data.train=other.jsonl --set data.eval_fraction=0 --set evaluation.eval_steps=null \
                --set training.max_steps=1 --set output.dir=next";
    bench.run(&format!("train next.yaml {sets}")).ok();
    let report = bench.run("evaluate --model m --input rows.jsonl --adapter next --json").json();
    let warning = report["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with(&all.0) && warning.contains("`next/adapter`"), "{warning}");
    // Files that have changed since, and files that are gone.
    bench.write("rows.jsonl", lines(&crate::bench::rows(60)));
    let said = bench.run("evaluate --model m --input rows.jsonl --adapter out --json");
    assert!(said.stderr.contains("whose files have changed since"), "{}", said.stderr);
    std::fs::remove_file(bench.path("rows.jsonl")).expect("a file");
    let said = bench.run("evaluate --model m --input new.jsonl --adapter out --json");
    assert!(said.stderr.contains("Whether rows were trained on is not known"), "{}", said.stderr);
    said.ok();
}

#[test]
fn evaluation_rows_that_are_trained_on_are_named_before_training() {
    let bench = Bench::new();
    let plan = |sets: &str| bench.run(&format!("train r.yaml --dry-run {sets}"));
    let said = plan("");
    assert!(said.code == Some(0) && !said.stderr.contains("trained on too"), "{}", said.stderr);
    let said = plan("--set data.eval=rows.jsonl --set data.eval_fraction=0");
    assert!(said.stderr.contains("warning: 40 of 40 evaluation rows are trained on too: "), "{}", said.stderr);
}
