//! What `push` brings to a Hub, and what it says when that does not go well.

use crate::bench::{Bench, Said, wait_until};
use crate::hub::{Answer, Fault, Hub, READ_TOKEN, TOKEN};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::process::Command;
use std::time::{Duration, Instant};

/// Parts so small that the adapter of a bench has several.
const PART_BYTES: usize = 16 << 10;
const BASE: &str = "google/gemma-3-1b-it";
const PUSH: &str = "push out/adapter --repo ann/tiny --base-model google/gemma-3-1b-it";
const WEIGHTS: &str = "adapter_model.safetensors";

trait Pushing {
    fn pushing(&self, hub: &Hub, args: &str) -> Command;
    fn push(&self, hub: &Hub, args: &str) -> Said;
    /// Two GGUF files, each of several parts.
    fn with_two_files(self) -> Self;
}

impl Pushing for Bench {
    fn pushing(&self, hub: &Hub, args: &str) -> Command {
        let mut command = self.command(args);
        command.env("HF_ENDPOINT", &hub.url).env("HF_TOKEN", TOKEN).env("HF_HUB_OFFLINE", "0");
        command
    }

    fn push(&self, hub: &Hub, args: &str) -> Said {
        self.said(&mut self.pushing(hub, args))
    }

    fn with_two_files(self) -> Self {
        for (name, seed) in [("a", 3u32), ("b", 5)] {
            let mut bytes: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(seed) >> 3) as u8).collect();
            bytes[..4].copy_from_slice(b"GGUF");
            self.write(&format!("files/{name}.gguf"), bytes);
        }
        self
    }
}

/// Changes a number of a file.
fn change_last(bytes: &mut [u8]) {
    *bytes.last_mut().expect("a byte") ^= 1;
}

/// The files of a folder that a repository should hold, hidden ones left out.
fn published(bench: &Bench, folder: &str) -> Vec<String> {
    let files = bench.files(folder).into_iter().map(|name| name[folder.len() + 1..].to_owned());
    files.filter(|name| !name.starts_with('.')).collect()
}

fn text(hub: &Hub, name: &str) -> String {
    String::from_utf8(hub.files("ann/tiny", "main")[name].clone()).expect("UTF-8")
}

#[test]
fn an_adapter_is_pushed_in_one_commit() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let said = bench.push(&hub, &format!("{PUSH} --json")).json();
    let files = hub.files("ann/tiny", "main");
    let mut names = published(&bench, "out/adapter");
    names.extend([".gitattributes".into(), "NOTICE".into()]);
    names.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), names);
    assert!(files[WEIGHTS] == bench.read(&format!("out/adapter/{WEIGHTS}")));
    assert_eq!((&said["repository"], &said["unchanged"]), (&json!("ann/tiny"), &json!([])));
    assert_eq!(said["pushed"].as_array().expect("names").len(), names.len() - 1);
    assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 2, "the first one, and ours");
    let log = hub.take_log();
    assert!(log.iter().filter(|line| *line == "PUT /storage/part").count() > 3, "{log:?}");

    // Again: nothing changed, nothing is sent.
    let again = bench.push(&hub, PUSH);
    assert!(again.stderr.contains("nothing to push"), "{}", again.stderr);
    again.ok();
    let log = hub.take_log();
    assert!(log.iter().all(|line| line.starts_with("GET ")), "{log:?}");

    // A file that changed is pushed alone and without a question, one that is gone goes there too.
    bench.edit("out/adapter/README.md", |bytes| bytes.extend(b"More.\n"));
    std::fs::remove_file(bench.path("out/adapter/losses.svg")).expect("a picture");
    let said = bench.push(&hub, &format!("{PUSH} --json")).json();
    assert_eq!((&said["removed"], &said["left_out"]), (&json!(["losses.svg"]), &json!([])));
    assert!(said["pushed"].as_array().expect("names").contains(&json!("README.md")), "{said}");
    assert!(!hub.files("ann/tiny", "main").contains_key("losses.svg"));
    assert_eq!(hub.count("PUT"), 0, "the weights were there");
}

