//! `serve --route`: chats that another server answers, a stand-in on loopback.

use crate::bench::{Bench, lines};
use crate::serve::{Answer, CHAT, Served, asking, generated};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What was asked of it: heads, in small letters, and bodies.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

const KEY: &str = "s3cret-of-the-upstream";
const FAILS: &str = "fail";
const REFUSED: &str = "refuse";

/// A server that answers chats with `"from": "upstream"`, and none that says [`FAILS`] or [`REFUSED`]; its address.
fn upstream(asked: Asked) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a connection"), &asked);
        }
    });
    url
}

fn answer(mut stream: TcpStream, asked: &Asked) {
    let (mut head, mut reader) = (String::new(), BufReader::new(stream.try_clone().expect("a connection")));
    while reader.read_line(&mut head).expect("a head") > 2 {}
    let head = head.to_lowercase();
    if head.starts_with("get /v1/models ") {
        let list = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\": [{\"id\": \"large\"}]}";
        stream.write_all(list.as_bytes()).expect("a client");
        return;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let says = |word: &str| body["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with(word));
    let (fails, refuses, streams) = (says(FAILS), says(REFUSED), body["stream"] == true);
    asked.lock().expect("a list").push((head, body));
    let (status, kind, said) = match (fails, streams) {
        (true, _) => ("500 No", "application/json", "{}"),
        (false, _) if refuses => ("400 No", "application/json", "{}"),
        (false, true) => ("200 OK", "text/event-stream", "data: {\"from\": \"upstream\"}\n\ndata: [DONE]\n\n"),
        (false, false) => ("200 OK", "application/json", "{\"from\": \"upstream\", \"choices\": []}"),
    };
    let reply = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{said}");
    stream.write_all(reply.as_bytes()).expect("a client");
}

/// A server with rules, whose talk is in the file `log`.
fn start(bench: &Bench, log: &str) -> Served {
    let talk = File::create(bench.path(log)).expect("a file");
    let prepare = |command: &mut Command| {
        command.env("UPSTREAM_API_KEY", KEY).stderr(talk);
    };
    Served::start_with(bench, "--model t --route rules.yaml", prepare)
}

fn chat(served: &Served, text: &str, more: Value) -> Answer {
    let body = asking("t", text, more).to_string();
    served.ask("POST", CHAT, "Content-Type: application/json\r\nAuthorization: Bearer clients-own\r\n", &body)
}

/// Who gave an answer.
fn from(answer: &Answer) -> Option<&str> {
    answer.head.lines().find_map(|line| line.strip_prefix("x-gemma-tune-route: "))
}

const RECIPE: &str = "\
task: reward
model: {base: t}
adapter: {r: 4}
data: {train: routing.jsonl, eval: routing.jsonl, format: unpaired}
training:
  max_steps: 12
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-2
  lr_scheduler_type: constant
  warmup_steps: 0
output: {dir: router, report_to: [jsonl]}
";

#[test]
fn chats_are_answered_here_or_elsewhere() {
    let bench = Bench::new().with_text();
    let row = |i: usize| match i % 2 {
        0 => json!({"prompt": "Hi", "label": "local"}),
        _ => {
            json!({"prompt": [{"role": "user", "content": format!("What is {i} to the power of {i}?")}], "label": "remote"})
        }
    };
    bench.write("routing.jsonl", lines(&(0..8).map(row).collect::<Vec<_>>()));
    bench.write("router.yaml", RECIPE);
    let preview = bench.run("data preview router.yaml --rows 1 --json").json();
    assert!(
        preview["format"].as_str().is_some_and(|format| format.contains("unpaired: a prompt for here")),
        "{preview}"
    );
    let said = bench.run("train router.yaml");
    assert!(!said.stderr.contains("Loss of the base model"), "another loss than the run's: {}", said.stderr);
    let next = "next: gemma-tune evaluate router/recipe.yaml --adapter router/adapter\nthen: gemma-tune serve --model t --route rules.yaml, ";
    assert!(said.stderr.contains(next), "{}", said.stderr);
    said.ok();
    let summary: Value = serde_json::from_str(&bench.text("router/summary.json")).expect("JSON");
    assert!(summary["base_loss"].is_null(), "{summary}");
    let metrics = bench.text("router/metrics.jsonl");
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let losses: Vec<f64> = metrics.iter().filter_map(|line| line["loss"].as_f64()).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(losses.len() == 12 && least < losses[0], "{losses:?}");
    let evaluated = metrics.iter().rfind(|line| line["eval_loss"].is_number()).expect("an evaluation");
    assert!(evaluated["eval_accuracy"].is_number() && evaluated["eval_margin"].is_null(), "{evaluated}");

    // What tells them apart is measured, and a threshold suggested in the unit that rules have.
    let report = bench.run("evaluate router.yaml --adapter router --output judged.out --json").json();
    let names: Vec<&str> =
        report["metrics"].as_array().expect("metrics").iter().filter_map(|metric| metric["metric"].as_str()).collect();
    assert_eq!(names, ["accuracy", "auc", "mean_reward"]);
    assert!(report["metrics"].as_array().expect("metrics").iter().all(|metric| metric["rows"] == 8), "{report}");
    let accuracy = report["metrics"][0]["values"][0]["value"].as_f64().expect("a number");
    assert!((accuracy - evaluated["eval_accuracy"].as_f64().expect("a number")).abs() < 1e-6, "{report} {evaluated}");
    let found = &report["thresholds"][0];
    assert_eq!((&found["rows"], &found["good"], &found["are_prompts"]), (&json!(8), &json!(4), &json!(true)));
    let judged: Vec<Value> =
        bench.text("judged.out").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let share_here = |at: f64| judged.iter().filter(|row| row["scores"][0].as_f64() >= Some(at)).count() as f64 / 8.0;
    for cut in found["cuts"].as_array().expect("cuts") {
        assert_eq!(cut["accepted"].as_f64(), cut["threshold"].as_f64().map(share_here), "{found}");
    }
    assert!(judged.iter().step_by(2).all(|row| row["label"] == true), "{judged:?}");
    let shown = bench.run("evaluate router.yaml --adapter router");
    assert!(shown.stderr.contains("Warning: of 8 rows 4 are for here and 4 for elsewhere"), "{}", shown.stderr);
    let shown = shown.ok();
    assert!(
        shown.contains("thresholds of router/adapter (8 rows: 4 for here, 4 for elsewhere)\n  threshold "),
        "{shown}"
    );
    if let Some(threshold) = found["suggested"].as_f64() {
        assert!(
            shown.contains(&format!("  suggested: `threshold: {threshold}` in the rules of `serve --route`")),
            "{shown}"
        );
    }
    // The same of rows that no recipe names; rows without labels tell nothing.
    let of_file =
        "evaluate --model t --adapter router --input routing.jsonl --set task=reward --set data.format=unpaired --json";
    let of_file = bench.run(of_file).json()["thresholds"][0].clone();
    assert_eq!((&of_file["rows"], &of_file["good"], &of_file["are_prompts"]), (&json!(8), &json!(4), &json!(true)));
    let unlabelled = bench.run("evaluate --model t --adapter router --input chats.jsonl");
    assert_eq!(unlabelled.code, Some(2), "{}", unlabelled.stderr);
    assert!(unlabelled.problem().contains("measured on rows that somebody has judged"), "{}", unlabelled.stderr);

    // Whoever nothing is good enough for asks elsewhere.
    let asked = Asked::default();
    let to = format!("upstream: {{url: '{}', api_key_env: UPSTREAM_API_KEY, model: large}}\n", upstream(asked.clone()));
    bench.write("rules.yaml", format!("{to}classifier: {{adapter: router, threshold: 1}}\n"));
    let unset = bench.run("serve --port 0 --model t --route rules.yaml");
    assert_eq!(unset.code, Some(2), "{}", unset.stderr);
    assert!(unset.stderr.contains("`upstream.api_key_env` must name a variable that is set"), "{}", unset.stderr);
    let served = start(&bench, "log");
    let whole = chat(&served, "A secret question", json!({"seed": 7}));
    assert_eq!((from(&whole), whole.ok()), (Some("remote"), json!({"from": "upstream", "choices": []})));
    let streamed = chat(&served, "A secret question", json!({"stream": true}));
    assert_eq!(from(&streamed), Some("remote"));
    assert!(streamed.head.contains("content-type: text/event-stream"), "{}", streamed.head);
    assert_eq!(streamed.body, "data: {\"from\": \"upstream\"}\n\ndata: [DONE]\n\n");
    let here = chat(&served, FAILS, json!({}));
    assert_eq!(from(&here), Some("local"));
    assert_eq!(crate::serve::said(&here.ok()["choices"][0]), generated(&bench, "", FAILS));
    let text = json!({"model": "t", "prompt": "Hi", "max_tokens": 2}).to_string();
    assert_eq!(from(&served.ask("POST", "/v1/completions", "", &text)), None, "texts are gone on with here");
    {
        let asked = asked.lock().expect("a list");
        let (head, body) = &asked[0];
        assert!(head.contains(&format!("authorization: bearer {KEY}\r\n")) && !head.contains("clients-own"), "{head}");
        assert!(!head.contains("gemma-tune-route") && !head.contains("cookie"), "{head}");
        let mut sent = asking("t", "A secret question", json!({"seed": 7}));
        sent["model"] = json!("large");
        assert_eq!((body, asked.len()), (&sent, 3));
    }
    for (name, count) in [
        ("gemma_tune_routed_total{to=\"local\"}", 1),
        ("gemma_tune_routed_total{to=\"remote\"}", 2),
        ("gemma_tune_route_failures_total", 1),
    ] {
        assert_eq!(served.figure(name), count, "{name}");
    }
    assert_eq!(served.end(), Some(0));
    let log = bench.text("log");
    assert_eq!(log.matches("routed: `t` to remote: score ").count(), 3, "{log}");
    assert!(log.contains("routed: `t` to local: the upstream gave no answer: it answered 500"), "{log}");
    assert!(!log.contains("secret") && !log.contains(KEY), "{log}");
    // As `score` judges it, of which this is the sigmoid.
    bench.write("ask.jsonl", lines(&[json!({"prompt": "A secret question", "label": "local"})]));
    let scored = bench.run("score --model t --adapter router --input ask.jsonl").ok();
    let reward = serde_json::from_str::<Value>(scored.trim()).expect("JSON")["reward"].as_f64().expect("a reward");
    let told = log.split("to remote: score ").nth(1).and_then(|rest| rest.split(',').next()?.parse::<f64>().ok());
    let told = told.expect("a score");
    assert!((told - 1.0 / (1.0 + (-reward).exp())).abs() < 1e-3, "{told} {reward}");

    // What is too large for this model is for the other, whatever the rules would choose.
    bench.write("rules.yaml", format!("{to}classifier: {{adapter: router, threshold: 0}}\n"));
    let served = start(&bench, "log");
    let long = |begin: &str| format!("{begin} {}", "word ".repeat(400));
    let before = asked.lock().expect("a list").len();
    let remote = chat(&served, &long("A secret"), json!({}));
    assert_eq!((from(&remote), remote.ok()), (Some("remote"), json!({"from": "upstream", "choices": []})));
    let (status, code, param, message) = chat(&served, &long(REFUSED), json!({})).problem();
    assert_eq!((status, code.as_str(), param.as_str()), (400, "context_length_exceeded", "messages"));
    assert!(message.contains("the model takes 256; who is asked instead gave no answer: it answered 400"), "{message}");
    let (status, .., message) = chat(&served, &long(FAILS), json!({"stream": true})).problem();
    assert!(status == 502 && message.ends_with("it answered 500"), "{status} {message}");
    let remote = chat(&served, "Hi", json!({"max_tokens": 300}));
    assert_eq!((from(&remote), asked.lock().expect("a list").len()), (Some("remote"), before + 4));
    let remotes = served.figure("gemma_tune_routed_total{to=\"remote\"}");
    assert_eq!((remotes, served.figure("gemma_tune_route_failures_total")), (2, 2));
    drop(served);
    let log = bench.text("log");
    assert!(log.contains("routed: `t` to remote: the prompt has ") && !log.contains("secret"), "{log}");
    assert!(log.contains("routed: `t` to nobody: the upstream gave no answer: it answered 500"), "{log}");

    // Whoever everything is good enough for asks nobody, and reads what was learnt from.
    bench.write("rules.yaml", format!("{to}classifier: {{adapter: router/adapter, threshold: 0}}\n"));
    let served = start(&bench, "log");
    let here = chat(&served, "Hi", json!({}));
    assert_eq!((from(&here), asked.lock().expect("a list").len()), (Some("local"), before + 4));
    let read = preview["input_ids"].as_array().map(Vec::len);
    assert_eq!(here.ok()["usage"]["prompt_tokens"].as_u64().map(|count| count as usize), read);
    drop(served);

    // What was not said with certainty is not heard, unless nobody else says anything.
    bench.write("rules.yaml", format!("{to}confidence: {{min_mean_logprob: 0}}\nmodels: [t]\n"));
    let served = start(&bench, "log");
    assert_eq!(chat(&served, "Hi", json!({})).ok(), json!({"from": "upstream", "choices": []}));
    let (held, text) = (chat(&served, FAILS, json!({"stream": true})), generated(&bench, "", FAILS));
    assert_eq!(from(&held), Some("local"));
    let (events, is_whole) = held.events();
    let pieces: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((pieces, is_whole), (text, true));
    assert!(events.iter().all(|event| event["choices"][0]["logprobs"].is_null()), "{events:?}");
    let scored = chat(&served, FAILS, json!({"logprobs": true})).ok();
    assert!(scored["choices"][0]["logprobs"]["content"].as_array().is_some_and(|all| !all.is_empty()), "{scored}");
    drop(served);
    assert!(bench.text("log").contains("routed: `t` to remote: mean log-probability -"), "{}", bench.text("log"));
}

#[test]
fn who_cannot_be_asked_is_known_at_the_start_and_stops_nobody() {
    let bench = Bench::new().with_text();
    let rules = |url: &str| {
        format!(
            "upstream: {{url: '{url}', api_key_env: UPSTREAM_API_KEY, model: large}}\nconfidence: {{min_mean_logprob: -100}}\n"
        )
    };
    // A port that nobody listens at any more.
    let away = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    bench.write("rules.yaml", rules(&format!("http://{away}/v1")));
    let served = start(&bench, "log");
    assert_eq!(from(&chat(&served, "Hi", json!({}))), Some("local"));
    // It is looked at while the model is loaded, which may be quicker.
    let ready = || served.ask("GET", "/ready", "", "").ok();
    let begun = std::time::Instant::now();
    while ready()["upstream"] == "unknown" && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(ready(), json!({"status": "ready", "upstream": "down"}));
    assert_eq!(served.figure("gemma_tune_upstream_up"), 0);
    assert_eq!(served.end(), Some(0));
    let log = bench.text("log");
    let said = format!(
        "warning: the upstream http://{away}/v1 may not answer: GET http://{away}/v1/models: the connection was refused"
    );
    assert!(log.contains(&said) && !log.contains(KEY), "{log}");

    bench.write("rules.yaml", rules(&upstream(Asked::default())));
    let served = start(&bench, "log");
    let begun = std::time::Instant::now();
    let ready = || served.ask("GET", "/ready", "", "").ok();
    while ready()["upstream"] == "unknown" && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!((ready(), served.figure("gemma_tune_upstream_up")), (json!({"status": "ready", "upstream": "up"}), 1));
    assert_eq!(served.end(), Some(0));
    assert!(!bench.text("log").contains("may not answer"), "{}", bench.text("log"));
}
