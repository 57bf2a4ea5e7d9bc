//! What a run tells while it goes on.

use crate::bench::{Bench, safetensors_bytes, tensors};
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn steps_left_out_name_their_rows() {
    let bench = Bench::new();
    let mut model = tensors(&bench.read("m/model.safetensors"));
    // Each is a number that a weight may have; their product is none.
    for (_, _, values) in model.iter_mut().filter(|(name, ..)| name.contains("layers.6.mlp.")) {
        values.iter_mut().for_each(|x| *x *= 1e14);
    }
    bench.write("m/model.safetensors", safetensors_bytes(&model));
    let one_row = "--set data.packing=false --set training.gradient_accumulation_steps=1";
    let said = bench.run(&format!("train r.yaml {one_row}"));
    assert_eq!(said.code, Some(1), "{}", said.stderr);

    let metrics = bench.text("out/metrics.jsonl");
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let skipped: Vec<Value> = lines.filter(|line| line["skipped_why"] == "the loss is not finite").collect();
    let rows: Vec<&str> = skipped.iter().map(|line| line["rows"][0].as_str().expect("a row")).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 5, "{rows:?}");
    for row in &rows {
        let number = row.strip_prefix("rows.jsonl, row ").expect("file and row");
        assert!((1..=40).contains(&number.parse().expect("a number")), "{row}");
    }
    assert!(said.problem().contains(&format!("step 5: {}", rows[4])), "{}", said.stderr);
}

#[test]
fn samples_go_to_the_screen_and_to_tensorboard() {
    let bench = Bench::new().with_text();
    let recipe =
        bench.text("r.yaml").replace("base: m", "base: t").replace("rows.jsonl, format: tokens", "chats.jsonl");
    let recipe =
        recipe.replace("eval_fraction: 0.1", "eval: [{path: chats.jsonl}]").replace("[jsonl]", "[tensorboard]");
    bench.write("chat.yaml", recipe.replace("max_steps: 12", "max_steps: 3"));
    let said = bench.run("train chat.yaml --set evaluation.samples=2");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for step in [0, 3] {
        for prompt in ["What is two and two?", "And a cat?"] {
            let line =
                format!("step {step}: <bos><start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model -> ");
            assert!(said.stderr.contains(&line), "{line:?} is not in {}", said.stderr);
        }
    }
    let files = bench.files("out/tensorboard");
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let events = String::from_utf8_lossy(&bench.read(file)).into_owned();
    for (text, times) in [
        ("data/sample_1", 1),
        ("data/sample_2", 1),
        ("data/sample_3", 0),
        ("eval/sample_1", 2),
        ("eval/sample_2", 2),
        ("eval/sample_3", 0),
        ("⟦An animal.<end_of_turn>\n    ⟧", 1),
        ("**reference**\n\n    An animal.<end_of_turn>\n", 2),
    ] {
        assert_eq!(events.matches(text).count(), times, "{text}");
    }
}

/// A run whose evaluations get better and then worse, and what it says of them: `(step, eval_loss)`.
fn overshooting(bench: &Bench, sets: &str) -> (Value, Vec<(u64, f64)>) {
    bench
        .run(&format!("train r.yaml --set training.max_steps=40 --set evaluation.eval_steps=1 {OVERSHOOT} {sets}"))
        .ok();
    let metrics = bench.text("out/metrics.jsonl");
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let evaluations = lines.filter_map(|line| Some((line["step"].as_u64()?, line["eval_loss"].as_f64()?)));
    (serde_json::from_str(&bench.text("out/summary.json")).expect("JSON"), evaluations.collect())
}

/// A rate that soon learns the training rows by heart, and only them.
const OVERSHOOT: &str = "--set training.learning_rate=0.05 --set training.lr_scheduler_type=constant";

/// The loss of the adapter that a run left, on its evaluation data.
fn left(bench: &Bench) -> f64 {
    bench.run("evaluate r.yaml --adapter out/adapter --json").json()["loss"].as_f64().expect("a loss")
}

#[test]
fn a_run_that_no_longer_improves_stops_and_leaves_its_best_adapter() {
    let bench = Bench::new();
    let sets = "--set evaluation.early_stopping_patience=3 --set evaluation.load_best_model_at_end=true";
    let (summary, evaluations) = overshooting(&bench, sets);
    let best = evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluations");
    let last = *evaluations.last().expect("evaluations");
    assert!(0 < best.0 && last.0 < 40, "{evaluations:?}");
    assert_eq!(last.0, best.0 + 3, "{evaluations:?}");
    assert_eq!(summary["steps"], last.0);
    assert_eq!(summary["best_eval"], serde_json::json!({"step": best.0, "eval_loss": best.1}));
    assert_eq!(left(&bench), best.1);
}

#[test]
fn a_run_that_is_not_asked_for_its_best_adapter_leaves_its_last() {
    let bench = Bench::new();
    let (summary, evaluations) = overshooting(&bench, "--set evaluation.early_stopping_patience=2");
    assert_eq!(left(&bench), evaluations.last().expect("evaluations").1);
    assert_ne!(summary["best_eval"]["eval_loss"], summary["last_eval"]["eval_loss"]);
}