#[test]
fn strangers_see_the_base_as_the_hub_knows_it_and_nothing_of_this_machine() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new());
    bench.write("r.yaml", bench.text("r.yaml").replace("base: m", &format!("base: {}", bench.path("m").display())));
    let bench = bench.trained();
    let refused = bench.push(&hub, "push out/adapter --repo ann/tiny");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for part in ["a path of this machine", "adapter_config.json", "`--base-model owner/name`"] {
        assert!(refused.problem().contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(hub.take_log(), Vec::<String>::new(), "nobody was asked");

    bench.push(&hub, &PUSH.replace("out/adapter", "out")).ok();
    let config: Value = serde_json::from_str(&text(&hub, "adapter_config.json")).expect("JSON");
    assert_eq!((&config["base_model_name_or_path"], &config["revision"]), (&json!(BASE), &Value::Null));
    let card = text(&hub, "README.md");
    let front = card.split("---\n").nth(1).expect("front matter");
    let lines = ["base_model: \"google/gemma-3-1b-it\"", "library_name: peft", "license: gemma", "- lora"];
    lines.iter().for_each(|line| assert!(front.lines().any(|found| found == *line), "{line}: {front}"));
    let told = [
        "rows.jsonl",
        "learning_rate",
        "```yaml",
        "![Loss by step](losses.svg)",
        "gemma-tune | ",
        "loss of the last step",
    ];
    told.iter().for_each(|part| assert!(card.contains(part), "{part}: {card}"));
    assert!(card.contains("Gemma is provided under and subject to the Gemma Terms of Use"), "{card}");
    assert!(text(&hub, "losses.svg").contains("<polyline"));
    let here = bench.path("").display().to_string();
    for (name, bytes) in hub.files("ann/tiny", "main") {
        let found = String::from_utf8_lossy(&bytes).contains(here.trim_end_matches('/'));
        assert!(!found && !String::from_utf8_lossy(&bytes).contains(TOKEN), "{name}");
    }
    // Here everything is as it was.
    assert!(bench.text("out/adapter/adapter_config.json").contains(here.trim_end_matches('/')));
}

#[test]
fn what_somebody_wrote_is_left_alone_and_looked_through() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let own = "---\nlicense: gemma\n---\n# Mine\n";
    bench.write("out/adapter/README.md", own);
    bench.push(&hub, PUSH).ok();
    assert_eq!(text(&hub, "README.md"), own);

    bench.write("out/adapter/README.md", format!("{own}token: {TOKEN}\n"));
    let refused = bench.push(&hub, PUSH);
    assert!(refused.code == Some(2) && !refused.stderr.contains(TOKEN), "{}", refused.stderr);
    assert!(refused.problem().contains("README.md:5:1"), "{}", refused.stderr);
    bench.write("out/adapter/README.md", format!("{own}\nsee {}\n", bench.path("rows.jsonl").display()));
    let refused = bench.push(&hub, PUSH);
    assert!(refused.code == Some(2) && refused.stderr.contains("names the folder"), "{}", refused.stderr);
    assert_eq!(text(&hub, "README.md"), own);
}

#[test]
fn a_merged_model_and_gguf_files_are_pushed_too() {
    let (hub, bench) = (Hub::start(1 << 20), Bench::new().trained().with_two_files());
    bench.run("merge --model m --adapter out/adapter --output merged").ok();
    bench.push(&hub, &PUSH.replace("out/adapter", "merged")).ok();
    assert!(hub.files("ann/tiny", "main")["model.safetensors"] == bench.read("merged/model.safetensors"));
    let card = text(&hub, "README.md");
    for part in
        ["library_name: transformers", "base_model_relation: finetune", "rows.jsonl", "from_pretrained(\"ann/tiny\")"]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
    // What judges texts is published as what it is.
    bench.set("merged/config.json", "architectures", json!(["Gemma3TextForSequenceClassification"]));
    bench.set("merged/config.json", "id2label", json!({"0": "LABEL_0"}));
    bench.push(&hub, "push merged --repo judge --base-model google/gemma-3-1b-it").ok();
    let card = String::from_utf8_lossy(&hub.files("ann/judge", "main")["README.md"]).into_owned();
    assert!(card.contains("text-classification") && card.contains("AutoModelForSequenceClassification"), "{card}");
    bench.write("files/c.gguf", "version https://git-lfs.github.com/spec/v1\n");
    assert!(bench.push(&hub, "push files --repo gguf").problem().contains("`c.gguf` does not begin as a GGUF file"));
    std::fs::remove_file(bench.path("files/c.gguf")).expect("a file");
    for name in ["files/notes.txt", "files/.cache/x.gguf", "files/optimizer.pt"] {
        bench.write(name, "x");
    }
    let said = bench.push(&hub, "push files --repo gguf");
    assert!(said.stderr.contains("Not pushed: .cache/ (hidden), notes.txt (data), optimizer.pt"), "{}", said.stderr);
    said.ok();
    let files = hub.files("ann/gguf", "main");
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, [".gitattributes", "NOTICE", "README.md", "a.gguf", "b.gguf"]);
    let card = String::from_utf8_lossy(&files["README.md"]);
    assert!(card.contains("--hf-repo ann/gguf --hf-file b.gguf") && !card.contains("base_model"), "{card}");
}

