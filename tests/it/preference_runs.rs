//! Runs that learn from pairs, from judged answers, and to judge, from a recipe to what is measured afterwards.

use crate::bench::{Bench, lines};
use crate::preference::METRICS;
use gemma_tune::testkit::golden::Golden;
use serde_json::{Value, json};

const TRAINING: &str = "\
training:
  max_steps: 6
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 3
  learning_rate: 1.0e-2
  lr_scheduler_type: constant
  warmup_steps: 0
";

/// A run of a task, with what stands in its `preference`.
fn recipe(task: &str, rows: &str, preference: &str, out: &str) -> String {
    format!(
        "task: {task}\nmodel: {{base: t}}\nadapter: {{r: 4}}\ndata: {{train: {rows}, eval: {rows}}}\n\
         preference: {{{preference}}}\n{TRAINING}output: {{dir: {out}, report_to: [jsonl]}}\n"
    )
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// The steps of a run, and its evaluations.
fn steps(bench: &Bench, out: &str) -> (Vec<Value>, Vec<Value>) {
    let metrics = bench.text(&format!("{out}/metrics.jsonl"));
    let metrics = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    metrics.partition(|line| !line["loss"].is_null())
}

fn said(role: &str, text: String) -> Value {
    json!([{"role": role, "content": text}])
}

/// A question, an answer that is wanted, and one that is not.
fn pair(i: usize) -> [Value; 3] {
    let (good, bad) = (said("assistant", format!("It is {i}.")), said("assistant", "No idea at all.".into()));
    [said("user", format!("What is {i}?")), good, bad]
}

#[test]
fn a_run_learns_what_is_preferred() {
    let bench = Bench::new().with_text();
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    };
    bench.write("pairs.jsonl", lines(&(0..10).map(row).collect::<Vec<_>>()));
    bench.write("dpo.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "out"));
    let preview = bench.run("data preview dpo.yaml --rows 1 --json").json();
    assert_eq!(preview["segments"].as_array().map(Vec::len), Some(2), "{preview}");

    // What is chosen where preferences are learnt is for adapters, and not for whole models as TRL's.
    let plan = bench.run("train dpo.yaml --dry-run --json --set training.learning_rate=auto").json()["plan"].clone();
    let chosen = plan["chosen"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let rate = chosen.filter_map(|chosen| chosen.strip_prefix("training.learning_rate=")?.parse::<f64>().ok());
    assert_eq!(rate.collect::<Vec<_>>(), [2.0e-5], "{plan}");
    let said = bench.run("train dpo.yaml");
    assert!(said.stderr.contains("the chosen one is the longer in 0 % of 10 pairs"), "{}", said.stderr);
    said.ok();
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    // The policy begins where its reference stays.
    let ln2 = 2.0_f64.ln();
    assert!((number(first, "loss") - ln2).abs() < 1e-4, "{first}");
    for name in METRICS {
        assert!(number(first, name).is_finite());
    }
    assert!(number(first, "rewards/margins").abs() < 1e-3 && number(first, "logps/chosen") < -1.0, "{first}");
    assert!(number(last, "loss") < ln2 && number(last, "rewards/margins") > 0.0, "{last}");
    let [before, .., after] = &evaluations[..] else { panic!("{evaluations:?}") };
    let [loss_before, loss_after] = [before, after].map(|line| number(line, "eval_loss"));
    assert!((loss_before - ln2).abs() < 1e-4 && loss_after < loss_before, "{evaluations:?}");
    assert!(number(after, "eval_rewards/margins") > 0.0, "{after}");

    // What is measured of pairs is said, and is of the preferred answers.
    let report = bench.run("evaluate dpo.yaml --adapter out --json").json();
    let metric = |name: &str| {
        let metrics = report["metrics"].as_array().expect("metrics");
        metrics
            .iter()
            .find(|metric| metric["metric"] == name)
            .unwrap_or_else(|| panic!("no {name} in {report}"))
            .clone()
    };
    assert_eq!(metric("loss")["about"], "nats per supervised token of the preferred answers");
    assert_eq!((metric("accuracy")["rows"].clone(), metric("margin")["rows"].clone()), (json!(10), json!(10)));
    // Beyond the base by what the rewards say, divided by beta.
    let margin = metric("margin");
    let more = number(&margin["values"][1], "value") - number(&margin["values"][0], "value");
    let rewards = number(after, "eval_rewards/margins") / 0.5;
    assert!((more - rewards).abs() < 1e-3 * rewards, "{more} {rewards}");
    let verified = bench.run("verify --model t --adapter out --json").json();
    assert_eq!(verified["rows_from"], "the evaluation rows of the adapter's run, of each pair the preferred answer");

    // The same rows without a reference; `auto` looks at one answer with its prompt.
    let previews = bench.run("data preview dpo.yaml --rows 10 --json").ok();
    let previews = previews.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lengths = previews.flat_map(|row| {
        let segments = row["segments"].as_array().expect("segments").clone();
        segments.into_iter().map(|segment| segment[1].as_u64().unwrap() - segment[0].as_u64().unwrap())
    });
    let longest = lengths.max().expect("rows");
    for (task, keys, out) in
        [("orpo", "beta: 0.5", "orpo"), ("dpo", "loss_type: simpo, beta: 2.0, cpo_alpha: 0.5", "simpo")]
    {
        bench.write("free.yaml", recipe(task, "pairs.jsonl", keys, out));
        bench.run("train free.yaml --set data.max_length=auto").ok();
        let (of_steps, evaluations) = steps(&bench, out);
        let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
        assert!(number(last, "loss") < number(first, "loss"), "{task}: {first} {last}");
        assert!(number(last, "nll_loss") < number(first, "nll_loss"), "{task}: {first} {last}");
        assert!(number(last, "rewards/margins") > number(first, "rewards/margins"), "{task}: {first} {last}");
        assert!(evaluations.iter().all(|line| number(line, "eval_nll_loss").is_finite()));
        // Where `<eos>` follows each answer there is one token more.
        let chosen = bench.text(&format!("{out}/recipe.yaml"));
        let remark = format!("the longest answer with its prompt has {}", longest + 1);
        assert!(chosen.contains(&remark), "{remark}: {chosen}");
    }
}

#[test]
fn a_run_learns_from_judged_answers() {
    let bench = Bench::new().with_text();
    let rows = (0..6).flat_map(|i| {
        let [prompt, good, bad] = pair(i);
        [(good, true), (bad, false)]
            .map(|(completion, label)| json!({"prompt": prompt, "completion": completion, "label": label}))
    });
    bench.write("judged.jsonl", lines(&rows.collect::<Vec<_>>()));
    bench.write("kto.yaml", recipe("kto", "judged.jsonl", "beta: 0.5", "out"));
    let preview = bench.run("data preview kto.yaml --rows 2 --json").ok();
    assert!(preview.contains("unpaired: a good answer") && preview.contains("unpaired: a bad answer"), "{preview}");
    let said = bench.run("train kto.yaml");
    assert!(said.stderr.contains("How far the model has gone is estimated of each 2 rows"), "{}", said.stderr);
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    // Nothing has moved at first: neither the answers nor those to other prompts.
    assert!((number(first, "loss") - 0.5).abs() < 1e-4 && number(first, "kl").abs() < 1e-3, "{first}");
    assert!(number(last, "loss") < 0.5 && number(last, "rewards/margins") > 0.0, "{last}");
    let [before, .., after] = &evaluations[..] else { panic!("{evaluations:?}") };
    assert!((number(before, "eval_loss") - 0.5).abs() < 1e-4 && number(after, "eval_rewards/margins") > 0.0, "{after}");
    // The same run again ends in the same bytes.
    bench.run("train kto.yaml --set output.dir=again").ok();
    let adapter = |out: &str| bench.read(&format!("{out}/adapter/adapter_model.safetensors"));
    assert!(adapter("out") == adapter("again"));
    // Pairs are the same rows.
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    };
    bench.write("pairs.jsonl", lines(&(0..6).map(row).collect::<Vec<_>>()));
    let of_pairs = recipe("kto", "pairs.jsonl", "beta: 0.5", "pairs").replace("data: {", "data: {format: preference, ");
    bench.write("pairs.yaml", of_pairs);
    let said = bench.run("train pairs.yaml");
    assert!(said.stderr.contains("Pairs are taken apart, as in TRL"), "{}", said.stderr);
    assert!(!said.stderr.contains("split into"), "{}", said.stderr);
    assert!(adapter("out") == adapter("pairs"));
    let report = bench.run("evaluate kto.yaml --adapter out --json").json();
    assert_eq!(report["metrics"][0]["about"], "nats per supervised token of the good answers");
    assert_eq!(report["metrics"][0]["rows"], 6);
}

#[test]
fn a_reward_model_is_trained_asked_and_merged() {
    let bench = Bench::new().with_text();
    let row = |i: usize| {
        let [prompt, chosen, rejected] = pair(i);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": 0.25})
    };
    bench.write("pairs.jsonl", lines(&(0..6).map(row).collect::<Vec<_>>()));
    let keys = "center_rewards_coefficient: 0.01";
    let saved = recipe("reward", "pairs.jsonl", keys, "out").replace("output: {", "output: {save_steps: 3, ");
    bench.write("reward.yaml", saved);
    let plan = bench.run("train reward.yaml --dry-run --json --set training.learning_rate=auto").json()["plan"].clone();
    assert!(plan["chosen"].to_string().contains("training.learning_rate=0.0001"), "{plan}");
    let said = bench.run("train reward.yaml");
    assert!(said.stderr.contains("next: gemma-tune score --model t --adapter out/adapter"), "{}", said.stderr);
    said.ok();
    let (of_steps, evaluations) = steps(&bench, "out");
    let [first, .., last] = &of_steps[..] else { panic!("{of_steps:?}") };
    assert!(number(last, "loss") < number(first, "loss") && number(last, "margin") > 0.25, "{first} {last}");
    assert!(number(last, "min_reward") <= number(last, "mean_reward"), "{last}");
    assert!(number(last, "mean_reward") <= number(last, "max_reward"), "{last}");
    let after = evaluations.last().expect("an evaluation");
    assert_eq!(number(after, "eval_accuracy"), 1.0, "{after}");

    // What is left is PEFT's, and killed after its third step the run ends in the same bytes.
    const ADAPTER: &str = "out/adapter/adapter_model.safetensors";
    let adapter = bench.read(ADAPTER);
    let config: Value = serde_json::from_slice(&bench.read("out/adapter/adapter_config.json")).unwrap();
    assert_eq!((&config["task_type"], &config["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let head = Golden::read(&bench.path(ADAPTER));
    assert_eq!(head.shape("base_model.model.score.weight"), [1, 48]);
    for gone in ["out/adapter", "out/checkpoints/step-6"] {
        std::fs::remove_dir_all(bench.path(gone)).expect(gone);
    }
    std::fs::remove_file(bench.path("out/summary.json")).expect("a summary");
    bench.run("train reward.yaml --resume").ok();
    assert!(bench.read(ADAPTER) == adapter);

    // Rows are judged as the evaluation judged them.
    let judged = bench.run("score --model t --adapter out --input pairs.jsonl").ok();
    let judged: Vec<Value> = judged.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let margin = judged.iter().map(|row| number(row, "margin")).sum::<f64>() / 6.0;
    assert!((margin - number(after, "eval_margin")).abs() < 1e-5, "{margin} {after}");
    let differs = number(&judged[0]["chosen"], "reward") - number(&judged[0]["rejected"], "reward");
    assert!((differs - number(&judged[0], "margin")).abs() < 1e-9, "{}", judged[0]);
    let report = bench.run("evaluate reward.yaml --adapter out --json").json();
    let metric =
        |at: usize| (report["metrics"][at]["metric"].clone(), number(&report["metrics"][at]["values"][0], "value"));
    assert_eq!(metric(0), (json!("accuracy"), 1.0));
    assert!(metric(1).0 == json!("margin") && (metric(1).1 - margin).abs() < 1e-5, "{report}");

    // It judges what another model says of its own accord, as it judges rows.
    let prompts: Vec<Value> = (0..2).map(|i| json!({"prompt": pair(i)[0]})).collect();
    bench.write("prompts.jsonl", lines(&prompts));
    let own = "task: grpo\nmodel: {base: t}\ndata: {train: prompts.jsonl, max_length: 64}\n\
               grpo: {num_generations: 4, max_completion_length: 6}\ntraining: {max_steps: 1, gradient_accumulation_steps: 8}\n\
               rewards: [{kind: model, adapter: out, weight: 2.0}]\noutput: {dir: own}\n";
    bench.write("own.yaml", own);
    bench.run("train own.yaml").ok();
    let answers = String::from_utf8(bench.read("own/rewards.jsonl")).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 8);
    let of_row = |answer: &Value| {
        let at = usize::from(answer["prompt"].as_str().is_some_and(|origin| origin.contains("row 2")));
        json!({"prompt": prompts[at]["prompt"], "completion": [{"role": "assistant", "content": answer["completion"]}]})
    };
    bench.write("answers.jsonl", lines(&answers.iter().map(of_row).collect::<Vec<_>>()));
    let scored = bench.run("score --model t --adapter out --input answers.jsonl").ok();
    for (answer, scored) in answers.iter().zip(scored.lines()) {
        let scored: Value = serde_json::from_str(scored).expect("JSON");
        let reward = number(&scored, "reward");
        assert!((number(&answer["rewards"], "model") - reward).abs() < 1e-5, "{answer} {scored}");
        assert!((number(answer, "reward") - 2.0 * reward).abs() < 1e-5, "{answer} {scored}");
    }
    bench.write("own.yaml", own.replace("adapter: out", "adapter: own"));
    let said = bench.run("train own.yaml --set output.dir=other");
    assert!(said.code == Some(2) && said.problem().contains("the adapter is no reward model"), "{}", said.stderr);

    // As a whole it is a classifier for transformers.
    bench.run("merge --model t --adapter out --output whole --dtype f32").ok();
    let config: Value = serde_json::from_slice(&bench.read("whole/config.json")).unwrap();
    assert_eq!(config["architectures"], json!(["Gemma3TextForSequenceClassification"]));
    assert_eq!(config["id2label"].as_object().map(|labels| labels.len()), Some(1));
    let whole = Golden::read(&bench.path("whole/model.safetensors"));
    assert_eq!(whole.values("score.weight"), head.values("base_model.model.score.weight"));
    // And for us: it judges as base and adapter did, in every place where these judge.
    let scored = bench.run("score --model whole --input pairs.jsonl").ok();
    for (whole, parts) in scored.lines().zip(&judged) {
        let whole: Value = serde_json::from_str(whole).expect("JSON");
        assert!((number(&whole, "margin") - number(parts, "margin")).abs() < 1e-4, "{whole} {parts}");
    }
    let report = bench.run("evaluate reward.yaml --model whole --json").json();
    let value = |at: usize| number(&report["metrics"][at]["values"][0], "value");
    assert!(value(0) == 1.0 && (value(1) - margin).abs() < 1e-4, "{report}");
    let inspected = bench.run("inspect whole").ok();
    assert!(inspected.contains("it is a reward model, whose `score` head judges texts"), "{inspected}");
    bench.write("own.yaml", own.replace("adapter: out", "base: whole"));
    bench.run("train own.yaml --set output.dir=by_whole").ok();
    let by_whole = bench.text("by_whole/rewards.jsonl");
    for (line, parts) in by_whole.lines().zip(&answers) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!((number(&line, "reward") - number(parts, "reward")).abs() < 1e-4, "{line} {parts}");
    }
    bench.write("own.yaml", own.replace("adapter: out", "base: t"));
    let said = bench.run("train own.yaml --set output.dir=other");
    assert!(said.code == Some(2) && said.problem().contains("`t` is no reward model"), "{}", said.stderr);
    bench.write("whole.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "other").replace("base: t", "base: whole"));
    for refused in [
        "train whole.yaml",
        "estimate whole.yaml",
        "generate --model whole --prompt a",
        "verify --model whole --adapter out",
        "merge --model whole --adapter out --output other",
        "export gguf --model whole --quant F32 --output a.gguf",
    ] {
        let said = bench.run(refused);
        assert_eq!(said.code, Some(2), "{refused}: {}", said.stderr);
        assert!(said.problem().contains("the model is a reward model"), "{refused}: {}", said.stderr);
    }
    for refused in
        ["score --model whole --adapter out --input pairs.jsonl", "evaluate reward.yaml --model whole --adapter out"]
    {
        let said = bench.run(refused);
        assert!(said.code == Some(2) && said.problem().contains("no adapter goes on it"), "{refused}: {}", said.stderr);
    }

    // It goes on as what it is, and is no writer for anybody.
    bench.run("train reward.yaml --set adapter.init_from=out --set output.dir=more --set training.max_steps=1").ok();
    let (more, _) = steps(&bench, "more");
    assert!(number(&more[0], "margin") > number(first, "margin"), "{more:?}");
    bench.write("dpo.yaml", recipe("dpo", "pairs.jsonl", "beta: 0.5", "dpo"));
    for refused in [
        "train dpo.yaml --set adapter.init_from=out",
        "generate --model t --adapter out --prompt a",
        "verify --model t --adapter out",
        "export gguf --model t --adapter out --quant F32 --output a.gguf",
        "export gguf-lora --model t --adapter out --output a.gguf",
        "export ollama --model t --adapter out --output ollama",
    ] {
        let said = bench.run(refused);
        assert_eq!(said.code, Some(2), "{refused}: {}", said.stderr);
        assert!(said.problem().contains("the adapter is a reward model"), "{refused}: {}", said.stderr);
    }
    let said = bench.run("evaluate reward.yaml --adapter out --generate");
    assert!(said.code == Some(2) && said.problem().contains("it judges"), "{}", said.stderr);
    let said = bench.run("score --model t --adapter out --input pairs.jsonl --logits l.safetensors");
    assert!(said.code == Some(2) && said.problem().contains("no logits"), "{}", said.stderr);
    let said = bench.run("train reward.yaml --dry-run --set evaluation.samples=2 --set output.dir=new");
    assert!(
        said.code == Some(2) && said.problem().contains("`evaluation.samples` does not go with"),
        "{}",
        said.stderr
    );
}
