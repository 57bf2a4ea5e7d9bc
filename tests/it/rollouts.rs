//! Learning from a model's own answers: losses against TRL (goldens by `scripts/make_rollout_goldens.py`), and runs.

use crate::bench::{Bench, lines, wait_until};
use crate::fidelity::{Case, case};
use crate::preference::{computed, sampled};
use burn::tensor::Device;
use gemma_tune::model::Inputs;
use gemma_tune::testkit::golden::{Golden, folder, l2_relative};
use gemma_tune::train::micro_batch::{MicroBatch, Rollout};
use gemma_tune::train::objective::{Grpo, GrpoLoss, Objective, Rloo, Spread, leave_one_out, relative_to_group};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::process::Stdio;
use std::sync::Arc;

/// As in the script.
const EPSILON: f64 = 0.2;
const EPSILON_HIGH: f64 = 0.3;
const CISPO_HIGH: f64 = 1.1;
const BETA: f64 = 0.3;
const TEMPERATURE: f64 = 0.7;
const LONGEST: usize = 12;
const GROUP: usize = 3;
const TOKEN_METRICS: [&str; 4] = ["kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"];

/// The golden's answers of these numbers in one micro-batch, in which each prompt stands before the answers of its group, or before
/// each answer.
fn micro_batch(golden: &Golden, answers: Range<usize>, objective_has_reference: bool, shares: bool) -> MicroBatch {
    let numbers = |name: &str| golden.values(name).iter().map(|&n| n as usize).collect::<Vec<_>>();
    let (lengths, prompts) = (numbers("lengths"), numbers("prompts"));
    let before = |sizes: &[usize], answer: usize| sizes[..answer].iter().sum::<usize>();
    let said: Vec<usize> = lengths.iter().zip(&prompts).map(|(length, prompt)| length - prompt).collect();
    let part = |name: &str, sizes: &[usize]| {
        golden.values(name)[before(sizes, answers.start)..before(sizes, answers.end)].to_vec()
    };
    let ids: Vec<u32> = golden.values("ids").iter().map(|&id| id as u32).collect();
    let sequence = |at: usize| ids[before(&lengths, at)..before(&lengths, at + 1)].split_at(prompts[at]);
    let (all, together) = (answers.clone().collect::<Vec<_>>(), if shares { GROUP } else { 1 });
    let mut labels = Vec::new();
    let groups = all.chunk_by(|one, next| one / together == next / together).map(|answers| {
        let (prompt, said) = (sequence(answers[0]).0, answers.iter().map(|&at| sequence(at).1));
        assert!(answers.iter().all(|&at| sequence(at).0 == prompt));
        labels.extend(vec![-100; prompt.len()]);
        labels.extend(said.clone().flatten().map(|&id| id as i32));
        Inputs::of(prompt.to_vec()).answered(said)
    });
    let mut batch = MicroBatch::of(Inputs::joined(groups.collect::<Vec<_>>()), &labels);
    batch.rollout = Some(Box::new(Rollout {
        advantages: golden.values("advantages")[answers.clone()].to_vec(),
        is_learnt: golden.values("learnt")[answers.clone()].iter().map(|&learnt| learnt == 1.0).collect(),
        old: part("old", &said),
        reference: if objective_has_reference { part("reference", &said) } else { Vec::new() },
    }));
    batch
}