#[test]
fn refusals_say_what_and_where_and_what_to_do() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let answer = |status| Fault::Answer(Answer::error(status, "", "So it is."));
    let check = |said: Said, code: i32, parts: &[&str]| {
        assert_eq!(said.code, Some(code), "{}", said.stderr);
        parts.iter().for_each(|part| assert!(said.problem().contains(part), "{part}: {}", said.stderr));
        assert!(said.problem().contains("  --> ") && said.problem().contains("  hint: "), "{}", said.stderr);
        assert!(!said.stderr.contains("hf_ann") && !said.stderr.contains("X-Amz"), "{}", said.stderr);
    };
    let with = |name: &str, value: &str| bench.said(bench.pushing(&hub, PUSH).env(name, value));
    check(with("HF_TOKEN", "hf_annWrong"), 1, &["does not accept the token", "/settings/tokens"]);
    check(with("HF_TOKEN", ""), 1, &["needs a token that may write", "`hf auth login`"]);
    check(with("HF_TOKEN", READ_TOKEN), 1, &["the token may not write to `ann/tiny`", "only reads"]);
    check(with("HF_HUB_OFFLINE", "1"), 1, &["`HF_HUB_OFFLINE`"]);
    check(with("HF_ENDPOINT", "http://127.0.0.1:9"), 1, &["refused", "`HTTPS_PROXY`"]);
    check(bench.push(&hub, &PUSH.replace("ann/", "bob/")), 1, &["the token may not write to `bob/tiny`"]);
    check(bench.push(&hub, &PUSH.replace("ann/tiny", "a/b/c")), 2, &["is not a Hub id"]);
    check(bench.push(&hub, &PUSH.replace("out/adapter", "m/none")), 2, &[]);
    assert!(!hub.world().repositories.contains_key("ann/tiny"), "nothing was made");

    hub.fail("/preupload/", 0, 1, answer(404));
    check(bench.push(&hub, PUSH), 1, &["the Hub has no `ann/tiny`", "So it is."]);
    hub.fail("/commit/", 0, 1, answer(403));
    check(bench.push(&hub, PUSH), 1, &["may not write to `ann/tiny`: So it is."]);
    for status in [409, 412] {
        hub.fail("/commit/", 0, 1, answer(status));
        check(bench.push(&hub, PUSH), 1, &["`ann/tiny` changed while files were being pushed", "the same command"]);
    }
    hub.fail("/commit/", 0, 1, answer(400));
    check(bench.push(&hub, PUSH), 1, &["with status 400: So it is."]);
    assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 1, "nothing was committed");
    bench.push(&hub, PUSH).ok();

    // What only the storage refuses is asked for anew, and then given up.
    let bench = bench.with_two_files();
    hub.fail("PUT /storage/", 0, 1, answer(403));
    bench.push(&hub, "push files --repo ann/files").ok();
    hub.fail("PUT /storage/", 0, 99, answer(403));
    bench.edit("files/a.gguf", |bytes| change_last(bytes));
    check(
        bench.push(&hub, "push files --repo ann/files"),
        1,
        &["the Hub's storage does not take `a.gguf` (status 403)"],
    );
}

