//! What a person sees during and after a run, and in a chat.

use crate::bench::{Bench, Said};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ADAPTER: &str = "out/adapter/adapter_model.safetensors";

/// A run that was killed after a few steps, by the checkpoints that are left.
fn unfinished() -> Bench {
    let bench = Bench::new().trained();
    std::fs::remove_dir_all(bench.path("out/adapter")).expect("an adapter");
    std::fs::remove_file(bench.path("out/summary.json")).expect("a summary");
    bench
}

fn checkpoints(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(bench.path("out/checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").file_name().to_str().expect("UTF-8").to_owned())
        .collect();
    names.sort();
    names
}

fn damage(bench: &Bench, file: &str) {
    bench.edit(file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

#[test]
fn no_run_starts_again_over_checkpoints_that_are_damaged() {
    let bench = unfinished();
    let names = checkpoints(&bench);
    assert_eq!(names, ["step-10", "step-12"], "the end is saved too");
    damage(&bench, "out/checkpoints/step-10/optimizer.safetensors");
    bench.write("out/checkpoints/step-12/manifest.json", "{");
    // The lock has the number of the process.
    let files = || bench.files("out").into_iter().filter(|name| name != "out/.lock");
    let contents = || files().map(|name| (bench.read(&name), name)).collect::<Vec<_>>();
    let before = contents();
    let refused = bench.run("train r.yaml --resume");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for part in
        ["all 2 checkpoints are damaged", "`step-12`", "`step-10`", "optimizer.safetensors", "remove `out/checkpoints`"]
    {
        assert!(refused.problem().contains(part), "{part}: {}", refused.stderr);
    }
    assert!(before == contents(), "something was changed");

    // The advice works.
    std::fs::remove_dir_all(bench.path("out/checkpoints")).expect("checkpoints");
    let again = bench.run("train r.yaml --resume");
    assert!(again.stderr.contains("no checkpoint was saved in `out`: training starts from step 1"), "{}", again.stderr);
    again.ok();
    assert!(bench.read(ADAPTER) == Bench::new().trained().read(ADAPTER));
}

#[test]
fn a_mistyped_folder_is_no_run_to_resume() {
    let bench = Bench::new().trained();
    let refused = bench.run("train r.yaml --resume --set output.dir=oct");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("there is no run in `oct` to resume"), "{}", refused.stderr);
    assert!(refused.problem().contains("did you mean `out`?"), "{}", refused.stderr);
    assert!(!bench.path("oct").exists());

    // A folder of something else is none either.
    bench.write("data/rows.jsonl", "{}");
    let refused = bench.run("train r.yaml --resume --set output.dir=data");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(bench.files("data"), ["data/rows.jsonl"]);
}

#[test]
fn an_adapter_that_is_gone_is_written_again() {
    let bench = Bench::new().trained();
    let adapter = bench.read(ADAPTER);
    let gone = || std::fs::remove_dir_all(bench.path("out/adapter")).expect("an adapter");
    let cut = || bench.edit(ADAPTER, |bytes| bytes.truncate(100));
    let no_config = || bench.write("out/adapter/adapter_config.json", "{");
    for spoil in [&gone as &dyn Fn(), &cut, &no_config] {
        spoil();
        let again = bench.run("train r.yaml --resume");
        let said = "written again from the checkpoint of step 12";
        assert!(again.stderr.contains("adapter is ") && again.stderr.contains(said), "{}", again.stderr);
        again.ok();
        assert!(bench.read(ADAPTER) == adapter);
        let same = bench.run("train r.yaml --resume");
        assert!(same.stderr.contains("This run is finished."), "{}", same.stderr);
        same.ok();
    }
    std::fs::remove_dir_all(bench.path("out/adapter")).expect("an adapter");
    std::fs::remove_dir_all(bench.path("out/checkpoints")).expect("checkpoints");
    let refused = bench.run("train r.yaml --resume");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("its adapter is gone, and there is no checkpoint"), "{}", refused.stderr);
}