#[test]
fn losses_of_own_answers_and_their_gradients_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("rollouts.safetensors"));
    let Case { model, adapter, .. } = case("lora", &Device::flex());
    let grpo = |loss, epsilon_high| -> Arc<dyn Objective> {
        let (beta, max_completion_length, temperature) = (BETA, LONGEST, TEMPERATURE);
        Arc::new(Grpo { loss, epsilon: EPSILON, epsilon_high, beta, max_completion_length, temperature })
    };
    let rloo: Arc<dyn Objective> =
        Arc::new(Rloo { epsilon: EPSILON, epsilon_high: EPSILON_HIGH, temperature: TEMPERATURE });
    let answers = golden.values("lengths").len();
    for (name, objective, metrics) in [
        ("dapo", grpo(GrpoLoss::Dapo, EPSILON_HIGH), &TOKEN_METRICS[..]),
        ("grpo", grpo(GrpoLoss::Grpo, EPSILON_HIGH), &TOKEN_METRICS),
        ("bnpo", grpo(GrpoLoss::Bnpo, EPSILON_HIGH), &TOKEN_METRICS),
        ("dr_grpo", grpo(GrpoLoss::DrGrpo, EPSILON_HIGH), &TOKEN_METRICS),
        ("cispo", grpo(GrpoLoss::Cispo, CISPO_HIGH), &["kl", "cispo_clip_ratio"]),
        ("rloo", rloo, &[]),
    ] {
        // However a window is divided: but of `bnpo`, whose micro-batches are averaged over one by one.
        let sizes = if name == "bnpo" { &[6][..] } else { &[6, 1, 4] };
        for &size in sizes {
            // A group's prompt is computed once or before each answer: what is learnt is the same.
            let [window, shared] = [false, true].map(|shares| -> Vec<MicroBatch> {
                let starts = (0..answers).step_by(size);
                starts.map(|at| micro_batch(&golden, at..answers.min(at + size), name != "rloo", shares)).collect()
            });
            let tokens = |window: &[MicroBatch]| window.iter().map(MicroBatch::tokens).sum::<usize>();
            let prompts = golden.values("prompts");
            let again = (0..answers).filter(|at| at % size > 0 && at % GROUP > 0);
            let again: usize = again.map(|at| prompts[at] as usize).sum();
            assert_eq!(tokens(&shared) + again, tokens(&window), "{size}");
            let of = |window: &[MicroBatch]| computed(model.as_ref(), &adapter, window, objective.clone());
            let (computed, once) = (of(&window), of(&shared));
            let what = format!("{name} in batches of {size}");
            let twice: Vec<f64> = sampled(&adapter, &computed.gradients).into_iter().map(f64::from).collect();
            let gap = l2_relative(&sampled(&adapter, &once.gradients), &twice);
            assert!(gap <= 1e-5, "{what}: with its prompt once the gradient is {gap:e} off");
            assert!((once.loss - computed.loss).abs() <= 1e-5 * computed.loss.abs(), "{what}: {}", once.loss);
            let expected = golden.values(&format!("{name}.loss"))[0];
            let loss = computed.loss;
            assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{what}: {loss}, expected {expected}");
            let gap = l2_relative(&sampled(&adapter, &computed.gradients), golden.values(&format!("{name}.gradient")));
            assert!(gap <= 1e-4, "{what}: the gradient is {gap:e} off");
            for (at, metric) in metrics.iter().enumerate() {
                let (got, expected) = (computed.metrics[*metric], golden.values(&format!("{name}.metrics"))[at]);
                assert!((got - expected).abs() <= 1e-5, "{metric} of {what}: {got} {expected}");
            }
        }
    }
}

#[test]
fn advantages_are_those_of_trl() {
    let golden = Golden::read(&folder("train").join("rollouts.safetensors"));
    let rewards = golden.values("rewards");
    for (name, got) in [
        ("group", relative_to_group(rewards, GROUP, Spread::Group)),
        ("batch", relative_to_group(rewards, GROUP, Spread::Batch)),
        ("none", relative_to_group(rewards, GROUP, Spread::None)),
        ("rloo", leave_one_out(rewards, GROUP, false)),
        ("normalized", leave_one_out(rewards, GROUP, true)),
    ] {
        let expected = golden.values(&format!("advantages.{name}"));
        let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart <= 1e-12 && got.len() == expected.len(), "{name}: {got:?}, expected {expected:?}");
    }
}

const ADAPTER: &str = "out/adapter/adapter_model.safetensors";