#[test]
fn what_is_said_back_holds_no_token_and_no_login() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let silent = |said: &Said| {
        let shown = format!("{}{}", said.stdout, said.stderr);
        assert!(!shown.contains(TOKEN) && !shown.contains("sesame"), "{shown}");
    };
    // A batch that succeeds, and refuses a file with the words that it was asked with.
    let oid = format!("{:x}", Sha256::digest(bench.read(&format!("out/adapter/{WEIGHTS}"))));
    let error = json!({"code": 422, "message": format!("Authorization: Bearer {TOKEN}")});
    let batch = Answer::json(&json!({"objects": [{"oid": oid, "error": error}]}));
    hub.fail("/info/lfs/objects/batch", 0, 1, Fault::Answer(batch));
    let said = bench.push(&hub, PUSH);
    assert!(said.code == Some(1) && said.problem().contains("Bearer (the token)"), "{}", said.stderr);
    silent(&said);
    // Somebody's login in the Hub's address: in no error, no link, and no record in the folder.
    let with_login = |url: &str| url.replace("://", "://ann:sesame@");
    let away = bench.said(bench.pushing(&hub, PUSH).env("HF_ENDPOINT", with_login("http://127.0.0.1:9")));
    assert!(away.code == Some(1) && away.problem().contains("http://127.0.0.1:9"), "{}", away.stderr);
    silent(&away);
    let there = bench.said(bench.pushing(&hub, PUSH).env("HF_ENDPOINT", with_login(&hub.url)));
    silent(&there);
    there.ok();
    for name in bench.files("out/adapter") {
        let text = String::from_utf8_lossy(&bench.read(&name)).into_owned();
        assert!(!text.contains("sesame") && !text.contains(TOKEN), "{name}");
    }
}

#[test]
fn a_busy_hub_and_broken_connections_are_given_time() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let busy = Fault::Answer(Answer::error(429, "", "Slow down").header("Retry-After", "2"));
    hub.fail("/preupload/", 0, 1, busy);
    hub.fail("whoami", 0, 1, Fault::Answer(Answer::new(503)));
    hub.fail("objects/batch", 0, 1, Fault::Answer(Answer::new(502)));
    hub.fail("repos/create", 0, 1, Fault::Unanswered);
    hub.fail("/storage/part/", 1, 1, Fault::CutAfter(5_000));
    hub.fail("/storage/part/", 1, 2, Fault::Answer(Answer::new(500)));
    hub.fail("/complete/", 0, 1, Fault::Unanswered);
    hub.fail("objects/verify", 0, 1, Fault::CutAfter(3));
    hub.fail("/commit/", 0, 2, Fault::Answer(Answer::new(503)));
    hub.fail("/commit/", 0, 1, Fault::Unanswered);
    let begun = Instant::now();
    bench.push(&hub, PUSH).ok();
    assert!(begun.elapsed() > Duration::from_secs(2), "the time that was asked for");
    assert!(hub.files("ann/tiny", "main")[WEIGHTS] == bench.read(&format!("out/adapter/{WEIGHTS}")));
    assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 2, "one commit, though its answer was lost");
    let parts = bench.read(&format!("out/adapter/{WEIGHTS}")).len().div_ceil(PART_BYTES);
    let sent = hub.count("PUT /storage/part");
    assert_eq!(sent, parts + 3, "only what failed was sent again");
    assert_eq!(hub.count("POST /api/models/ann/tiny/commit"), 3);
}

#[test]
fn a_commit_that_was_made_is_neither_made_again_nor_a_conflict() {
    for answer in [
        // A gateway that lost patience, and the next try that meets its own work.
        Answer::error(412, "", "A commit has happened since."),
        Answer::error(504, "", "Gateway Timeout"),
        Answer::error(408, "", "Request Timeout"),
        Answer::new(200).body("<html>"),
    ] {
        let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
        hub.fail("/commit/", 0, 1, Fault::Obeyed(answer.clone()));
        let said = bench.push(&hub, "push files --repo ann/tiny --json").json();
        assert!(said["commit"].is_string(), "{}: {said}", answer.status);
        assert_eq!(hub.count("POST /api/models/ann/tiny/commit"), 1, "{}", answer.status);
        assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 2, "{}", answer.status);
        assert!(hub.files("ann/tiny", "main")["b.gguf"] == bench.read("files/b.gguf"));
    }
}

#[test]
fn a_storage_that_has_put_a_file_together_is_not_sent_it_again() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    // What is put together is no longer an upload, as in S3.
    hub.fail("/complete/", 0, 1, Fault::Unanswered);
    hub.fail("/complete/", 0, 1, Fault::Answer(Answer::new(404)));
    bench.push(&hub, "push files --repo ann/tiny").ok();
    assert_eq!(hub.count("PUT /storage/part"), 2 * 70_000usize.div_ceil(PART_BYTES), "each part once");
    assert!(hub.files("ann/tiny", "main")["a.gguf"] == bench.read("files/a.gguf"));
}