#[test]
fn a_recipe_that_differs_is_shown_with_both_values_and_the_way_on() {
    let bench = Bench::new();
    let sets = "--set training.learning_rate=0.02 --set adapter.r=2";
    bench.run(&format!("train r.yaml {sets}")).ok();
    std::fs::remove_file(bench.path("out/summary.json")).expect("a summary");
    let refused = bench.run("train r.yaml --resume");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    insta::assert_snapshot!(refused.problem(), @r"
    error: the run in `out` was started with another recipe: `adapter.r`, `training.learning_rate` differ
      --> out/recipe.yaml
      adapter.r: 2 in the run, 4 now
      training.learning_rate: 0.02 in the run, 0.01 now
      hint: `gemma-tune train out/recipe.yaml --resume` goes on as it was started; another `output.dir` starts a new run
    ");
    assert!(!refused.stderr.contains("base model"), "nothing was loaded: {}", refused.stderr);
    bench.run("train out/recipe.yaml --resume").ok();
}

fn summary(bench: &Bench) -> Value {
    serde_json::from_slice(&bench.read("out/summary.json")).expect("JSON")
}

#[test]
fn a_run_says_why_it_stopped_and_which_step_was_best() {
    let bench = Bench::new();
    let steep = "--set training.max_steps=40 --set evaluation.eval_steps=1 --set training.lr_scheduler_type=constant";
    let stop = "--set evaluation.early_stopping_patience=2";
    let run = |sets: &str| {
        let _ = std::fs::remove_dir_all(bench.path("out"));
        let said = bench.run(&format!("train r.yaml {steep} {stop} {sets}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        (summary(&bench), said.stderr)
    };
    let (summary, said) = run("--set training.learning_rate=0.05 --set evaluation.load_best_model_at_end=true");
    let best = summary["best_eval"]["step"].as_u64().expect("a step");
    assert!(best > 0);
    assert_eq!((&summary["stop_reason"], &summary["adapter_step"]), (&"early_stopping".into(), &best.into()));
    let early =
        format!("Stopped early, after step {} of 40: the evaluation loss has not improved in 2 evaluations", best + 2);
    assert!(said.contains(&early), "{early}: {said}");
    assert!(
        said.contains(&format!("at step {best}")) && said.contains(&format!("The adapter is that of step {best}")),
        "{said}"
    );
    assert!(!said.contains("was best: no step"), "{said}");

    // A rate that is far too high: nothing is better than the base.
    let (summary, said) = run("--set training.learning_rate=0.9 --set training.warmup_steps=0");
    assert_eq!(
        (&summary["stop_reason"], &summary["best_eval"]["step"]),
        (&"early_stopping".into(), &0.into()),
        "{said}"
    );
    assert_eq!(summary["adapter_step"], summary["steps"]);
    assert!(said.contains("warning: the base model itself was best"), "{said}");
}

#[test]
fn steps_and_epochs_are_reasons_to_stop_too() {
    let bench = Bench::new().trained();
    assert_eq!((&summary(&bench)["stop_reason"], &summary(&bench)["adapter_step"]), (&"max_steps".into(), &12.into()));
    let bench = Bench::new();
    let recipe = bench.text("r.yaml").replace("max_steps: 12", "num_train_epochs: 1");
    bench.write("r.yaml", recipe);
    assert_eq!(summary(&bench.trained())["stop_reason"], "epochs");
}

#[test]
fn the_next_command_works_when_it_is_pasted() {
    let bench = Bench::new().with_text();
    let out = "my runs/it's";
    let mut command = bench.command("train r.yaml --set model.base=t --set training.max_steps=1 --set");
    let said = bench.said(command.arg(format!("output.dir={out}")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: ")).expect("a command");
    assert_eq!(next, r"gemma-tune chat --model t --adapter 'my runs/it'\''s/adapter'");
    let program = env!("CARGO_BIN_EXE_gemma-tune");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &next.replacen("gemma-tune", program, 1)]);
    bench.said(bench.settle(&mut shell)).ok();
    // Without a tokenizer there is nothing to chat with.
    let said = Bench::new().run("train r.yaml --set training.max_steps=1");
    assert!(!said.stderr.contains("next:"), "{}", said.stderr);
}

/// A run whose lines on stderr are read one by one.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Running {
    fn start(bench: &Bench, args: &str) -> Self {
        let mut child =
            bench.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        Running { child, lines }
    }

    /// Waits for a line that contains `text`.
    fn until(mut self, text: &str) -> Self {
        let found = self.lines.by_ref().map(|line| line.expect("UTF-8")).find(|line| line.contains(text));
        assert!(found.is_some(), "the run never said {text:?}");
        self
    }

    /// Presses Ctrl-C; what the run then says, and in how many seconds it ended.
    #[cfg(unix)]
    fn interrupt(mut self) -> (Said, f64) {
        let sent = std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let asked = Instant::now();
        let code = self.child.wait().expect("a status").code();
        let seconds = asked.elapsed().as_secs_f64();
        let stderr = self.lines.map(|line| line.expect("UTF-8") + "\n").collect();
        (Said { code, stdout: String::new(), stderr }, seconds)
    }
}

/// A run whose steps and evaluations take many seconds each.
fn slow() -> Bench {
    let bench = Bench::new();
    bench.write("rows.jsonl", crate::bench::lines(&crate::bench::rows(12_000)));
    bench.write(
        "r.yaml",
        bench.text("r.yaml").replace("gradient_accumulation_steps: 2", "gradient_accumulation_steps: 1000"),
    );
    bench
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_step_and_an_evaluation_at_once_and_says_what_is_true() {
    let bench = slow();
    let (said, seconds) = Running::start(&bench, "train r.yaml --set evaluation.eval_on_start=false")
        .until("steps will take about")
        .interrupt();
    assert!(seconds < 3.0, "{seconds}");
    assert_eq!(said.code, Some(1), "nothing can be resumed: {}", said.stderr);
    assert!(said.stderr.contains("Interrupted; nothing was saved yet."), "{}", said.stderr);
    assert!(said.stderr.contains("\n  gemma-tune train out/recipe.yaml --resume"), "{}", said.stderr);
    assert!(!bench.path("out/checkpoints").exists());
    // What it says works.
    let again = "train out/recipe.yaml --resume --set evaluation.eval_on_start=false";
    let (said, _) =
        Running::start(&bench, again).until("training starts from step 1").until("steps will take").interrupt();
    assert_eq!(said.code, Some(1), "{}", said.stderr);

    let bench = slow();
    let run = Running::start(&bench, "train r.yaml --set data.eval_fraction=0.9").until("Loss of the base model");
    std::thread::sleep(Duration::from_millis(300));
    let (said, seconds) = run.interrupt();
    assert!(seconds < 3.0, "{seconds}");
    assert!(said.code == Some(1) && said.stderr.contains("nothing was saved"), "{:?} {}", said.code, said.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_the_first_step_ends_at_once() {
    let bench = slow();
    let (said, seconds) = Running::start(&bench, "train r.yaml").until("Model:").interrupt();
    assert!(seconds < 3.0, "{seconds}");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("nothing was saved"), "{}", said.stderr);
}
