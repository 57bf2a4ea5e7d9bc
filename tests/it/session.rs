//! What a person sees during and after a run, and in a chat.

use crate::bench::{Bench, Said};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

#[path = "../../src/hub/tests/server.rs"]
#[allow(dead_code, reason = "its other tests use more of it")]
mod server;

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
    #[cfg(unix)]
    {
        let manifest = bench.path("out/checkpoints/step-12/manifest.json");
        std::fs::remove_file(&manifest).expect("a manifest");
        assert!(std::process::Command::new("mkfifo").arg(manifest).status().expect("mkfifo").success());
        assert_eq!(bench.run("train r.yaml --resume").code, Some(2));
    }

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
fn a_run_that_was_killed_before_its_first_file_is_resumed() {
    let bench = Bench::new();
    // As the root of a new volume has it.
    std::fs::create_dir_all(bench.path("out/lost+found")).expect("a folder");
    let resumed = bench.run("train r.yaml --resume");
    assert!(
        resumed.stderr.contains("no checkpoint was saved in `out`: training starts from step 1"),
        "{}",
        resumed.stderr
    );
    resumed.ok();
    assert!(bench.path(ADAPTER).exists());
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

    // A base that knows the rows, and a rate that is far too high: nothing is better than the base.
    bench.run("merge --model m --adapter out/adapter --output good --dtype f32").ok();
    let (summary, said) = run("--set model.base=good --set training.learning_rate=0.9 --set training.warmup_steps=0");
    assert_eq!(
        (&summary["stop_reason"], &summary["best_eval"]["step"]),
        (&"early_stopping".into(), &0.into()),
        "{said}"
    );
    assert_eq!(summary["adapter_step"], summary["steps"]);
    assert!(said.contains("warning: the base model itself was best"), "{said}");

    // Within the warm-up, whose first step has rate 0 and changes nothing.
    let (summary, _) = run("--set training.warmup_steps=30 --set evaluation.early_stopping_patience=1");
    assert_eq!((&summary["stop_reason"], &summary["steps"]), (&"early_stopping".into(), &1.into()));
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
    assert_eq!(said.code, Some(3), "it begins again: {}", said.stderr);
    assert!(said.stderr.contains("Interrupted; no step was saved yet."), "{}", said.stderr);
    assert!(said.stderr.contains("\n  gemma-tune train out/recipe.yaml --resume"), "{}", said.stderr);
    assert!(!bench.path("out/checkpoints").exists());
    // What it says works.
    let again = "train out/recipe.yaml --resume --set evaluation.eval_on_start=false";
    let (said, _) =
        Running::start(&bench, again).until("training starts from step 1").until("steps will take").interrupt();
    assert_eq!(said.code, Some(3), "{}", said.stderr);

    let bench = slow();
    let run = Running::start(&bench, "train r.yaml --set data.eval_fraction=0.9").until("Loss of the base model");
    std::thread::sleep(Duration::from_millis(300));
    let (said, seconds) = run.interrupt();
    assert!(seconds < 3.0, "{seconds}");
    assert!(matches!(said.code, Some(1 | 3)) && said.stderr.contains(" was saved"), "{:?} {}", said.code, said.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_the_first_step_ends_at_once() {
    let bench = slow();
    let (said, seconds) = Running::start(&bench, "train r.yaml").until("Model:").interrupt();
    assert!(seconds < 3.0, "{seconds}");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("nothing was saved"), "{}", said.stderr);
    assert!(!bench.path("out").exists(), "{:?}", bench.files("out"));

    // What was there before stays.
    bench.write("mine/deep/notes.txt", "");
    let train = "train r.yaml --set output.dir=mine/deep/run/1";
    let (said, _) = Running::start(&bench, train).until("Model:").interrupt();
    assert!(said.stderr.contains("nothing was saved"), "{}", said.stderr);
    assert_eq!(
        (bench.files("mine"), bench.path("mine/deep/run").exists()),
        (vec!["mine/deep/notes.txt".into()], false)
    );
}

#[test]
fn the_folder_of_a_run_means_its_adapter_everywhere() {
    let bench = Bench::new().with_text();
    let sets = "--set model.base=t --set training.max_steps=6 --set training.learning_rate=0.5";
    bench.run(&format!("train r.yaml {sets}")).ok();
    let generate = |adapter: &str| {
        bench.run(&format!("generate --model t --max-tokens 6 --temperature 2 --seed 33 --prompt Two? {adapter}"))
    };
    let tuned = generate("--adapter out/adapter").ok();
    assert_ne!(tuned, generate("").ok());
    let said = generate("--adapter out");
    assert!(said.stderr.contains("Adapter: out/adapter"), "{}", said.stderr);
    assert_eq!(said.ok(), tuned);
    let evaluate =
        |adapter: &str| bench.run(&format!("evaluate r.yaml --set model.base=t --adapter {adapter} --json")).ok();
    assert_eq!(evaluate("out"), evaluate("out/adapter"));
    bench.run("merge --model t --adapter out --output merged").ok();
    let go_on = |from: &str, to: &str| {
        let keys = format!("--set output.dir={to} --set adapter.init_from={from} --set training.max_steps=1");
        let recipe =
            bench.text("r.yaml").replace("{r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}", "{}");
        bench.write("more.yaml", recipe);
        bench.run(&format!("train more.yaml --set model.base=t {keys}")).ok();
        bench.read(&format!("{to}/adapter/adapter_model.safetensors"))
    };
    assert!(go_on("out", "one") == go_on("out/adapter", "two"));

    // A checkpoint is none, and says where the adapter is.
    let refused = generate("--adapter out/checkpoints/step-4");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("the adapter of its run is `out/adapter`"), "{}", refused.stderr);
    std::fs::remove_dir_all(bench.path("out/adapter")).expect("an adapter");
    let refused = generate("--adapter out");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.problem().contains("`gemma-tune train out/recipe.yaml --resume` finishes it"),
        "{}",
        refused.stderr
    );
    bench.run("train out/recipe.yaml --resume").ok();
}

