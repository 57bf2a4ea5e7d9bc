//! A run that is stopped and resumed ends in the same bytes as one that is not.

use crate::bench::{Bench, wait_until};
use serde_json::{Map, Value, json};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ADAPTER: &str = "out/adapter/adapter_model.safetensors";

/// The lines of `metrics.jsonl` without what the clock decides.
fn metrics(bench: &Bench) -> Vec<Map<String, Value>> {
    let line = |line: &str| {
        let mut object: Map<String, Value> = serde_json::from_str(line).expect("a whole line");
        object.remove("tokens_per_second");
        object
    };
    bench.text("out/metrics.jsonl").lines().map(line).collect()
}

/// The steps that have a training line, in file order.
fn steps(metrics: &[Map<String, Value>]) -> Vec<u64> {
    metrics.iter().filter(|m| m.contains_key("loss")).map(|m| m["step"].as_u64().expect("a step")).collect()
}

/// Starts training; stderr goes nowhere, as nobody reads it.
fn start(bench: &Bench, args: &str) -> Child {
    bench.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

/// Training lines in `metrics.jsonl` right now, half-written ones included.
fn lines_now(bench: &Bench) -> usize {
    std::fs::read(bench.path("out/metrics.jsonl")).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
}

fn same_end(bench: &Bench, reference: &Bench) {
    assert!(bench.read(ADAPTER) == reference.read(ADAPTER), "the adapters differ");
    let (got, expected) = (metrics(bench), metrics(reference));
    assert_eq!(steps(&got), (1..=12).collect::<Vec<_>>());
    assert_eq!(got, expected);
    let best = |bench: &Bench| {
        let summary: Value = serde_json::from_slice(&bench.read("out/summary.json")).expect("JSON");
        ["steps", "tokens", "supervised_tokens", "first_loss", "last_loss", "best_eval", "base_loss"]
            .map(|key| summary[key].clone())
    };
    assert_eq!(best(bench), best(reference));
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let (one, two) = (Bench::new().trained(), Bench::new().trained());
    same_end(&one, &two);
    let evaluated: Vec<u64> =
        metrics(&one).iter().filter(|m| m.contains_key("eval_loss")).map(|m| m["step"].as_u64().unwrap()).collect();
    assert_eq!(evaluated, [0, 3, 6, 9, 12]);

    let other = Bench::new();
    other.run("train r.yaml --set training.seed=8").ok();
    assert!(other.read(ADAPTER) != one.read(ADAPTER), "the seed reaches nothing");
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    const MOST_KILLS: usize = 12;
    let reference = Bench::new();
    let begun = Instant::now();
    reference.run("train r.yaml").ok();
    let whole = begun.elapsed();

    // Moments from before the first step to the last save, spread by a fixed sequence.
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let mut killed = 0;
    for _ in 0..4 {
        let bench = Bench::new();
        let mut args = "train r.yaml";
        for round in 0.. {
            let mut child = start(&bench, args);
            // On a busy machine no run may get to its end between two kills.
            if round == MOST_KILLS {
                assert_eq!(child.wait().expect("a status").code(), Some(0));
                break;
            }
            // Past a random number of lines, then a random moment later: kills land in steps, saves and evaluations
            // alike.
            let past = lines_now(&bench).min(12) + next(6) as usize;
            let ended = wait_until(&mut child, || lines_now(&bench) >= past).or_else(|| {
                let pause = Duration::from_micros(next(whole.as_micros() as u64 / 12));
                let until = Instant::now() + pause;
                wait_until(&mut child, || Instant::now() >= until)
            });
            if let Some(status) = ended {
                assert_eq!(status.code(), Some(0));
                break;
            }
            child.kill().expect("SIGKILL");
            child.wait().expect("the process ends");
            killed += 1;
            // Killed before it took its folder, there is nothing to resume.
            args = if bench.path("out").exists() { "train r.yaml --resume" } else { "train r.yaml" };
        }
        same_end(&bench, &reference);
        let left: Vec<String> = bench.files("out").into_iter().filter(|name| name.contains("tmp")).collect();
        assert_eq!(left, Vec::<String>::new());
    }
    assert!(killed >= 4, "only {killed} runs were killed");
}

#[test]
fn killed_runs_of_preferences_resume_to_the_same_bytes() {
    let said = |role: &str, text: String| json!([{"role": role, "content": text}]);
    let row = |i: usize| {
        let (chosen, rejected) = (said("assistant", format!("It is {i}.")), said("assistant", "No idea.".into()));
        json!({"prompt": said("user", format!("What is {i}?")), "chosen": chosen, "rejected": rejected})
    };
    let bench = |task: &str| {
        let bench = Bench::new().with_text();
        bench.write("pairs.jsonl", crate::bench::lines(&(0..8).map(row).collect::<Vec<_>>()));
        let recipe = format!(
            "task: {task}\nmodel: {{base: t}}\nadapter: {{r: 4, lora_dropout: 0.1}}\n\
             data: {{train: pairs.jsonl, eval: pairs.jsonl, format: preference}}\n\
             training: {{max_steps: 12, per_device_train_batch_size: 2, gradient_accumulation_steps: 2, learning_rate: 1.0e-2, seed: 7}}\n\
             evaluation: {{eval_steps: 3}}\noutput: {{dir: out, save_steps: 1, logging_steps: 1, report_to: [jsonl]}}\n"
        );
        bench.write("r.yaml", recipe);
        bench
    };
    // Before the first step, while the reference may be asked, and some moments after a step.
    for (task, past, pause) in [("dpo", 0, 0), ("dpo", 6, 700), ("kto", 3, 1500)] {
        let (reference, killed) = (bench(task), bench(task));
        let begun = Instant::now();
        reference.run("train r.yaml").ok();
        let pause = begun.elapsed() * pause / 12_000;
        let mut child = start(&killed, "train r.yaml");
        let ended =
            wait_until(&mut child, || killed.path("out").exists() && lines_now(&killed) >= past).or_else(|| {
                let until = Instant::now() + pause;
                wait_until(&mut child, || Instant::now() >= until)
            });
        // On a busy machine it may be at its end already.
        if ended.is_none() {
            child.kill().expect("SIGKILL");
            child.wait().expect("the process ends");
        }
        killed.run("train r.yaml --resume").ok();
        same_end(&killed, &reference);
    }
}

/// Trains until a few steps are done, then presses Ctrl-C.
#[cfg(unix)]
fn interrupt(bench: &Bench) {
    let mut child = start(bench, "train r.yaml");
    assert_eq!(wait_until(&mut child, || lines_now(bench) >= 4), None, "the run ended too early");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    assert_eq!(child.wait().expect("a status").code(), Some(3));
    assert!(!bench.path("out/adapter").exists(), "the run was finished, not interrupted");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_exits_3_and_resumes_to_the_same_bytes() {
    let (reference, bench) = (Bench::new().trained(), Bench::new());
    interrupt(&bench);
    let resumed = bench.run("train r.yaml --resume");
    assert!(resumed.stderr.contains("Resuming after step"), "{}", resumed.stderr);
    resumed.ok();
    same_end(&bench, &reference);

    let again = bench.run("train r.yaml --resume");
    assert!(again.stderr.contains("This run is finished"), "{}", again.stderr);
    again.ok();
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_where_its_base_and_its_rows_have_another_place() {
    let (reference, bench) = (Bench::new().trained(), Bench::new());
    interrupt(&bench);
    std::fs::create_dir(bench.path("moved")).expect("a folder");
    for name in ["m", "rows.jsonl", "out"] {
        std::fs::rename(bench.path(name), bench.path("moved").join(name)).expect("a move");
    }
    let recipe = bench.text("r.yaml").replace("base: m", "base: moved/m").replace("path: rows", "path: moved/rows");
    bench.write("moved.yaml", recipe.replace("dir: out", "dir: moved/out"));
    // Another base under the same name is another run.
    let flip = || {
        bench.edit("moved/m/model.safetensors", |bytes| {
            let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
            bytes[8 + header] ^= 1;
        });
    };
    flip();
    let refused = bench.run("train moved.yaml --resume");
    assert!(refused.code == Some(2) && refused.problem().contains("`base model` differs"), "{}", refused.stderr);
    flip();
    let resumed = bench.run("train moved.yaml --resume");
    assert!(resumed.stderr.contains("Resuming after step"), "{}", resumed.stderr);
    resumed.ok();
    std::fs::rename(bench.path("moved/out"), bench.path("out")).expect("a move");
    same_end(&bench, &reference);
}

#[cfg(unix)]
#[test]
fn a_changed_run_is_not_resumed() {
    let bench = Bench::new();
    interrupt(&bench);
    let before = bench.files("out");

    let refused = bench.run("train r.yaml --resume --set training.learning_rate=0.02");
    assert_eq!(refused.code, Some(2));
    insta::assert_snapshot!(refused.problem(), @r"
    error: the run in `out` was started with another recipe: `training.learning_rate` differs
      --> out/recipe.yaml
      training.learning_rate: 0.01 in the run, 0.02 now
      hint: `gemma-tune train out/recipe.yaml --resume` goes on as it was started; another `output.dir` starts a new run
    ");

    bench.write("rows.jsonl", crate::bench::lines(&crate::bench::rows(41)));
    let refused = bench.run("train r.yaml --resume");
    assert_eq!(refused.code, Some(2));
    insta::assert_snapshot!(with_any_step(refused.problem()), @r"
    error: checkpoint `step-N` belongs to another run: `evaluation data` differs
      --> out/checkpoints/step-N
      hint: resume with what the run was started with, or choose another `output.dir`
    ");
    assert_eq!(bench.files("out"), before);

    // Where and how often things are shown changes no number.
    bench.write("rows.jsonl", crate::bench::lines(&crate::bench::rows(40)));
    bench.run("train r.yaml --resume --set output.logging_steps=5").ok();
    same_end(&bench, &Bench::new().trained());
}

#[test]
fn a_finished_run_is_not_extended() {
    let bench = Bench::new().trained();
    let files = bench.files("out");
    let same = bench.run("train r.yaml --resume --set output.logging_steps=5");
    assert!(same.stderr.contains("This run is finished."), "{}", same.stderr);
    same.ok();

    let more = || bench.run("train r.yaml --resume --set training.max_steps=20 --set adapter.lora_dropout=0");
    let refused = more();
    assert_eq!(refused.code, Some(2));
    insta::assert_snapshot!(refused.problem(), @r"
    error: the run in `out` is finished, and its recipe has changed: `adapter.lora_dropout`, `training.max_steps` differ
      --> out/recipe.yaml
      adapter.lora_dropout: 0.1 in the run, 0.0 now
      training.max_steps: 12 in the run, 20 now
      hint: to train further, start a new run with `adapter.init_from: out/adapter` and another `output.dir`
    ");
    assert_eq!(bench.files("out"), files);
    std::fs::remove_dir_all(bench.path("out/checkpoints")).expect("checkpoints");
    assert_eq!(more().problem(), refused.problem(), "without its checkpoints too");

    // The hint works.
    let recipe = bench
        .text("r.yaml")
        .replace("adapter: {", "adapter: {init_from: out/adapter, ")
        .replace("dir: out", "dir: more");
    bench.write("more.yaml", recipe);
    bench.run("train more.yaml").ok();
}

#[test]
fn a_used_folder_is_refused_and_left_alone() {
    let bench = Bench::new().trained();
    let (files, adapter) = (bench.files("out"), bench.read(ADAPTER));
    let refused = bench.run("train r.yaml");
    assert_eq!(refused.code, Some(2));
    insta::assert_snapshot!(refused.problem(), @r"
    error: `out` already holds a run
      --> out
      hint: `--resume` continues it; `--set output.dir=..` writes elsewhere; nothing was changed
    ");
    assert_eq!((bench.files("out"), bench.read(ADAPTER)), (files, adapter));
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let (reference, bench) = (Bench::new().trained(), Bench::new());
    interrupt(&bench);
    let mut checkpoints: Vec<u64> = std::fs::read_dir(bench.path("out/checkpoints"))
        .expect("checkpoints")
        .filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    checkpoints.sort_unstable();
    let [older, newest] = checkpoints[..] else { panic!("{checkpoints:?}") };
    bench.edit(&format!("out/checkpoints/step-{newest}/adapter.safetensors"), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let resumed = bench.run("train r.yaml --resume");
    assert!(resumed.stderr.contains(&format!("warning: checkpoint `step-{newest}`")), "{}", resumed.stderr);
    assert!(resumed.stderr.contains(&format!("Resuming after step {older}")), "{}", resumed.stderr);
    resumed.ok();
    same_end(&bench, &reference);
}

/// The text with step numbers, which depend on when Ctrl-C arrives, as `N`.
fn with_any_step(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("step-") {
        let (before, after) = rest.split_at(at + 5);
        out += before;
        out.push('N');
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}
