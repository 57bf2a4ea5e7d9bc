//! Fine-tuning over HTTP: files, jobs and their models, of one key and of no other, whatever becomes of the server.

use crate::bench::{Bench, copy};
use crate::serve::{Answer, CHAT, Served, asking, generated, said};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

const JOBS: &str = "/v1/fine_tuning/jobs";
/// Of a job with one of them an epoch: enough that a server can be killed in its middle.
const STEPS: u64 = 120;
const SERVED: &str = "--model t --name base --api-key-file keys --jobs jobs --job-threads 2 --max-file-bytes 4kB";

/// Somebody with a key.
struct Asker<'a> {
    served: &'a Served,
    key: &'a str,
}

impl Asker<'_> {
    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.served.ask(method, path, &format!("Authorization: Bearer {}\r\n", self.key), body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &body.to_string())
    }

    fn upload(&self, purpose: &str, text: &str) -> Answer {
        let kind = "Content-Type: multipart/form-data; boundary=xYz\r\n";
        let body = format!(
            "--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--xYz\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"../../rows.jsonl\"\r\n\r\n{text}\r\n--xYz--\r\n"
        );
        self.served.ask("POST", "/v1/files", &format!("Authorization: Bearer {}\r\n{kind}", self.key), &body)
    }

    /// The names of the models that he knows of.
    fn models(&self) -> Vec<String> {
        let models = self.get("/v1/models").ok();
        models["data"].as_array().expect("a list").iter().map(|model| text(&model["id"]).to_owned()).collect()
    }

    /// A job, when it is as it should be.
    #[track_caller]
    fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let job = self.get(&format!("{JOBS}/{id}")).ok();
            if is_so(&job) {
                return job;
            }
            assert!(Instant::now() < deadline && job["status"] != "failed", "{job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last step that a job has said.
    fn step(&self, id: &str) -> u64 {
        let events = self.get(&format!("{JOBS}/{id}/events?limit=1")).ok();
        events["data"][0]["data"]["step"].as_u64().unwrap_or(0)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn a_job_survives_its_server_and_leaves_a_model_to_whoever_asked_for_it() {
    let bench = Bench::new().with_text();
    bench.write("keys", "one\ntwo\n");
    let rows = bench.text("chats.jsonl");
    let mut served = Served::start(&bench, SERVED);
    let (one, two) = (Asker { served: &served, key: "one" }, Asker { served: &served, key: "two" });

    // Files: understood as they come, and their owner's alone.
    let path = bench.path("keys").display().to_string();
    let picture = json!({"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": path}}]}, {"role": "assistant", "content": "x"}
    ]});
    for (answer, expected) in [
        (
            one.upload("fine-tune", &format!("{rows}{{\"messages\": 3}}\n")),
            (400, "invalid_file_format", "file", "line 3: "),
        ),
        (one.upload("fine-tune", &picture.to_string()), (400, "invalid_file_format", "file", "line 1: ")),
        (one.upload("batch", &rows), (400, "", "purpose", "`fine-tune`")),
        (one.upload("fine-tune", &"x".repeat(5000)), (413, "file_too_large", "file", "4000 bytes")),
        (one.post("/v1/files", &json!({})), (400, "invalid_form", "", "multipart")),
        (
            one.post(JOBS, &json!({"model": "base", "training_file": "file-none"})),
            (400, "file_not_found", "training_file", ""),
        ),
    ] {
        let (status, code, param, message) = answer.problem();
        let is_expected = (status, code.as_str(), param.as_str()) == (expected.0, expected.1, expected.2);
        assert!(is_expected && message.contains(expected.3), "{expected:?}: {}", answer.body);
    }
    let file = one.upload("fine-tune", &rows).ok();
    let file_path = format!("/v1/files/{}", text(&file["id"]));
    assert_eq!((&file["bytes"], &file["filename"]), (&json!(rows.len()), &json!("../../rows.jsonl")));
    assert_eq!(one.get(&format!("{file_path}/content")).body, rows);
    assert_eq!(two.get("/v1/files").ok()["data"], json!([]));
    for answer in [two.get(&file_path), two.get(&format!("{file_path}/content")), two.ask("DELETE", &file_path, "")] {
        assert_eq!(answer.problem().1, "file_not_found");
    }

    // A job, whose server is killed in the middle of it.
    let wanted = json!({
        "model": "base", "training_file": file["id"], "suffix": "faq", "seed": 7, "metadata": {"for": "a test"},
        "method": {"type": "supervised", "supervised": {"hyperparameters":
            {"n_epochs": STEPS, "batch_size": 2, "learning_rate_multiplier": 250}}},
    });
    assert_eq!(two.post(JOBS, &wanted).problem().1, "file_not_found", "another's file");
    let mut unknown = wanted.clone();
    unknown["model"] = json!("other");
    assert_eq!(one.post(JOBS, &unknown).problem().1, "model_not_found");
    let job = one.post(JOBS, &wanted).ok();
    let id = text(&job["id"]).to_owned();
    assert_eq!((&job["object"], &job["fine_tuned_model"]), (&json!("fine_tuning.job"), &Value::Null));
    one.until(&id, |_| one.step(&id) >= 5);
    let asked = one.post(CHAT, &asking("base", "Hi", json!({}))).ok();
    served.child.kill().expect("a kill");
    let _ = served.child.wait();

    let served = Served::start(&bench, SERVED);
    let (one, two) = (Asker { served: &served, key: "one" }, Asker { served: &served, key: "two" });
    assert_eq!(
        one.post(CHAT, &asking("base", "Hi", json!({}))).ok()["choices"],
        asked["choices"],
        "it answers beside the job"
    );
    assert_eq!(two.get(JOBS).ok()["data"], json!([]));
    for answer in [
        two.get(&format!("{JOBS}/{id}")),
        two.get(&format!("{JOBS}/{id}/events")),
        two.get(&format!("{JOBS}/{id}/checkpoints")),
        two.ask("POST", &format!("{JOBS}/{id}/cancel"), ""),
    ] {
        assert_eq!((answer.status, answer.problem().1.as_str()), (404, "job_not_found"), "{}", answer.body);
    }
    let done = one.until(&id, |job| job["status"] == "succeeded");
    let model = text(&done["fine_tuned_model"]).to_owned();
    assert!(model.starts_with("ft:base:faq:"), "{model}");
    assert!(done["trained_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{done}");
    let events = one.get(&format!("{JOBS}/{id}/events?limit=1000")).ok();
    let events: Vec<&Value> = events["data"].as_array().expect("a list").iter().rev().collect();
    let steps: Vec<u64> = events.iter().filter_map(|event| event["data"]["step"].as_u64()).collect();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>(), "each step once, in its order");
    assert!(events.iter().any(|event| event["message"] == "Training goes on."), "{events:?}");
    assert!(events.iter().all(|event| event["level"] == "info"), "{events:?}");
    let saved = one.get(&format!("{JOBS}/{id}/checkpoints")).ok();
    assert_eq!(
        (&saved["data"][0]["step_number"], &saved["data"][0]["metrics"]["step"]),
        (&json!(STEPS), &json!(STEPS))
    );
    assert!(saved["data"][0]["fine_tuned_model_checkpoint"].is_null(), "no name that nobody answers to: {saved}");
    let table = one.get(&format!("/v1/files/{}/content", text(&done["result_files"][0]))).body;
    assert_eq!(table.lines().count() as u64, STEPS + 1, "{table}");

    // The same run without a server leaves the same bytes, and the server says what `generate` says.
    let folder = format!("jobs/runs/{}", id.trim_start_matches("ftjob-"));
    bench.run(&format!("train {folder}/recipe.yaml --set output.dir=again --device auto")).ok();
    let weights = "adapter/adapter_model.safetensors";
    assert!(bench.read(&format!("{folder}/run/{weights}")) == bench.read(&format!("again/{weights}")), "other bytes");
    let answer = one.post(CHAT, &asking(&model, "And a cat?", json!({}))).ok();
    assert_eq!(said(&answer["choices"][0]), generated(&bench, "--adapter again", "And a cat?"));
    assert_eq!(two.post(CHAT, &asking(&model, "Hi", json!({}))).problem().1, "model_not_found");
    assert_eq!((one.models(), two.models()), (vec!["base".to_owned(), model.clone()], vec!["base".to_owned()]));

    // Another one is stopped, goes on, and is ended.
    let other = one.post(JOBS, &wanted).ok();
    let other = text(&other["id"]);
    one.until(other, |_| one.step(other) >= 1);
    let act = |what: &str| one.ask("POST", &format!("{JOBS}/{other}/{what}"), "");
    assert_eq!(act("pause").ok()["status"], "paused");
    assert_eq!(act("resume").ok()["status"], "queued");
    assert_eq!(act("cancel").ok()["status"], "cancelled");
    assert_eq!(act("cancel").problem().1, "wrong_status");
    let listed = one.get(&format!("{JOBS}?limit=1")).ok();
    assert_eq!((&listed["data"][0]["id"], &listed["has_more"]), (&json!(other), &json!(true)));
    let rest = one.get(&format!("{JOBS}?limit=1&after={other}")).ok();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!(id), &json!(false)));
    assert_eq!(served.end(), Some(0));

    // The model is there again at the next start, until it is deleted; an operator's come and go with their folders.
    std::fs::create_dir(bench.path("shelf")).expect("a folder");
    let served = Served::start(&bench, &format!("{SERVED} --adapter-dir shelf"));
    let (one, two) = (Asker { served: &served, key: "one" }, Asker { served: &served, key: "two" });
    assert_eq!(one.models(), ["base", &model]);
    let look = |is_there: bool| {
        let sent = Command::new("kill").args(["-HUP", &served.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let found = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            two.models().contains(&"shelved".to_owned()) == is_there
        });
        assert!(found, "{:?}", two.models());
    };
    copy(&bench.path("again/adapter"), &bench.path("shelf/.new"));
    std::fs::rename(bench.path("shelf/.new"), bench.path("shelf/shelved")).expect("a new name");
    look(true);
    let shelved = two.post(CHAT, &asking("shelved", "And a cat?", json!({}))).ok();
    assert_eq!(said(&shelved["choices"][0]), said(&answer["choices"][0]));
    std::fs::remove_dir_all(bench.path("shelf/shelved")).expect("a folder");
    look(false);
    assert_eq!(two.post(CHAT, &asking("shelved", "Hi", json!({}))).problem().1, "model_not_found");
    let delete = |who: &Asker, name: &str| who.ask("DELETE", &format!("/v1/models/{name}"), "");
    assert_eq!(delete(&two, &model).problem().1, "model_not_found");
    assert_eq!(delete(&one, "base").status, 403);
    let job = || one.get(&format!("{JOBS}/{id}")).ok();
    let before = job();
    assert_eq!(
        (&before["fine_tuned_model"], &before["hyperparameters"]["n_epochs"]),
        (&json!(model), &done["hyperparameters"]["n_epochs"])
    );
    assert_eq!(delete(&one, &model).ok()["deleted"], true);
    // The job is what it was, without its model.
    let after = job();
    assert_eq!((&after["fine_tuned_model"], &after["status"]), (&Value::Null, &json!("succeeded")));
    assert_eq!(
        (&after["hyperparameters"], &after["trained_tokens"]),
        (&before["hyperparameters"], &before["trained_tokens"])
    );
    assert!(!after["hyperparameters"].to_string().contains("auto"), "{after}");
    assert_eq!(delete(&one, &model).problem().1, "model_not_found");
    assert_eq!(one.post(CHAT, &asking(&model, "Hi", json!({}))).problem().1, "model_not_found");
    assert!(!bench.path(&folder).exists(), "what it left is gone");
    assert_eq!(one.get(&format!("{JOBS}/{id}")).ok()["status"], "succeeded");
    assert_eq!(one.ask("DELETE", &file_path, "").ok()["deleted"], true);
    assert_eq!(served.end(), Some(0));
    let without = Served::start(&bench, "--model t");
    assert_eq!(without.ask("GET", JOBS, "", "").problem().1, "not_offered");
}