/// A recipe whose reward is a program: how many of an answer's characters are letters.
fn recipe(keys: &str) -> String {
    format!(
        "task: grpo
model: {{base: t}}
adapter: {{r: 4, lora_alpha: 8}}
data: {{train: prompts.jsonl, max_length: 64}}
grpo: {{num_generations: 4, max_completion_length: 8{keys}}}
rewards:
  - {{kind: program, name: letters, command: [sh, judge.sh]}}
  - {{kind: length, max: 4, unit: characters, weight: 0.5}}
training: {{per_device_train_batch_size: 2, gradient_accumulation_steps: 4, max_steps: 6, learning_rate: 1.0e-2, seed: 7}}
output: {{dir: out, save_steps: 1, save_total_limit: 10}}
"
    )
}

/// A text model with prompts, and a program that tells apart what it is given by its length; its starts are counted.
fn answering(keys: &str) -> Bench {
    let bench = Bench::new().with_text();
    let rows: Vec<Value> = (0..5).map(|i| json!({"prompt": format!("Say {i}"), "answer": i})).collect();
    bench.write("prompts.jsonl", lines(&rows));
    let judge = "echo x >> starts\necho by length >&2\nwhile read -r line; do echo $(( ${#line} * 7 % 10 )); done\n";
    bench.write("judge.sh", judge);
    bench.write("grpo.yaml", recipe(keys));
    bench
}

/// The same, evaluated by two other prompts before the first step and after every second one; the best adapter is kept.
fn examined(keys: &str) -> Bench {
    let bench = answering(keys);
    bench.write(
        "eval.jsonl",
        lines(&[json!({"prompt": "Tell 7", "answer": 7}), json!({"prompt": "Ask 88", "answer": 8})]),
    );
    let evaluation = "evaluation: {eval_steps: 2, load_best_model_at_end: true, metric_for_best_model: eval_rewards/letters/mean, samples: 1}\n";
    let with_rows = recipe(keys).replace("train: prompts.jsonl,", "train: prompts.jsonl, eval: eval.jsonl,");
    bench.write("grpo.yaml", with_rows + evaluation);
    bench
}

/// The lines of `metrics.jsonl` without what the clock decides.
fn metrics(bench: &Bench) -> Vec<Map<String, Value>> {
    let line = |line: &str| {
        let mut object: Map<String, Value> = serde_json::from_str(line).expect("a whole line");
        object.remove("tokens_per_second");
        object
    };
    bench.text("out/metrics.jsonl").lines().map(line).collect()
}

fn starts(bench: &Bench) -> usize {
    bench.text("starts").lines().count()
}

const EVALUATED: &str = "out/eval_rewards.jsonl";

/// After how many steps each answer to an evaluation prompt was given.
fn evaluated_after(bench: &Bench) -> Vec<u64> {
    let text = bench.text(EVALUATED);
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect()
}