#[test]
fn a_hub_that_asks_for_hours_is_not_waited_for_and_says_so() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    for status in [429, 503] {
        let busy = Answer::error(status, "", "Slow down").header("Retry-After", "7200");
        hub.fail("/preupload/", 0, 1, Fault::Answer(busy));
        let said = bench.push(&hub, "push files --repo ann/tiny");
        let told = "Slow down; it asks to be given 7200 s, and 600 s are waited at most";
        assert!(said.code == Some(1) && said.problem().contains(told), "{}", said.stderr);
    }
    // No time at all is no reason to ask eight times at once.
    hub.fail("/preupload/", 0, 2, Fault::Answer(Answer::error(429, "", "Slow down").header("Retry-After", "0")));
    let begun = Instant::now();
    bench.push(&hub, "push files --repo ann/tiny").ok();
    assert!(begun.elapsed() > Duration::from_millis(1_400), "pauses of our own");
}

#[test]
fn a_storage_that_falls_silent_is_asked_again() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    hub.fail("/storage/part/", 2, 1, Fault::HangAfter(4_000));
    let mut push = bench.pushing(&hub, "push files --repo ann/tiny");
    let begun = Instant::now();
    bench.said(push.env("HF_HUB_ETAG_TIMEOUT", "1")).ok();
    assert!(begun.elapsed() > Duration::from_secs(3), "three times the time for a connection");
    assert!(hub.files("ann/tiny", "main")["b.gguf"] == bench.read("files/b.gguf"));
}

#[test]
fn a_proposal_whose_answer_is_lost_is_not_made_twice() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    hub.fail("/commit/", 0, 1, Fault::Unanswered);
    let said = bench.push(&hub, "push files --repo ann/tiny --create-pr");
    assert!(
        said.code == Some(1) && said.stderr.contains("/ann/tiny/discussions whether it is there"),
        "{}",
        said.stderr
    );
    assert_eq!(hub.count("POST /api/models/ann/tiny/commit"), 1);
}

#[test]
fn somebody_elses_commit_meanwhile_is_not_overwritten() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    hub.fail("/storage/part/1-", 2, 1, Fault::HangAfter(4_000));
    let mut push = bench.pushing(&hub, "push files --repo ann/tiny");
    let child = push.env("HF_HUB_ETAG_TIMEOUT", "1").stderr(std::process::Stdio::piped()).spawn().expect("the program");
    hub.wait_for_hanging("PUT /storage/part/1-");
    hub.with_repository("ann/tiny", &[("model.safetensors", "somebody's")]);
    let output = child.wait_with_output().expect("the program ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("changed while files were being pushed"), "{said}");
    assert!(!hub.files("ann/tiny", "main").contains_key("a.gguf"));
}

#[test]
fn what_a_killed_push_brought_is_not_sent_again() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().with_two_files());
    let parts = 70_000usize.div_ceil(PART_BYTES);
    hub.fail("/storage/part/1-", 2, 1, Fault::HangAfter(4_000));
    let mut child = bench.pushing(&hub, "push files --repo ann/tiny").spawn().expect("the program");
    hub.wait_for_hanging("PUT /storage/part/1-");
    child.kill().expect("SIGKILL");
    wait_until(&mut child, || false);
    assert_eq!(hub.world().repositories["ann/tiny"].commits.len(), 1, "nothing was committed");
    assert!(hub.count("PUT /storage/part") <= 2 * parts);
    hub.take_log();

    bench.push(&hub, "push files --repo ann/tiny").ok();
    assert_eq!(hub.count("PUT /storage/part"), parts, "the second file alone");
    let files = hub.files("ann/tiny", "main");
    for name in ["a.gguf", "b.gguf"] {
        assert!(files[name] == bench.read(&format!("files/{name}")), "{name}");
    }
}

