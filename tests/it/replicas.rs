//! Several devices share out a step: shown with replicas on the CPU, of one thread each.

use crate::bench::{Bench, Said, wait_until};
use serde_json::{Map, Value, json};
use std::process::{Command, Stdio};

/// Five micro-batches a step, which neither two nor four replicas share out evenly; dropout, and a norm that is clipped.
const FIVE: &str = "--set training.gradient_accumulation_steps=5 --set training.max_grad_norm=0.05";

/// The program, one thread for each replica.
fn command(bench: &Bench, args: &str) -> Command {
    let mut command = bench.command(args);
    command.env("RAYON_NUM_THREADS", "1");
    command
}

fn run(bench: &Bench, args: &str) -> Said {
    bench.said(&mut command(bench, args))
}

/// The lines of a run's `metrics.jsonl` without what the clock decides.
fn metrics(bench: &Bench, dir: &str) -> Vec<Map<String, Value>> {
    let line = |line: &str| {
        let mut object: Map<String, Value> = serde_json::from_str(line).expect("a whole line");
        object.remove("tokens_per_second");
        object
    };
    bench.text(&format!("{dir}/metrics.jsonl")).lines().map(line).collect()
}

fn adapter(bench: &Bench, dir: &str) -> Vec<u8> {
    bench.read(&format!("{dir}/adapter/adapter_model.safetensors"))
}

fn summary(bench: &Bench, dir: &str) -> Value {
    serde_json::from_slice(&bench.read(&format!("{dir}/summary.json"))).expect("JSON")
}

#[test]
fn any_number_of_replicas_trains_the_same_bytes() {
    let bench = Bench::new();
    for how in ["false", "true"] {
        let train = |dir: &str, device: &str| {
            let settings = format!("--set training.max_steps=6 --set training.activation_checkpointing={how}");
            let said = run(&bench, &format!("train r.yaml {FIVE} {settings} --set output.dir={dir} --device {device}"));
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            said.stderr
        };
        let one = format!("one-{how}");
        assert!(!train(&one, "cpu").contains("replicas"));
        let mut norms = metrics(&bench, &one).into_iter().filter_map(|line| line.get("grad_norm")?.as_f64());
        assert!(norms.any(|norm| norm > 0.05), "no norm is clipped");
        for (count, device) in [(2, "cpu,cpu"), (4, "cpu,cpu,cpu,cpu")] {
            let dir = format!("{count}-{how}");
            let stderr = train(&dir, device);
            let shared_out =
                format!("{count} replicas ({device}), 1 thread each, share out the 5 micro-batches of a step");
            assert!(stderr.contains(&shared_out), "{stderr}");
            assert!(adapter(&bench, &dir) == adapter(&bench, &one), "{device}: another adapter than on one replica");
            assert_eq!(metrics(&bench, &dir), metrics(&bench, &one), "{device}");
            let summary = summary(&bench, &dir);
            assert_eq!((&summary["device"], &summary["threads"]), (&json!(device), &json!(count)));
            assert_eq!(summary["devices"], json!(vec!["cpu"; count]));
            assert!(summary["tokens_per_second"].as_f64() > Some(0.0), "{summary}");
        }
    }
    assert_eq!(summary(&bench, "one-true")["devices"], json!(["cpu"]));
}