#[test]
#[cfg(unix)]
fn a_run_learns_from_its_own_answers_and_goes_on_where_it_was_killed() {
    // Two updates by the same answers, so that a run may be killed between them; measured against its start.
    let keys = ", num_iterations: 2, beta: 0.1, log_completions: true, num_completions_to_print: 1";
    let reference = examined(keys);
    let said = reference.run("train grpo.yaml");
    assert!(said.stderr.contains("[reward ") && said.stderr.contains("letters"), "{}", said.stderr);
    assert!(said.stderr.contains(" of 8 answers of at most 8 tokens after about "), "{}", said.stderr);
    assert!(!said.stderr.contains("Loss of the base model"), "{}", said.stderr);
    // What it says to people, once.
    assert!(
        said.stderr.contains("Reward `letters` says beside its numbers, which is shown once:\n  | by length\n"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stderr.matches("by length").count(), 1, "{}", said.stderr);
    said.ok();
    let all = metrics(&reference);
    let (evaluations, steps): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|line| line.contains_key("eval_tokens"));
    assert_eq!((steps.len(), evaluations.len()), (6, 4));
    for step in &steps {
        let number = |name: &str| step[name].as_f64().unwrap_or_else(|| panic!("no {name} in {step:?}"));
        let [letters, length] = ["letters", "length"].map(|name| number(&format!("rewards/{name}/mean")));
        assert!((number("reward") - letters - 0.5 * length).abs() < 1e-9, "{step:?}");
        assert!((1.0..=9.0).contains(&number("completions/mean_length")) && number("kl") >= 0.0, "{step:?}");
        assert!((0.0..=1.0).contains(&number("completions/clipped_ratio")), "{step:?}");
        assert!(
            number("reward_std") >= 0.0 && number("frac_reward_zero_std") <= 1.0 && number("grad_norm").is_finite()
        );
    }
    assert!(steps[0]["kl"].as_f64().unwrap().abs() < 1e-6 && steps[5]["kl"].as_f64().unwrap() > 0.0, "{steps:?}");
    // A program is asked once for the answers of a draw, and once for those of an evaluation, each of which has its file.
    assert_eq!((starts(&reference), reference.text("out/rewards.jsonl").lines().count()), (3 + 4, 20));
    assert_eq!(evaluated_after(&reference), [[0; 8], [2; 8], [4; 8], [6; 8]].concat());
    let number =
        |line: &Map<String, Value>, name: &str| line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line:?}"));
    let mut best = &evaluations[0];
    for (line, step) in evaluations.iter().zip([0, 2, 4, 6]) {
        assert!(line["step"] == step && !line.contains_key("eval_loss"), "{line:?}");
        let [letters, length] = ["letters", "length"].map(|name| number(line, &format!("eval_rewards/{name}/mean")));
        assert!((number(line, "eval_reward") - letters - 0.5 * length).abs() < 1e-9, "{line:?}");
        assert!(number(line, "eval_kl").is_finite() && number(line, "eval_completions/mean_length") >= 1.0, "{line:?}");
        if letters > number(best, "eval_rewards/letters/mean") {
            best = line;
        }
    }
    assert!(number(&evaluations[0], "eval_kl").abs() < 1e-6 && number(&evaluations[3], "eval_kl") > 0.0);
    let summary: Value = serde_json::from_slice(&reference.read("out/summary.json")).unwrap();
    assert_eq!((&summary["best_eval"]["step"], &summary["adapter_step"]), (&best["step"], &best["step"]));
    assert_eq!(summary["best_eval"]["eval_reward"], best["eval_reward"]);
    assert!(summary["base_loss"].is_null(), "{summary}");
    // Rewards are drawn, and no losses, with which such a run says little.
    let (card, picture) = (reference.text("out/adapter/README.md"), reference.text("out/adapter/rewards.svg"));
    assert!(card.contains("![Reward by step](rewards.svg)") && picture.contains(">eval_reward</text>"), "{card}");
    assert!(!reference.path("out/adapter/losses.svg").exists());
    // The same answers are drawn of the base, and of the adapter that was kept.
    let report = reference.run("evaluate grpo.yaml --adapter out --output rows.jsonl --json").json();
    let reward = report["metrics"].as_array().unwrap().iter().find(|metric| metric["metric"] == "reward").unwrap();
    for (value, line) in reward["values"].as_array().unwrap().iter().zip([&evaluations[0], best]) {
        assert!((value["value"].as_f64().unwrap() - number(line, "eval_reward")).abs() < 1e-6, "{report}");
    }
    let rows = reference.text("rows.jsonl");
    let row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!((rows.lines().count(), row["rewards"][1].as_array().unwrap().len()), (2, 4), "{rows}");

    // Killed once two draws are judged; what a line was being written of is dropped.
    let killed = examined(keys);
    let mut child = killed.command("train grpo.yaml").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let judged = || {
        let all = std::fs::read(killed.path("out/rewards.jsonl")).unwrap_or_default();
        all.iter().filter(|byte| **byte == b'\n').count()
    };
    wait_until(&mut child, || judged() >= 16);
    let _ = child.kill();
    child.wait().unwrap();
    if !killed.path("out/summary.json").exists() {
        killed.edit("out/rewards.jsonl", |bytes| bytes.extend(b"{\"step\": 7, \"pro"));
    }
    killed.run("train out/recipe.yaml --resume").ok();
    let same = |bench: &Bench| {
        for file in [ADAPTER, "out/rewards.jsonl", EVALUATED] {
            assert!(bench.read(file) == reference.read(file), "{file} differs");
        }
        assert_eq!(metrics(bench), all);
    };
    same(&killed);
    // Between the two updates by the same answers: these are in the journal, and so are those of two evaluations: none is judged again.
    for step in 4..=6 {
        std::fs::remove_dir_all(killed.path(&format!("out/checkpoints/step-{step}"))).unwrap();
    }
    std::fs::remove_dir_all(killed.path("out/adapter")).unwrap();
    std::fs::remove_file(killed.path("out/summary.json")).unwrap();
    let before = starts(&killed);
    let said = killed.run("train out/recipe.yaml --resume");
    assert!(said.stderr.contains("Resuming after step 3"), "{}", said.stderr);
    said.ok();
    same(&killed);
    assert_eq!(starts(&killed), before);

    // What a program cannot judge ends the run with all that was done, which then goes on.
    let broken = examined(keys);
    broken.write("judge.sh", "echo x >> starts\ntest $(wc -l < starts) -lt 4 && while read -r line; do echo $(( ${#line} * 7 % 10 )); done\n");
    let said = broken.run("train grpo.yaml");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    for part in ["reward `letters`: `sh judge.sh` failed", "an answer to", "prompts.jsonl, row", "--resume"] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(broken.path("out/checkpoints/step-2").is_dir());
    broken.write("judge.sh", "while read -r line; do echo $(( ${#line} * 7 % 10 )); done\n");
    broken.run("train out/recipe.yaml --resume").ok();
    assert!(broken.read(ADAPTER) == reference.read(ADAPTER), "the adapters differ");
}