#[test]
fn another_model_is_not_replaced_without_a_word() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    let card = "---\nbase_model: google/gemma-3-4b-it\n---\n";
    hub.with_repository("ann/tiny", &[("README.md", card), ("model.safetensors", "x"), ("config.json", "{}")]);
    let before = hub.files("ann/tiny", "main");
    let refused = bench.push(&hub, PUSH);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for part in [
        "`ann/tiny` holds a model made from `google/gemma-3-4b-it`, not pushed from this folder",
        "would remain model.safetensors",
        "would be replaced: README.md",
        "`--yes` replaces them",
    ] {
        assert!(refused.problem().contains(part), "{part}: {}", refused.stderr);
    }
    assert!(hub.files("ann/tiny", "main") == before && hub.count("POST") == 0);

    // A proposal replaces nothing.
    let said = bench.push(&hub, &format!("{PUSH} --create-pr --json")).json();
    assert_eq!(said["pull_request"], json!(format!("{}/ann/tiny/discussions/1", hub.url)));
    assert!(hub.files("ann/tiny", "main") == before && hub.files("ann/tiny", "refs/pr/1").contains_key(WEIGHTS));

    #[cfg(target_os = "linux")]
    {
        let on_terminal = |typed: &str| {
            let env = format!("HF_ENDPOINT={} HF_TOKEN={TOKEN} HF_HUB_OFFLINE=0", hub.url);
            let said = bench.on_a_terminal_with(&env, PUSH, typed);
            (said.code, said.stdout)
        };
        let (code, shown) = on_terminal("n\n");
        assert!(code == Some(2) && shown.contains("Replace them? [y/N]"), "{shown}");
        assert!(hub.files("ann/tiny", "main") == before);
        let (code, shown) = on_terminal("y\n");
        assert_eq!(code, Some(0), "{shown}");
    }
    #[cfg(not(target_os = "linux"))]
    bench.push(&hub, &format!("{PUSH} --yes")).ok();
    assert!(hub.files("ann/tiny", "main").contains_key(WEIGHTS));

    // A copy of the folder that does not remember the push is another folder.
    let other = Bench::new();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(bench.path("out/adapter")).arg(other.path("copy")).status();
    assert!(copied.expect("cp").success());
    std::fs::remove_file(other.path("copy/.gemma-tune-push.json")).expect("what it remembers");
    other.edit(&format!("copy/{WEIGHTS}"), |bytes| change_last(bytes));
    let push = PUSH.replace("out/adapter", "copy");
    assert_eq!(other.push(&hub, &push).code, Some(2));
    other.push(&hub, &format!("{push} --yes")).ok();
}

#[test]
fn privacy_and_branches_are_as_they_were_asked_for() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new().trained());
    bench.push(&hub, &format!("{PUSH} --private")).ok();
    assert!(hub.world().repositories["ann/tiny"].private);
    hub.with_repository("ann/open", &[]);
    let refused = bench.push(&hub, &format!("{} --private", PUSH.replace("ann/tiny", "ann/open")));
    assert!(refused.code == Some(2) && refused.stderr.contains("everybody can see it"), "{}", refused.stderr);
    bench.push(&hub, &format!("{PUSH} --revision v2")).ok();
    bench.edit(&format!("out/adapter/{WEIGHTS}"), |bytes| change_last(bytes));
    let said = bench.push(&hub, &format!("{PUSH} --revision v2 --json")).json();
    assert_eq!(said["url"], json!(format!("{}/ann/tiny/tree/v2", hub.url)));
    assert!(hub.files("ann/tiny", "v2")[WEIGHTS] != hub.files("ann/tiny", "main")[WEIGHTS]);
}

const TRAIN: &str = "train r.yaml --set output.push_to_hub=ann/tiny --set output.hub_base_model=google/gemma-3-1b-it";

#[test]
fn a_run_pushes_what_it_made() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new());
    let early = |said: Said, code: i32, part: &str| {
        assert!(said.code == Some(code) && said.stderr.contains(part), "{}", said.stderr);
        assert_eq!(bench.files("out").len(), 0, "no run was begun");
    };
    early(bench.said(bench.pushing(&hub, TRAIN).env("HF_TOKEN", "hf_wrong")), 1, "does not accept the token");
    early(bench.run(TRAIN), 1, "`HF_HUB_OFFLINE`");
    early(bench.push(&hub, "train r.yaml --set output.push_to_hub=ann/tiny"), 2, "output.hub_base_model");
    hub.with_repository("ann/full", &[("config.json", "{}")]);
    let full = TRAIN.replace("ann/tiny", "ann/full");
    early(bench.push(&hub, &full), 2, "`ann/full` is not empty");
    let refused = bench.push(&hub, &full);
    assert!(refused.problem().contains("set `output.hub_overwrite: true`"), "{}", refused.stderr);
    assert!(bench.push(&hub, &format!("{full} --dry-run")).stderr.contains("Warning: `ann/full` is not empty"));

    let said = bench.push(&hub, &format!("{TRAIN} --set output.hub_private_repo=true"));
    assert!(said.stderr.contains(&format!("{}/ann/tiny", hub.url)), "{}", said.stderr);
    said.ok();
    assert!(hub.files("ann/tiny", "main")[WEIGHTS] == bench.read(&format!("out/adapter/{WEIGHTS}")));
    assert!(hub.world().repositories["ann/tiny"].private);
}