#[test]
fn a_recipe_is_checked_against_the_adapter_that_it_continues() {
    let bench = Bench::new().trained();
    let check = |sets: &str| bench.run(&format!("recipe check r.yaml --set adapter.init_from=out/adapter {sets}"));
    let refused = check("--set output.dir=new --set adapter.r=16");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.problem().contains("`adapter.r` contradicts the adapter"), "{}", refused.stderr);
    check("--set output.dir=new").ok();
    std::fs::remove_file(bench.path(ADAPTER)).expect("weights");
    for base in ["m", "someone/not-here"] {
        let refused = check(&format!("--set output.dir=new --set model.base={base}"));
        assert_eq!(refused.code, Some(2), "{base}: {}", refused.stderr);
        assert!(refused.problem().contains("adapter_model.safetensors"), "{base}: {}", refused.stderr);
    }
}

#[test]
fn an_id_that_looks_like_a_folder_here_is_mentioned_and_no_mistake() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("models")).expect("a folder");
    std::fs::rename(bench.path("m"), bench.path("models/gemma-tiny")).expect("a model");
    let said = bench.run("recipe check r.yaml --set model.base=models/gemma-tny");
    assert!(said.stderr.contains("did you mean the local `models/gemma-tiny`?"), "{}", said.stderr);
    said.ok();
    let said = bench.run("recipe check r.yaml --set model.base=models/gemma-tiny");
    assert!(!said.stderr.contains("did you mean"), "{}", said.stderr);
    said.ok();
}

#[test]
fn what_the_hub_refuses_is_said_before_any_data_is_read() {
    use server::{Answer, Server};
    let bench = Bench::new();
    // Rows that every reader refuses.
    bench.write("rows.jsonl", "{\n");
    type Refusal = (Option<&'static str>, u16, &'static str, &'static str, &'static str);
    let refusals: [Refusal; 4] = [
        (None, 401, "GatedRepo", "Access to model x is restricted.", "no token was found"),
        (Some("hf_bad"), 401, "", "Invalid credentials in Authorization header", "does not accept the token"),
        (Some("hf_ok"), 403, "GatedRepo", "You are not in the authorized list", "has not accepted the licence"),
        (Some("hf_ok"), 404, "RepoNotFound", "Repository not found", "the Hub has no `google/gemma-3-1b-it`"),
    ];
    let mut texts = std::collections::BTreeSet::new();
    let mut train = |endpoint: &str, token: Option<&str>, expected: &str| {
        let mut command = bench.command("train r.yaml --set model.base=google/gemma-3-1b-it");
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN").env("HF_ENDPOINT", endpoint);
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        let said = bench.said(&mut command);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.problem().contains(expected), "{expected}: {}", said.stderr);
        assert!(!said.stderr.contains("rows.jsonl"), "{}", said.stderr);
        assert!(texts.insert(said.problem().to_owned()), "said twice: {}", said.stderr);
    };
    for (token, status, code, message, expected) in refusals {
        let server =
            Server::start(move |_| Answer::new(status).header("X-Error-Code", code).header("X-Error-Message", message));
        train(&server.url, token, expected);
    }
    train("http://127.0.0.1:9", None, "could not be reached");
}

/// A chat with the model `t` that gets `input` through a pipe.
fn piped(bench: &Bench, args: &str, input: &[u8]) -> Said {
    let mut command = bench.command(&format!("chat --model t --max-tokens 4 {args}"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a chat");
    child.stdin.take().expect("stdin").write_all(input).expect("lines");
    let output = child.wait_with_output().expect("the chat ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_chat_outlives_bad_bytes_wrong_commands_and_files_that_cannot_be_written() {
    let bench = Bench::new().with_text();
    let answer = piped(&bench, "", b"Two?\n").ok();
    let said = piped(&bench, "", b"/nonsense\n\xff\xfe\n/clear\n/temperature x\nTwo?\n/save chat.jsonl\n");
    assert!(
        said.stderr.contains("there is no command `/nonsense`; /help lists them")
            && !said.stderr.contains("/temperature X"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("not UTF-8"), "{}", said.stderr);
    assert!(said.stderr.contains("Saved as a row of `chat.jsonl`"), "{}", said.stderr);
    assert!(said.ok().ends_with(&answer));
    let row: Value = serde_json::from_str(&bench.text("chat.jsonl")).expect("one row");
    assert_eq!(row["messages"][0], serde_json::json!({"role": "user", "content": "Two?"}));
    assert_eq!(row["messages"][1]["role"], "assistant");
}

#[test]
fn a_message_of_several_lines_is_one_message() {
    let bench = Bench::new().with_text();
    let sampled = "--temperature 1 --seed 5";
    let quoted = piped(&bench, sampled, b"\"\"\"\nTwo?\nThree?\n\"\"\"\n").ok();
    assert_eq!(piped(&bench, sampled, b"Two?\\\nThree?\n").ok(), quoted);
    assert_eq!(quoted.lines().count(), 1, "{quoted:?}");
    // Not the same as two messages, and a retry draws other numbers.
    assert_ne!(piped(&bench, sampled, b"Two?\nThree?\n").ok(), quoted);
    let tried = piped(&bench, sampled, b"Two?\n/retry\n/retry\n").ok();
    assert!(tried.lines().collect::<std::collections::BTreeSet<_>>().len() > 1, "{tried:?}");
}
