//! Preferences about pictures and sounds: against TRL (goldens by `scripts/make_vision_preference_goldens.py`), and of every task.

use crate::bench::{Bench, copy, golden, lines};
use crate::multimodal::{bench, hearing_bench};
use serde_json::{Value, json};

/// A run of a task on rows, with more in its sections.
fn recipe(task: &str, model: &str, rows: &str, out: &str) -> String {
    format!(
        "task: {task}\nmodel: {{base: {model}, dtype: f32}}\nadapter: {{r: 4}}\ndata: {{train: {rows}, eval: {rows}, max_length: 256}}\n\
         training: {{max_steps: 2, per_device_train_batch_size: 2, gradient_accumulation_steps: 2, learning_rate: 1.0e-2, \
         lr_scheduler_type: constant, warmup_steps: 0}}\noutput: {{dir: {out}, report_to: [jsonl]}}\n"
    )
}

fn steps(bench: &Bench, out: &str) -> Vec<Value> {
    let metrics = bench.text(&format!("{out}/metrics.jsonl"));
    let metrics = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    metrics.filter(|line| !line["loss"].is_null()).collect()
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn preferences_about_pictures_are_learnt_as_trl_learns_them() {
    const BETA: f64 = 0.4;
    let bench = bench();
    std::fs::copy(golden("train/vision_preference/rows.jsonl"), bench.path("pairs.jsonl")).unwrap();
    for seed in [1, 2] {
        copy(&golden(&format!("train/vision_preference/seed-{seed}")), &bench.path(&format!("trl/seed-{seed}")));
        let recipe = format!(
            "task: dpo\nmodel: {{base: v, dtype: f32}}\nadapter: {{init_from: trl/seed-{seed}}}\n\
             data: {{train: pairs.jsonl, max_length: 256, shuffle: false}}\npreference: {{beta: {BETA}}}\n\
             training: {{max_steps: 6, per_device_train_batch_size: 2, gradient_accumulation_steps: 1, learning_rate: 1.0e-2, \
             lr_scheduler_type: constant, warmup_steps: 0, max_grad_norm: 1.0}}\noutput: {{dir: out-{seed}, report_to: [jsonl]}}\n"
        );
        bench.write("dpo.yaml", recipe);
        bench.run("train dpo.yaml").ok();
        let expected = bench.text(&format!("trl/seed-{seed}/steps.jsonl"));
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let got = steps(&bench, &format!("out-{seed}"));
        assert_eq!(got.len(), expected.len());
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let near = |name: &str, most: f64, least: f64| {
                let [got, expected] = [got, expected].map(|line| number(line, name));
                let scale = expected.abs().max(least);
                assert!((got - expected).abs() <= most * scale, "step {}, {name}: {got}, expected {expected}", at + 1);
            };
            let most = if at == 0 { 1e-5 } else { 1e-3 };
            for name in ["loss", "grad_norm", "logps/chosen", "logps/rejected"] {
                near(name, most, 0.0);
            }
            // Differences of sums of about 100 in f32, times beta; where all of them are 0, which is the larger is chance.
            for name in ["rewards/chosen", "rewards/rejected", "rewards/margins"] {
                near(name, most, if at == 0 { 100.0 * BETA } else { 0.05 });
            }
            if at > 0 {
                near("rewards/accuracies", 0.0, 1.0);
            }
        }
    }
}

/// A question about each of these files, with an answer that is wanted and one that is not.
fn pairs(kind: &str, files: &[&str]) -> Vec<Value> {
    let said = |text: &str| json!([{"role": "assistant", "content": text}]);
    let row = |(at, file): (usize, &&str)| {
        let asked = json!([{"type": kind, kind: file}, {"type": "text", "text": format!("What is it, {at}?")}]);
        json!({"prompt": [{"role": "user", "content": asked}], "chosen": said("It is this one."), "rejected": said("No.")})
    };
    files.iter().enumerate().map(row).collect()
}

#[test]
fn every_task_of_preferences_takes_rows_with_pictures_or_sounds() {
    let bench = hearing_bench();
    let seen = pairs("image", &["pictures/red.png", "pictures/wide.png", "pictures/grey.jpg", "pictures/red.png"]);
    let judged: Vec<Value> = seen
        .iter()
        .flat_map(|row| {
            ["chosen", "rejected"]
                .map(|answer| json!({"prompt": row["prompt"], "completion": row[answer], "label": answer == "chosen"}))
        })
        .collect();
    bench.write("seen.jsonl", lines(&seen));
    bench.write("judged.jsonl", lines(&judged));
    bench.write("heard.jsonl", lines(&pairs("audio", &["media/low.wav", "media/low.wav"])));
    // The tower, trained beside the text, looks at the picture of a pair once.
    let tower = "--set adapter.train_projector=true --set adapter.vision_target_modules=[q_proj]";
    for (task, model, rows, out, more) in [
        ("dpo", "v", "seen.jsonl", "dpo", ""),
        ("dpo", "v", "seen.jsonl", "tower", tower),
        ("orpo", "v", "seen.jsonl", "orpo", ""),
        ("kto", "v", "judged.jsonl", "kto", ""),
        ("reward", "v", "seen.jsonl", "reward", ""),
        ("dpo", "n", "heard.jsonl", "heard", ""),
    ] {
        bench.write("r.yaml", recipe(task, model, rows, out));
        bench.run(&format!("train r.yaml {more}")).ok();
        let steps = steps(&bench, out);
        let [first, second] = &steps[..] else { panic!("{steps:?}") };
        assert!(number(second, "loss") < number(first, "loss"), "{out}: {steps:?}");
    }
    // What both answers begin with, the picture with it, is computed once: of a judged row it is the row's own.
    let tokens = |out: &str| number(&steps(&bench, out)[0], "tokens");
    assert!(tokens("dpo") < 0.7 * 2.0 * tokens("kto"), "{} {}", tokens("dpo"), tokens("kto"));
    assert_eq!((tokens("dpo"), tokens("dpo")), (tokens("tower"), tokens("reward")));
    // A reward model judges what it sees: another picture has another reward.
    let rewards = |rows: &[Value]| -> Vec<f64> {
        bench.write("asked.jsonl", lines(rows));
        let said = bench.run("score --model v --adapter reward --input asked.jsonl").ok();
        let row = |line: &str| number(&serde_json::from_str::<Value>(line).unwrap()["chosen"], "reward");
        said.lines().map(row).collect()
    };
    let [red, grey] =
        [&seen[0], &pairs("image", &["pictures/grey.jpg"])[0]].map(|row| rewards(std::slice::from_ref(row))[0]);
    assert!(red != grey && rewards(&seen)[0] == red, "{red} {grey}");
    // A Gemma 3n has no class that judges, and a model that does not hear takes no sounds.
    bench.write("r.yaml", recipe("reward", "n", "heard.jsonl", "no"));
    let refused = bench.run("train r.yaml");
    assert!(
        refused.code == Some(2) && refused.problem().contains("trains a head that no Gemma 3n has"),
        "{}",
        refused.stderr
    );
    bench.write("r.yaml", recipe("dpo", "v", "heard.jsonl", "no"));
    let refused = bench.run("train r.yaml");
    assert!(refused.code == Some(2) && refused.problem().contains("heard.jsonl"), "{}", refused.stderr);
}