#[test]
fn what_is_no_database_is_refused_before_a_model_is_read_and_its_password_never_shown() {
    let bench = Bench::new();
    let is_silent = |said: &crate::bench::Said| !format!("{}{}", said.stdout, said.stderr).contains("s3cret");
    for (url, part) in [
        ("jobs.sqlite", "no address of a database"),
        ("user:s3cret@host/db", "no address of a database"),
        ("mysql://user:s3cret@host/db", "`mysql://` is no address of a database that this program knows"),
        ("postgres://user:s3@cret@host/db", "more than one `@`"),
        ("postgres://user:s3cret@host/db?sslmode=require", "`sslmode=require` asks for TLS"),
        #[cfg(feature = "postgres")]
        ("postgres://user:s3cret@host", "names no database"),
        #[cfg(feature = "postgres")]
        ("postgres://user:s3cret@host/db?colour=red", "unknown option `colour`"),
        #[cfg(not(feature = "postgres"))]
        ("postgres://user:s3cret@host/db", "built without PostgreSQL"),
    ] {
        let said = bench.run(&format!("serve --model none --port 0 --jobs jobs --database {url}"));
        let is_refused = said.code == Some(2) && said.stderr.contains(part) && said.stderr.contains("hint: ");
        assert!(is_refused && said.stderr.contains("--> --database") && is_silent(&said), "{url}: {}", said.stderr);
        assert!(!bench.path("jobs").exists(), "{url}");
    }
    let alone = bench.run("serve --model none --database postgres://user:s3cret@host/db");
    assert!(alone.code == Some(2) && alone.stderr.contains("--jobs") && is_silent(&alone), "{}", alone.stderr);
    #[cfg(feature = "postgres")]
    {
        // Nobody listens at port 1.
        let words = "serve --model none --port 0 --jobs jobs --database postgres://user:s3cret@127.0.0.1:1/db";
        let away = bench.run(words);
        let is_said = ["cannot be reached", "--> postgres://127.0.0.1:1/db", "hint: "]
            .iter()
            .all(|part| away.stderr.contains(part));
        assert!(away.code == Some(1) && is_said && is_silent(&away), "{}", away.stderr);
        assert!(!bench.path("jobs/queue.postgres").exists(), "it has no tables");
        let help = bench.said(bench.command("serve --help").env("PGPASSWORD", "s3cret"));
        assert!(help.stdout.contains("--database <URL>") && is_silent(&help), "{}", help.stdout);
    }
}

#[test]
fn a_server_whose_jobs_are_damaged_says_which_file_it_is_and_leaves_what_lies_beside_it() {
    let bench = Bench::new();
    bench.write("jobs/files/abc", "somebody's rows");
    let text = "a text that is no database\n".repeat(40);
    for (bytes, part) in [(b"".as_slice(), "is empty"), (text.as_bytes(), "not a database")] {
        bench.write("jobs/queue.sqlite", bytes);
        let said = bench.run("serve --model none --port 0 --jobs jobs");
        let is_refused = said.code == Some(2) && said.stderr.contains(part) && said.stderr.contains("hint: ");
        assert!(is_refused && said.stderr.contains("jobs/queue.sqlite"), "{}", said.stderr);
        assert_eq!(bench.read("jobs/queue.sqlite"), bytes);
        assert_eq!(bench.text("jobs/files/abc"), "somebody's rows");
    }
}
