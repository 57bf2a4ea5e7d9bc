//! `studio`: what its page asks, what nobody else may, and what it keeps.

use crate::bench::{Bench, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ROWS: &str = "question,answer\nWhat is two and two?,Four.\nAnd a cat?,An animal.\nWho are you?,A keeper.\n";

/// A studio whose page could be opened.
struct Studio {
    child: Child,
    address: String,
    token: String,
}

/// An answer over HTTP.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Studio {
    fn start(bench: &Bench) -> Self {
        let mut command = bench.command("studio --port 0 --dir s");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut url).expect("its address");
        let (address, token) = url.trim().split_once("/?token=").expect("an address with a token");
        let address = address.strip_prefix("http://").expect("an address").to_owned();
        Studio { child, address, token: token.to_owned() }
    }

    /// Asks with these lines of a head.
    fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("the studio");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let length = body.len();
        let _ = write!(
            stream,
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
        );
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn head(&self) -> String {
        format!("Host: {}\r\nAuthorization: Bearer {}\r\n", self.address, self.token)
    }

    fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, &self.head(), "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw("POST", path, &self.head(), &body.to_string())
    }

    /// Stops a job, lets it go on or removes it.
    fn act(&self, id: &Value, what: &str) -> Answer {
        self.post(&format!("/api/jobs/{}/{what}", id.as_str().expect("an id")), &json!({}))
    }

    /// A job as the page sees it.
    fn job(&self, id: &Value) -> Value {
        let state = self.get("/api/state").ok();
        let jobs = state["jobs"].as_array().expect("a list");
        jobs.iter().find(|job| job["id"] == *id).unwrap_or_else(|| panic!("no job {id}: {state}")).clone()
    }

    /// The job once it is as it should be.
    #[track_caller]
    fn until(&self, id: &Value, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.job(id);
            if is_so(&job) {
                return job;
            }
            let log = || self.get(&format!("/api/jobs/{}/log", id.as_str().expect("an id"))).body;
            assert!(begun.elapsed() < Duration::from_secs(60), "{job}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(mut self) -> Option<i32> {
        let sent = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        wait_until(&mut self.child, || false).expect("an end").code()
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The recipe of a run of so many steps on the upload at `path`.
fn recipe(path: &str, name: &str, steps: usize) -> String {
    format!(
        "model: {{base: t}}\ndata: {{train: {path}, max_length: 64}}\nadapter: {{r: 4}}\n\
         training: {{max_steps: {steps}, learning_rate: 0.01, gradient_accumulation_steps: 1}}\n\
         output: {{dir: s/runs/{name}, save_steps: {}, report_to: [jsonl]}}\n",
        steps.min(10)
    )
}

#[test]
fn nobody_comes_in_without_the_token_and_no_page_of_others() {
    let bench = Bench::new().with_text();
    let studio = Studio::start(&bench);
    let (host, token) = (format!("Host: {}\r\n", studio.address), &studio.token);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let status = |method: &str, path: &str, head: &str| studio.raw(method, path, head, "").status;
    for path in ["/", "/api/state", "/api/models", "/?token=0", &format!("/?token={}", &token[..63])] {
        assert_eq!(status("GET", path, &host), 401, "{path}");
    }
    for foreign in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: same-site\r\n"] {
        assert_eq!(status("POST", "/api/files?name=x.csv", &format!("{host}{bearer}{foreign}")), 403, "{foreign}");
        assert_eq!(status("GET", "/api/state", &format!("{host}{bearer}{foreign}")), 403, "{foreign}");
    }
    assert_eq!(status("GET", "/api/state", &format!("Host: evil.example\r\n{bearer}")), 403);
    assert_eq!(studio.get("/api/state").ok()["files"], json!([]));

    let page = studio.raw("GET", &format!("/?token={token}"), &host, "");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>") && page.body.len() <= 300_000, "{} bytes", page.body.len());
    let policy = page.head.lines().find(|line| line.starts_with("content-security-policy: ")).expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let cookie = page.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("; httponly; samesite=strict"), "{cookie}");
    let cookie = format!("{host}Cookie: {}\r\n", cookie.split(';').next().expect("a value"));
    assert_eq!(status("GET", "/api/state", &cookie), 200, "the browser keeps it");

    let schema: Value =
        serde_json::from_str(studio.get("/api/schema").ok()["out"].as_str().expect("a text")).expect("JSON");
    assert!(schema["properties"]["training"]["properties"]["learning_rate"]["description"].is_string());
    let models: Value =
        serde_json::from_str(studio.get("/api/models").ok()["out"].as_str().expect("a text")).expect("JSON");
    let names: Vec<&Value> = models.as_array().expect("a list").iter().map(|model| &model["name"]).collect();
    assert!(names.contains(&&json!("t")) && names.contains(&&json!("m")), "{models}");
    let second = bench.run("studio --port 0 --dir s");
    assert!(
        second.code == Some(2) && second.problem().contains("another studio uses this folder"),
        "{}",
        second.stderr
    );
    assert_eq!(studio.end(), Some(0));
}