#[test]
#[cfg(unix)]
fn rewards_are_asked_once_for_each_part_of_an_evaluation_however_often_the_run_is_killed() {
    // As many answers to an evaluation prompt as a step has: rewards are asked for one prompt after the other.
    let keys = ", num_generations_eval: 8, beta: 0.1";
    let reference = examined(keys);
    reference.run("train grpo.yaml").ok();
    assert_eq!((starts(&reference), evaluated_after(&reference).len()), (6 + 4 * 2, 4 * 16));
    // Killed before the first step, after a prompt of the evaluation there and within the line of another; and within that after the last.
    let left = |bench: &Bench, whole: usize, torn: usize| {
        let text = reference.text(EVALUATED);
        let end: usize = text.split_inclusive('\n').take(whole).map(str::len).sum();
        bench.write(EVALUATED, &text[..end + torn]);
    };
    let unfinished = |bench: &Bench, checkpoints: &str| {
        std::fs::remove_dir_all(bench.path(checkpoints)).unwrap();
        std::fs::remove_dir_all(bench.path("out/adapter")).unwrap();
        std::fs::remove_file(bench.path("out/summary.json")).unwrap();
    };
    let [begun, at_end] = [(), ()].map(|()| examined(keys));
    for (bench, checkpoints, whole, torn) in
        [(&begun, "out/checkpoints", 8, 20), (&at_end, "out/checkpoints/step-6", 48 + 8 + 3, 0)]
    {
        bench.run("train grpo.yaml").ok();
        unfinished(bench, checkpoints);
        left(bench, whole, torn);
        bench.run("train out/recipe.yaml --resume").ok();
    }
    for (bench, again) in [(&begun, 4 * 2 - 1), (&at_end, 1)] {
        for file in [ADAPTER, "out/rewards.jsonl", EVALUATED] {
            assert!(bench.read(file) == reference.read(file), "{file} differs");
        }
        assert_eq!((metrics(bench), starts(bench)), (metrics(&reference), starts(&reference) + again));
    }

    // What was edited there is not taken, and what is no answer at all is named.
    unfinished(&at_end, "out/checkpoints/step-6");
    at_end.edit(EVALUATED, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (kept, last) = text.trim_end().rsplit_once('\n').unwrap();
        let mut line: Value = serde_json::from_str(last).unwrap();
        line["reward"] = json!(100.0);
        *bytes = format!("{kept}\n{line}\n").into_bytes();
    });
    at_end.run("train out/recipe.yaml --resume").ok();
    assert_eq!(starts(&at_end), starts(&reference) + 2);
    assert!(at_end.read(EVALUATED) == reference.read(EVALUATED));
    std::fs::remove_file(at_end.path("out/summary.json")).unwrap();
    at_end.edit(EVALUATED, |bytes| bytes.splice(..0, *b"{}\n").for_each(drop));
    let said = at_end.run("train out/recipe.yaml --resume");
    assert!(said.code != Some(0) && said.stderr.contains("eval_rewards.jsonl"), "{}", said.stderr);
    assert!(said.stderr.contains("a line is no answer of this run"), "{}", said.stderr);
}