#[test]
fn replicas_without_work_are_said_once_and_change_nothing() {
    let bench = Bench::new();
    let train = |dir: &str, device: &str| {
        let settings = "--set training.gradient_accumulation_steps=1 --set training.max_steps=4";
        let said = run(&bench, &format!("train r.yaml {settings} --set output.dir={dir} --device {device}"));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stderr
    };
    train("one", "cpu");
    let stderr = train("three", "cpu,cpu,cpu");
    assert_eq!(stderr.matches("2 of 3 never have anything to do").count(), 1, "{stderr}");
    assert!(adapter(&bench, "three") == adapter(&bench, "one"));
    let warnings = summary(&bench, "three")["warnings"].to_string();
    assert!(warnings.contains("2 of 3 never have anything to do"), "{warnings}");
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_with_another_number_of_replicas_to_the_same_bytes() {
    let (bench, reference) = (Bench::new(), Bench::new());
    let train = format!("train r.yaml {FIVE} --set training.max_steps=40");
    run(&reference, &format!("{train} --device cpu")).ok();

    let lines =
        || std::fs::read(bench.path("out/metrics.jsonl")).map_or(0, |bytes| bytes.split(|b| *b == b'\n').count());
    let stopped = |args: &str, past: usize, signal: &str| {
        let mut child =
            command(&bench, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        assert_eq!(wait_until(&mut child, || lines() > past), None, "the run ended too early");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        child.wait().expect("a status").code()
    };
    assert_eq!(stopped(&format!("{train} --device cpu,cpu"), 5, "-INT"), Some(3), "Ctrl-C saves, and exits 3");
    assert_eq!(stopped(&format!("{train} --resume --device cpu,cpu,cpu,cpu"), 18, "-KILL"), None);
    let resumed = run(&bench, &format!("{train} --resume --device cpu"));
    assert!(resumed.stderr.contains("Resuming after step"), "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("This run was computed on cpu,cpu,cpu,cpu so far, and goes on with cpu."),
        "{}",
        resumed.stderr
    );
    resumed.ok();
    assert!(adapter(&bench, "out") == adapter(&reference, "out"), "the adapters differ");
    assert_eq!(metrics(&bench, "out"), metrics(&reference, "out"));
}

#[test]
fn a_list_that_names_no_devices_exits_2_and_says_what_would() {
    let bench = Bench::new();
    for (list, what, hint) in [
        ("cpu,tpu", "`tpu` is not a device", "several: cuda:0,1 or cpu,cpu"),
        ("cpu:0,1", "`cpu:0` is not a device", "`cpu,cpu` are two replicas"),
        ("cpu,", "`` is not a device", "several: cuda:0,1 or cpu,cpu"),
        ("cpu,cuda:0", "`cpu` and `cuda` do not share a run", "devices of one kind"),
        ("cuda:0,0", "`cuda:0` is named twice", "name each once"),
        ("cpu,auto", "`auto` is one device", "name each device"),
    ] {
        for verb in ["train", "estimate"] {
            let said = bench.run(&format!("{verb} r.yaml --device {list}"));
            assert_eq!(said.code, Some(2), "{verb} {list}: {}", said.stderr);
            let problem = said.problem();
            assert!(problem.contains(what) && problem.contains(hint), "{verb} {list}: {problem}");
            assert!(problem.contains(&format!("--device {list}")), "{verb} {list}: {problem}");
        }
        assert!(!bench.path("out").exists(), "{list}");
    }
    let said = bench.run("doctor --device cpu,cpu");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("is several devices") && said.problem().contains("`train` and `estimate`"));
}

#[test]
fn the_estimate_counts_what_each_replica_keeps() {
    let bench = Bench::new();
    let of = |args: &str| bench.run(&format!("estimate r.yaml --json --no-probe {args}"));
    let (one, two) = (of("--device cpu").json(), of("--device cpu,cpu").json());
    assert_eq!((&two["device"], &two["devices"]), (&json!("cpu,cpu"), &json!(["cpu", "cpu"])));
    assert_eq!(one["devices"], json!(["cpu"]));
    let part = |forecast: &Value, name: &str| forecast["memory"][name].as_u64().unwrap_or_else(|| panic!("{name}"));
    for name in ["base_bytes", "optimizer_bytes"] {
        assert_eq!(part(&two, name), part(&one, name), "{name} is shared");
    }
    for name in ["activation_bytes", "loss_bytes"] {
        assert_eq!(part(&two, name), 2 * part(&one, name), "{name} is of each");
    }
    // Gradients of the sum and of two micro-batches, where one replica adds each to the sum at once.
    let trained = one["trainable_parameters"].as_u64().expect("a number");
    assert_eq!(part(&two, "adapter_bytes"), part(&one, "adapter_bytes") + 2 * 4 * trained);

    // The run plans with the same numbers.
    let planned = bench.run("train r.yaml --set data.packing=true --device cpu,cpu --dry-run --json").json();
    let forecast = of("--set data.packing=true --device cpu,cpu").json();
    assert_eq!(planned["plan"]["memory"], forecast["memory"]);
    assert_eq!(planned["plan"]["devices"], json!(["cpu", "cpu"]));

    // Two micro-batches a step: a third replica is idle, and takes nothing.
    let said = of("--device cpu,cpu,cpu");
    assert!(said.stderr.contains("1 of 3 never have anything to do"), "{}", said.stderr);
    assert_eq!(said.json()["memory"], two["memory"]);
}
