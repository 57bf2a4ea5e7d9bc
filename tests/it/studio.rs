//! `studio`: what its page asks, what nobody else may, and what it keeps.

#[cfg(unix)]
use crate::bench::copy;
use crate::bench::{Bench, wait_until};
use crate::multimodal::{hearing_bench, wav};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        Studio::start_in(bench, ".", "s")
    }

    /// Of the folder that is called so from a working directory.
    fn start_in(bench: &Bench, from: &str, dir: &str) -> Self {
        let mut command = bench.command(&format!("studio --port 0 --dir {dir}"));
        command.current_dir(bench.path(from));
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

    /// The job of a run.
    fn run(&self, name: &str) -> Value {
        let state = self.get("/api/state").ok();
        let jobs = state["jobs"].as_array().expect("a list");
        let run = jobs.iter().find(|job| job["task"] == "train" && job["run"] == name);
        run.unwrap_or_else(|| panic!("no run {name}: {state}")).clone()
    }

    /// Begins a run and gives its id.
    #[track_caller]
    fn train(&self, recipe: &str) -> Value {
        self.post("/api/train", &json!({"recipe": recipe, "estimated_bytes": 5})).ok()["id"].clone()
    }

    /// Waits until a run has taken further steps.
    #[track_caller]
    fn goes_on(&self, name: &str) {
        // They are given a piece at a time.
        let bytes = || {
            let (mut read, mut more) = (0, 1);
            while more > 0 {
                more = self.get(&format!("/api/runs/{name}/metrics?from={read}")).body.len();
                read += more;
            }
            read
        };
        let (before, begun) = (bytes(), Instant::now());
        while bytes() == before {
            let job = self.run(name);
            let log = || self.get(&format!("/api/jobs/{}/log", job["id"].as_str().expect("an id"))).body;
            assert!(begun.elapsed() < Duration::from_secs(60) && job["state"] != "failed", "{job}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Drops a file in, and gives its path.
    #[track_caller]
    fn upload(&self, name: &str, text: &str) -> String {
        let taken = self.raw("POST", &format!("/api/files?name={name}"), &self.head(), text).ok();
        taken["path"].as_str().expect("a path").to_owned()
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
            let log = || self.get(&format!("/api/jobs/{}/log", id.to_string().trim_matches('"'))).body;
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

/// The recipe of a run of so many steps on the upload at `path`, in the studio of that upload.
fn recipe(path: &str, name: &str, steps: usize) -> String {
    let (dir, _) = path.rsplit_once("/data/").expect("an upload");
    format!(
        "model: {{base: t}}\ndata: {{train: {path}, max_length: 64}}\nadapter: {{r: 4}}\n\
         training: {{max_steps: {steps}, learning_rate: 0.01, gradient_accumulation_steps: 1}}\n\
         output: {{dir: {dir}/runs/{name}, save_steps: {}, report_to: [jsonl]}}\n",
        steps.min(10)
    )
}

/// Where a folder really is, as the studio writes it.
fn place(bench: &Bench, name: &str) -> String {
    bench.path(name).canonicalize().expect("a folder").display().to_string()
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
    let dir = place(&bench, "s");
    assert_eq!((path.as_str(), bench.text(&path).as_str()), (format!("{dir}/data/1-faq_m_rz.csv").as_str(), ROWS));

    let asked = json!({"model": "t", "data": path, "name": "faq"});
    let draft = studio.post("/api/draft", &asked).ok();
    assert_eq!(
        (&draft["code"], &draft["keys"]["output"]["dir"]),
        (&json!(0), &json!(format!("{dir}/runs/faq"))),
        "{draft}"
    );
    assert_eq!(draft["keys"]["model"]["base"], place(&bench, "t"));
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
    let escape = format!("output: {{dir: {dir}/runs/../../out}}");
    for foreign in ["data: {train: /etc/passwd}", "extends: ../r.yaml", "output: {dir: s/runs/faq}", &escape] {
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
    let begin = |name: &str, steps| studio.train(&recipe(&path, name, steps));
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
    studio.goes_on("long");

    // Of a studio that is killed the run saves what it has, and goes on with the next one.
    let old = studio.token.clone();
    drop(studio);
    let studio = Studio::start(&bench);
    assert!(old != studio.token);
    assert_eq!(studio.job(&short)["state"], "done");
    assert_eq!(studio.get("/api/state").ok()["files"][0]["name"], "../FAQ März.csv");
    assert_eq!(studio.job(&long)["state"], "running", "{}", studio.job(&long));
    studio.goes_on("long");
    studio.act(&long, "stop").ok();
    studio.until(&long, |job| job["state"] == "stopped");
    studio.act(&long, "remove").ok();
    assert!(!bench.path("s/runs/long").exists() && bench.path("s/runs/short").exists());
    assert_eq!(studio.end(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_studio_is_the_same_from_everywhere_and_its_copy_is_another() {
    let bench = Bench::new().with_text();
    let studio = Studio::start(&bench);
    let path = studio.upload("rows.csv", ROWS);
    let done = studio.train(&recipe(&path, "done", 2));
    studio.until(&done, |job| job["state"] == "done");
    let long = studio.train(&recipe(&path, "long", 1_000_000));
    let is_saved = || bench.files("s/runs/long/checkpoints").iter().any(|file| file.ends_with("/manifest.json"));
    studio.until(&long, |_| is_saved());
    studio.act(&long, "stop").ok();
    studio.until(&long, |job| job["state"] == "stopped");
    assert_eq!(studio.end(), Some(0));

    // From another working directory, through a link, as another folder of the same name, and where it was moved to.
    std::fs::create_dir(bench.path("other")).expect("a folder");
    std::os::unix::fs::symlink(bench.path("s"), bench.path("link")).expect("a link");
    let goes_on = |from: &str, dir: &str| {
        let studio = Studio::start_in(&bench, from, dir);
        let own = place(&bench, &format!("{from}/{dir}"));
        let run = studio.run("long");
        assert_eq!((&run["state"], &run["output"]), (&json!("stopped"), &json!(format!("{own}/runs/long"))), "{run}");
        assert_eq!((&run["model"], &studio.run("done")["has_adapter"]), (&json!(place(&bench, "t")), &json!(true)));
        assert_eq!(studio.get("/api/state").ok()["files"][0]["path"], format!("{own}/data/1-rows.csv"));
        studio.act(&run["id"], "resume").ok();
        studio.goes_on("long");
        studio.act(&run["id"], "stop").ok();
        studio.until(&run["id"], |job| job["state"] == "stopped");
        studio
    };
    assert_eq!(goes_on("other", "../s").end(), Some(0));
    assert_eq!(goes_on(".", "link").end(), Some(0));
    copy(&bench.path("s"), &bench.path("other/s"));
    let files = bench.files("s/runs");
    let bytes = |files: &[String]| files.iter().map(|file| bench.read(file)).collect::<Vec<_>>();
    let before = bytes(&files);
    let copied = goes_on("other", "s");
    copied.act(&copied.run("long")["id"], "remove").ok();
    assert_eq!(copied.end(), Some(0));
    assert!(!bench.path("other/s/runs/long").exists());
    assert!(bench.files("s/runs") == files && bytes(&files) == before, "the other's runs are as they were");
    std::fs::rename(bench.path("s"), bench.path("moved")).expect("a move");
    assert_eq!(goes_on(".", "moved").end(), Some(0));
    assert!(!bench.path("s").exists());
}

#[test]
fn what_a_run_still_needs_is_not_removed() {
    let bench = Bench::new().with_text();
    let studio = Studio::start(&bench);
    let (path, dir) = (studio.upload("FAQ.csv", ROWS), place(&bench, "s"));
    let remove = || studio.post("/api/files/remove", &json!({"name": "1-faq.csv"}));
    let refused = |answer: &Answer, words: [&str; 2]| {
        assert!(answer.status == 409 && words.iter().all(|word| answer.body.contains(word)), "{}", answer.body);
    };
    let first = studio.train(&recipe(&path, "first", 2));
    studio.until(&first, |job| job["state"] == "done");
    let long = studio.train(&recipe(&path, "long", 1_000_000));
    let init = format!("adapter: {{init_from: {dir}/runs/first}}");
    let after = studio.train(&recipe(&path, "after", 2).replace("adapter: {r: 4}", &init));
    studio.until(&long, |job| job["state"] == "running");
    refused(&remove(), ["`FAQ.csv`", "`long`, which is being trained"]);
    studio.act(&after, "stop").ok();
    studio.act(&long, "stop").ok();
    studio.until(&long, |job| job["state"] == "stopped");
    refused(&remove(), ["`FAQ.csv`", "`long`, which is stopped"]);
    studio.act(&long, "remove").ok();
    refused(&remove(), ["`FAQ.csv`", "`after`, which is stopped"]);
    refused(&studio.act(&first, "remove"), ["`first`", "`after`, which is stopped"]);
    assert!(bench.path("s/runs/first").exists() && bench.path("s/data/1-faq.csv").exists());
    studio.act(&after, "resume").ok();
    studio.until(&after, |job| job["state"] == "done");
    // What is done needs nothing.
    remove().ok();
    studio.act(&first, "remove").ok();
    assert!(!bench.path("s/runs/first").exists() && !bench.path("s/data/1-faq.csv").exists());
    assert_eq!(studio.end(), Some(0));
}

#[test]
fn answers_that_are_judged_teach_to_judge() {
    let bench = Bench::new().with_text();
    let studio = Studio::start(&bench);
    let row = |i: usize| json!({"prompt": format!("{i}?"), "completion": if i.is_multiple_of(2) { "Four." } else { "Five." }, "label": i.is_multiple_of(2)});
    let rows: String = (0..8).map(|i| format!("{}\n", row(i))).collect();
    let (path, dir) = (studio.upload("judged.jsonl", &rows), place(&bench, "s"));
    let draft = |format: Option<&str>| {
        studio
            .post(
                "/api/draft",
                &json!({"model": "t", "data": path, "name": "judge", "task": "reward", "format": format}),
            )
            .ok()
    };
    let refused = draft(None);
    assert!(
        refused["code"] == 2 && refused["err"].as_str().is_some_and(|err| err.contains("`--set data.format=unpaired`")),
        "{refused}"
    );
    let made = draft(Some("unpaired"));
    assert_eq!((&made["code"], &made["keys"]["data"]["format"]), (&json!(0), &json!("unpaired")), "{made}");
    let judge = studio.train(&format!(
        "task: reward\nmodel: {{base: t}}\ndata: {{train: {path}, format: unpaired, max_length: 64}}\nadapter: {{r: 4}}\n\
         training: {{max_steps: 2, gradient_accumulation_steps: 1}}\noutput: {{dir: {dir}/runs/judge, report_to: [jsonl]}}\n"
    ));
    let done = studio.until(&judge, |job| job["state"] == "done");
    assert_eq!((&done["learns"], &done["has_adapter"]), (&json!("reward"), &json!(true)));
    let talked = studio.post("/api/talk", &json!({"run": "judge"}));
    assert!(talked.status == 400 && talked.body.contains("judges answers"), "{}", talked.body);
    let ship = |task: &str| studio.post("/api/ship", &json!({"task": task, "run": "judge"}));
    assert_eq!(ship("gguf").status, 400);
    let merged =
        studio.until(&ship("merge").ok()["id"], |job| ["done", "failed"].map(Value::from).contains(&job["state"]));
    assert_eq!((&merged["state"], merged["steps"].as_array().map(Vec::len)), (&json!("done"), Some(1)), "{merged}");
    assert_eq!(studio.end(), Some(0));
}

#[test]
fn every_way_to_ship_is_made_and_proved() {
    let bench = Bench::new().with_text();
    bench.set("t/config.json", "query_pre_attn_scalar", json!(16)); // as a GGUF file can say it
    let studio = Studio::start(&bench);
    let path = studio.upload("rows.csv", ROWS);
    let run = studio.train(&recipe(&path, "faq", 12));
    studio.until(&run, |job| job["state"] == "done");
    let ship = place(&bench, "s/ship");
    for (task, quant, output, file) in [
        ("merge", None, "faq-merged", "faq-merged/config.json"),
        ("gguf", Some("Q8_0"), "faq-Q8_0.gguf", "faq-Q8_0.gguf"),
        ("lora", None, "faq-lora.gguf", "faq-lora.gguf"),
        ("ollama", Some("Q8_0"), "faq-ollama", "faq-ollama/Modelfile"),
    ] {
        let id = studio.post("/api/ship", &json!({"task": task, "run": "faq", "quant": quant})).ok()["id"].clone();
        let job = studio.until(&id, |job| ["done", "failed"].map(Value::from).contains(&job["state"]));
        let log = studio.get(&format!("/api/jobs/{id}/log")).body;
        assert_eq!(
            (&job["state"], &job["output"]),
            (&json!("done"), &json!(format!("{ship}/{output}"))),
            "{job}\n{log}"
        );
        assert!(bench.path("s/ship").join(file).is_file(), "{task}: {:?}", bench.files("s/ship"));
        let out = |step: usize| -> Value {
            let said = studio.get(&format!("/api/jobs/{id}/out/{step}")).body;
            serde_json::from_str(&said).unwrap_or_else(|e| panic!("{task}, {step}: {e}: {said}"))
        };
        assert!(out(0)["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{task}: {}", out(0));
        let (proof, compared) = (out(1), out(1)["compared"].as_array().map_or(0, Vec::len));
        assert!(proof["problems"] == json!([]) && compared >= 2, "{task}: {proof}");
        let commands = job["commands"].as_array().expect("a list");
        assert!(commands.len() == 2 && commands[1].as_str().is_some_and(|line| line.starts_with("gemma-tune verify")));
    }
    // A second one takes the place of none, and what is made outlives what is said of it.
    let again = studio.post("/api/ship", &json!({"task": "merge", "run": "faq"})).ok()["id"].clone();
    let job = studio.until(&again, |job| job["state"] == "done");
    assert_eq!(job["output"], format!("{ship}/faq-merged-2"));
    studio.post(&format!("/api/jobs/{again}/remove"), &json!({})).ok();
    assert!(bench.path("s/ship/faq-merged-2/config.json").is_file());
    assert_eq!(studio.end(), Some(0));
}

#[test]
fn pictures_and_sounds_come_along_in_what_is_asked() {
    let bench = hearing_bench();
    let studio = Studio::start(&bench);
    studio.post("/api/talk", &json!({"model": "n"})).ok();
    let begun = Instant::now();
    let talk = loop {
        let talk = studio.get("/api/state").ok()["talk"].clone();
        if talk["state"] == "ready" {
            break talk;
        }
        assert!(begun.elapsed() < Duration::from_secs(120) && talk["state"] == "loading", "{talk}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(talk["names"], json!(["base"]));
    // As the page writes them: media first, and the words behind them, where there are some.
    let picture = |bytes: &[u8]| json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", STANDARD.encode(bytes))}});
    let seen = picture(&bench.read("pictures/red.png"));
    let heard = json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(wav(0.5)), "format": "wav"}});
    let words = json!({"type": "text", "text": "What is this?"});
    let chat = |content: Value| {
        let asked = json!({
            "model": "base", "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 4, "seed": 1,
        });
        studio.post("/api/talk/chat", &asked)
    };
    let tokens = |content: Value| chat(content).ok()["usage"]["prompt_tokens"].as_u64().expect("a number");
    let plain = tokens(json!("What is this?"));
    let with_picture = tokens(json!([seen, words]));
    let with_both = tokens(json!([seen, heard, words]));
    assert!(plain < with_picture && with_picture < with_both, "{plain}, {with_picture}, {with_both}");
    assert!(tokens(json!([heard])) < with_both, "a sound alone");
    let wrong = chat(json!([picture(b"no picture"), words]));
    assert!(wrong.status == 400 && wrong.body.contains("message"), "{}: {}", wrong.status, wrong.body);
    // Streamed, as the page asks: the words come in pieces through the studio.
    let asked = json!({"model": "base", "messages": [{"role": "user", "content": [seen, words]}], "stream": true, "max_tokens": 4});
    let streamed = studio.post("/api/talk/chat", &asked);
    assert!(streamed.head.contains("text/event-stream") && streamed.body.contains("data: [DONE]"), "{}", streamed.body);
    studio.post("/api/talk/end", &json!({})).ok();
    assert_eq!(studio.get("/api/state").ok()["talk"], Value::Null);
    assert_eq!(studio.end(), Some(0));
}