/// Two steps' worth of numbers for eight answers.
#[cfg(feature = "hub")]
const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n[1, 2, 3, 4, 5, 0, 1, 2.0]";

/// A server that gives these answers, one after the other, each on a connection of its own; where it is, and what it was sent.
#[cfg(feature = "hub")]
fn server(replies: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/judge", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let serve = |reply: &&str| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
            loop {
                let count = stream.read(&mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
                if count == 0 || body.len() >= length.unwrap().trim().parse().unwrap() {
                    stream.write_all(reply.as_bytes()).unwrap();
                    return text;
                }
            }
        };
        replies.iter().map(serve).collect()
    });
    (url, served)
}

#[test]
#[cfg(all(unix, feature = "hub"))]
fn rloo_takes_what_the_policy_has_moved_from_rewards() {
    let bench = answering("");
    let (url, requests) = server(&["HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", TWO, TWO]);
    let served = format!(
        "rewards:\n  - {{kind: http, name: served, url: '{url}?a=$JUDGE_TOKEN', headers: {{Authorization: 'Bearer $JUDGE_TOKEN'}}}}"
    );
    let rloo = recipe("").replace("task: grpo", "task: rloo").replace("max_steps: 6", "max_steps: 2");
    bench.write("grpo.yaml", rloo.replace("rewards:", &served));
    let said = bench.run("train grpo.yaml --set output.dir=other");
    assert!(said.code == Some(2) && said.stderr.contains("the variable `JUDGE_TOKEN` of"), "{}", said.stderr);
    let said = bench.said(bench.command("train grpo.yaml").env("JUDGE_TOKEN", "very-secret"));
    assert!(!said.stderr.contains("very-secret"), "{}", said.stderr);
    said.ok();
    // A server says the numbers of all answers of a step, once it has time; who asks, nobody hears of beside it.
    let requests = requests.join().unwrap();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(request.to_lowercase().contains("authorization: bearer very-secret"), "{request}");
        assert_eq!(request.matches("\"completion\":").count(), 8, "{request}");
    }
    for file in ["out/rewards.jsonl", "out/recipe.yaml", "out/summary.json", "out/metrics.jsonl"] {
        assert!(!bench.text(file).contains("very-secret"), "{file}");
    }
    let steps = metrics(&bench);
    let number = |step: usize, name: &str| steps[step][name].as_f64().unwrap_or_else(|| panic!("no {name}: {steps:?}"));
    assert_eq!((number(0, "rewards/served/mean"), number(1, "rewards/served/mean")), (2.25, 2.25));
    assert!(number(0, "kl").abs() < 1e-3 && number(1, "kl").is_finite(), "{steps:?}");
    assert!((number(0, "clip_ratio/region_mean"), number(1, "clip_ratio/region_mean")) == (0.0, 0.0));
    assert!(bench.text("out/recipe.yaml").contains("beta: 0.05"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_ends_with_a_run_that_is_asked_to_end() {
    // Once: the run stops by itself; twice at once: it ends whatever it does.
    for signals in [&["-TERM"][..], &["-INT", "-TERM"]] {
        let bench = answering("");
        bench.write("judge.sh", "sleep 300 & echo $! > child; echo $$ > judge; wait\n");
        let mut run = bench.command("train grpo.yaml").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let noted = |name: &str| std::fs::read_to_string(bench.path(name)).unwrap_or_default().trim().to_owned();
        let ended = wait_until(&mut run, || !noted("judge").is_empty());
        assert!(ended.is_none(), "{ended:?}");
        for signal in signals {
            let sent = std::process::Command::new("kill").args([*signal, &run.id().to_string()]).status();
            // A run that has heard the first may be gone before the second.
            assert!(sent.unwrap().success() || *signal == "-TERM");
        }
        let code = run.wait().unwrap().code();
        assert!([Some(1), Some(3)].contains(&code), "{code:?}");
        for name in ["judge", "child"] {
            let stat = format!("/proc/{}/stat", noted(name));
            // What nobody has waited for yet is a zombie.
            let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
            let asked = std::time::Instant::now();
            while runs() && asked.elapsed().as_secs() < 20 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert!(!runs(), "{name} runs on after {signals:?}");
        }
    }
}

#[test]
fn rows_that_a_reward_cannot_read_are_named_before_weights_are_loaded() {
    let bench = answering("");
    let keys = recipe("")
        .replace("{kind: program, name: letters, command: [sh, judge.sh]}", "{kind: exact_match, column: solution}");
    bench.write("grpo.yaml", keys);
    let said = bench.run("train grpo.yaml");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("reward `exact_match` cannot judge answers to the row: it has no column `solution`"),
        "{}",
        said.stderr
    );
    let checked = bench.run("recipe check grpo.yaml");
    assert!(checked.stderr.contains("it has no column `solution`"), "{}", checked.stderr);
    assert!(checked.stderr.contains("prompts.jsonl, row 1"), "{}", checked.stderr);
    // What they name beside the rows is looked for as well, and named by its key and line.
    let rewards = "{kind: program, command: [no-such-judge, a]}\n  - {kind: model, name: a, adapter: nowhere}\n  \
                   - {kind: json_schema, schema_file: s.json}\n  \
                   - {kind: program, name: b, command: [./judge.sh]}\n  - {kind: program, name: c, command: ['sh judge.sh']}";
    let rewards = recipe("").replace("{kind: program, name: letters, command: [sh, judge.sh]}", rewards);
    bench.write("missing.yaml", rewards);
    bench.write("s.json", r#"{"properties": {"a": {"type": "strin"}}}"#);
    for asked in ["recipe check missing.yaml", "train missing.yaml"] {
        let said = bench.run(asked);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        for part in [
            "there is no program `no-such-judge` in the PATH",
            "missing.yaml:7:",
            "missing.yaml:8:",
            "missing.yaml:9:",
            "`s.json`, at `/properties/a/type`",
            "`./judge.sh` is a file that may not be run",
            "there is no program `sh judge.sh` in the PATH",
            "`[sh, judge.sh]`",
        ] {
            assert!(said.stderr.contains(part), "{asked}: {part}: {}", said.stderr);
        }
    }
    let said = bench.run("train grpo.yaml --set data.max_length=12");
    assert!(said.stderr.contains("the prompt has") && said.stderr.contains("there is room for 4"), "{}", said.stderr);
}

#[test]
fn the_estimate_counts_a_prompt_once_for_the_answers_that_share_it() {
    let bench = answering("");
    let of = |batch: usize, accumulation: usize| {
        let sets =
            format!("per_device_train_batch_size={batch} --set training.gradient_accumulation_steps={accumulation}");
        let said = bench.run(&format!("estimate grpo.yaml --no-probe --json --set training.{sets}")).json();
        (
            said["tokens"].as_u64().unwrap(),
            said["tokens_per_step"].as_u64().unwrap(),
            said["memory_bytes"].as_u64().unwrap(),
        )
    };
    // 56 tokens of a prompt and 8 of each answer, in groups of 4.
    let [one, two, group, all] = [of(1, 8), of(2, 4), of(4, 2), of(8, 1)];
    assert_eq!([one.0, two.0, group.0, all.0], [64, 72, 88, 176]);
    assert_eq!([one.1, two.1, group.1, all.1], [512, 288, 176, 176]);
    assert!(one.2 < two.2 && two.2 < group.2, "{one:?} {two:?} {group:?}");
}