#[test]
fn rows_are_dropped_in_and_learnt_and_all_is_there_after_a_restart() {
    let bench = Bench::new().with_text();
    let studio = Studio::start(&bench);
    let head = studio.head();
    let taken = studio.raw("POST", "/api/files?name=..%2FFAQ%20M%C3%A4rz.csv", &head, ROWS).ok();
    let path = taken["path"].as_str().expect("a path").to_owned();
    assert_eq!((path.as_str(), bench.text(&path).as_str()), ("s/data/1-faq_m_rz.csv", ROWS));

    let asked = json!({"model": "t", "data": path, "name": "faq"});
    let draft = studio.post("/api/draft", &asked).ok();
    assert_eq!((&draft["code"], &draft["keys"]["output"]["dir"]), (&json!(0), &json!("s/runs/faq")), "{draft}");
    let text = draft["recipe"].as_str().expect("a recipe");
    assert!(text.contains("num_train_epochs") && text.contains(&path), "{text}");
    let seen = studio.post("/api/recipe/preview", &json!({"recipe": text, "rows": 1})).ok();
    let row: Value = serde_json::from_str(seen["out"].as_str().expect("a text").trim()).expect("a row");
    let pieces = row["pieces"].as_array().expect("pieces");
    let learnt = pieces.iter().find(|piece| piece["supervised"] == true).expect("what is learnt");
    assert!(learnt["text"].as_str().is_some_and(|text| text.starts_with("Four.")), "{row}");
    let keys = studio.post("/api/recipe/show", &json!({"recipe": text})).ok();
    let keys: Value = serde_json::from_str(keys["out"].as_str().expect("a text")).expect("JSON");
    assert_eq!(keys, draft["keys"], "text and keys are the same thing");

    // Nothing outside is opened, written or removed.
    for foreign in ["data: {train: /etc/passwd}", "extends: ../r.yaml", "output: {dir: s/runs/../../out}"] {
        let looked = studio.post("/api/recipe/check", &json!({"recipe": foreign})).ok();
        assert!(looked["out"].as_str().is_some_and(|out| out.contains("is not opened")), "{looked}");
        assert_eq!(studio.post("/api/train", &json!({"recipe": foreign})).status, 400, "{foreign}");
    }
    for name in ["../../t/config.json", "/etc/passwd", "files.json", ".."] {
        assert_eq!(studio.post("/api/files/remove", &json!({"name": name})).status, 404, "{name}");
    }
    for path in
        ["/api/runs/../../t/metrics", "/api/runs/..%2f..%2fout/summary", "/api/jobs/../log", "/etc/passwd", "//"]
    {
        assert_eq!(studio.get(path).status, 404, "{path}");
    }
    let outside = studio.post("/api/draft", &json!({"model": "t", "data": "rows.jsonl", "name": "x"}));
    assert_eq!((outside.status, bench.path("t/config.json").is_file()), (400, true));

    // Two runs: the second waits, is stopped, and goes on from where it was.
    let begin = |name: &str, steps| {
        let begun =
            studio.post("/api/train", &json!({"recipe": recipe(&path, name, steps), "estimated_bytes": 5})).ok();
        begun["id"].clone()
    };
    let (short, long) = (begin("short", 2), begin("long", 1_000_000));
    assert_eq!(
        studio.post("/api/train", &json!({"recipe": recipe(&path, "long", 2)})).status,
        400,
        "the name is taken"
    );
    let done = studio.until(&short, |job| job["state"] == "done");
    assert_eq!(done["has_adapter"], true, "{done}");
    let metrics = studio.get("/api/runs/short/metrics").body;
    assert_eq!(metrics.lines().count(), 2, "{metrics}");
    let rest = studio.get(&format!("/api/runs/short/metrics?from={}", metrics.find('\n').expect("a line") + 1)).body;
    assert_eq!(rest.lines().next(), metrics.lines().nth(1));
    let is_saved = || bench.files("s/runs/long/checkpoints").iter().any(|file| file.ends_with("/manifest.json"));
    studio.until(&long, |_| is_saved());
    studio.act(&long, "stop").ok();
    assert_eq!(studio.until(&long, |job| job["state"] != "running")["state"], "stopped");
    studio.act(&long, "resume").ok();
    let resumed = studio.until(&long, |job| job["state"] == "running");
    assert!(resumed["commands"][0].as_str().is_some_and(|line| line.ends_with("--resume")), "{resumed}");
    let lines = |studio: &Studio| studio.get("/api/runs/long/metrics").body.lines().count();
    let (before, begun) = (lines(&studio), Instant::now());
    while lines(&studio) == before && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }

    // Of a studio that is killed the run saves what it has, and goes on with the next one.
    let old = studio.token.clone();
    drop(studio);
    let studio = Studio::start(&bench);
    assert!(old != studio.token);
    assert_eq!(studio.job(&short)["state"], "done");
    assert_eq!(studio.get("/api/state").ok()["files"][0]["name"], "../FAQ März.csv");
    assert_eq!(studio.job(&long)["state"], "running", "{}", studio.job(&long));
    let (before, begun) = (lines(&studio), Instant::now());
    while lines(&studio) == before && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    studio.act(&long, "stop").ok();
    studio.until(&long, |job| job["state"] == "stopped");
    studio.act(&long, "remove").ok();
    assert!(!bench.path("s/runs/long").exists() && bench.path("s/runs/short").exists());
    assert_eq!(studio.end(), Some(0));
}