#[test]
fn a_recipe_may_say_that_what_is_there_is_replaced() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new());
    bench.push(&hub, TRAIN).ok();
    let first = hub.files("ann/tiny", "main");
    std::fs::remove_dir_all(bench.path("out")).expect("the first run");

    // The same recipe again, with another seed: the repository holds what this program pushed, which is another model.
    let again = format!("{TRAIN} --set training.seed=11");
    assert_eq!(bench.push(&hub, &again).code, Some(2));
    let over = format!("{again} --set output.hub_overwrite=true");
    let said = bench.push(&hub, &over);
    assert!(said.stderr.contains("`output.hub_overwrite` agrees"), "{}", said.stderr);
    said.ok();
    let second = hub.files("ann/tiny", "main");
    assert!(second[WEIGHTS] == bench.read(&format!("out/adapter/{WEIGHTS}")) && second[WEIGHTS] != first[WEIGHTS]);
    let commits = hub.world().repositories["ann/tiny"].commits.len();
    assert_eq!(commits, 3, "the first one, and two of ours: what was replaced is in the history");

    // What fails in the end is repeated with a word that replaces, unless somebody else pushed meanwhile.
    std::fs::remove_dir_all(bench.path("out")).expect("the second run");
    hub.fail("/commit/", 0, 1, Fault::Answer(Answer::error(403, "", "No more.")));
    let failed = bench.push(&hub, &over.replace("seed=11", "seed=12"));
    assert!(failed.code == Some(1) && failed.problem().trim_end().ends_with("--yes"), "{}", failed.stderr);
}

#[test]
fn what_somebody_else_commits_during_a_run_is_not_replaced() {
    // Before the run looks again at what is there, and after that.
    for (hanging, skip, told) in [
        ("GET /api/whoami-v2", 1, "it changed since the run began"),
        ("POST /api/models/ann/tiny/preupload", 0, "changed while files"),
    ] {
        let (hub, bench) = (Hub::start(PART_BYTES), Bench::new());
        hub.with_repository("ann/tiny", &[("config.json", "{}")]);
        hub.fail(hanging, skip, 1, Fault::HangAfter(0));
        let mut run = bench.pushing(&hub, &format!("{TRAIN} --set output.hub_overwrite=true"));
        run.env("HF_HUB_ETAG_TIMEOUT", "1").stderr(std::process::Stdio::piped());
        let child = run.spawn().expect("the program");
        hub.wait_for_hanging(hanging);
        hub.with_repository("ann/tiny", &[("README.md", "somebody's")]);
        let output = child.wait_with_output().expect("the program ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(told), "{hanging}: {said}");
        assert!(said.contains("gemma-tune push out/adapter --repo ann/tiny") && !said.contains("--yes"), "{said}");
        assert_eq!(text(&hub, "README.md"), "somebody's", "{hanging}");
        assert!(bench.path(&format!("out/adapter/{WEIGHTS}")).exists());
    }
}

#[test]
fn a_failed_push_loses_no_run_and_names_the_command_that_repeats_it() {
    let (hub, bench) = (Hub::start(PART_BYTES), Bench::new());
    hub.fail("/commit/", 0, 1, Fault::Answer(Answer::error(403, "", "No more.")));
    let said = bench.push(&hub, TRAIN);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.problem().contains("the run is done, and its adapter was not pushed"), "{}", said.stderr);
    assert!(bench.path("out/summary.json").exists() && bench.path(&format!("out/adapter/{WEIGHTS}")).exists());
    let command = said.stderr.lines().find_map(|line| line.split("gemma-tune push").nth(1)).expect("a command");
    bench.push(&hub, &format!("push{command}")).ok();
    assert!(hub.files("ann/tiny", "main")[WEIGHTS] == bench.read(&format!("out/adapter/{WEIGHTS}")));
}

/// For `scripts/check_hub.py`: writes its address into a file, and serves until that file is gone.
#[test]
#[ignore = "serves other programs"]
fn serve() {
    let file = std::env::var("GEMMA_TUNE_STAND_IN").expect("the file for the address");
    let hub = Hub::start(1 << 20);
    std::fs::write(&file, format!("{} {TOKEN}", hub.url)).expect("a file");
    while std::path::Path::new(&file).exists() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
