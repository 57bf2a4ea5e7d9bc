//! `serve`: what clients of OpenAI's API ask, and what nobody may.

use crate::bench::{Bench, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const CHAT: &str = "/v1/chat/completions";

/// A server that has loaded its model.
pub struct Served {
    pub child: Child,
    pub address: String,
}

/// An answer over HTTP.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Its status, and what is wrong: the word for programs, the field and the message.
    pub fn problem(&self) -> (u16, String, String, String) {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        let of = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
        (self.status, of("code"), of("param"), of("message"))
    }

    /// The events of a stream, and whether it was whole.
    pub fn events(&self) -> (Vec<Value>, bool) {
        let mut data: Vec<&str> = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let is_whole = data.pop_if(|last| *last == "[DONE]").is_some();
        (data.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect(), is_whole)
    }
}

impl Served {
    pub fn start(bench: &Bench, args: &str) -> Self {
        Served::start_with(bench, args, |_| {})
    }

    /// The same of a command that something else is done to first.
    pub fn start_with(bench: &Bench, args: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = bench.command(&format!("serve --port 0 {args}"));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        prepare(&mut command);
        let mut child = command.spawn().expect("the program");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut url).expect("its address");
        let address = url.trim().strip_prefix("http://").expect("an address").to_owned();
        Served { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the server");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        stream
    }

    /// Sends a request as it is, and gives all that comes back until the connection ends.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // It may be refused before all of it was sent.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body =
            if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.into() };
        Answer { status, head: head.to_lowercase(), body }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
                self.address
            )
            .as_bytes(),
        )
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    /// The value of a figure.
    pub fn figure(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// Asks it to end, and gives its exit code.
    pub fn end(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        wait_until(&mut self.child, || false).expect("an end").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of a body that came in pieces.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        let Some(piece) = after.get(..length).filter(|piece| !piece.is_empty()) else { break };
        body += piece;
        rest = after[length..].trim_start_matches("\r\n");
    }
    body
}

/// A request for the most likely answer to a user's message.
pub fn asking(model: &str, text: &str, more: Value) -> Value {
    let mut body =
        json!({"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 6});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

pub fn said(choice: &Value) -> &str {
    choice["message"]["content"].as_str().expect("a text")
}

/// What `generate` says.
pub fn generated(bench: &Bench, more: &str, text: &str) -> String {
    bench.write("p.jsonl", json!({"prompt": text}).to_string());
    let line = bench.run(&format!("generate --model t --input p.jsonl --json --max-tokens 6 {more}")).ok();
    let row: Value = serde_json::from_str(line.trim()).expect("a row");
    row["completion"].as_str().expect("a text").to_owned()
}

#[test]
fn answers_are_those_of_generate_whole_and_in_pieces() {
    let bench = Bench::new().with_text();
    bench.set("t/config.json", "max_position_embeddings", json!(2048)); // room for what models are told of tools
    bench.write("s.yaml", TUNED);
    bench.run("train s.yaml").ok();
    let served = Served::start(&bench, "--model t --adapter tuned=out --parallel 4");
    let models = served.get("/v1/models").ok();
    let names: Vec<_> = models["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(names, [json!("t"), json!("tuned")]);
    assert_eq!(served.get("/v1/models/tuned").ok()["object"], "model");

    // Both at once: what shares a batch changes nothing.
    let texts = ["Hi", "What is the capital of France?"];
    let asked: Vec<(&str, &str)> = texts.iter().flat_map(|text| [("t", *text), ("tuned", *text)]).collect();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let asking = |(model, text): &(&'static str, &'static str)| {
            let (body, served) = (asking(model, text, json!({})), &served);
            scope.spawn(move || served.post(CHAT, &body).ok())
        };
        let threads: Vec<_> = asked.iter().map(asking).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    for ((model, text), answer) in asked.iter().zip(&answers) {
        let adapter = if *model == "tuned" { "--adapter out" } else { "" };
        let choice = &answer["choices"][0];
        assert_eq!(said(choice), generated(&bench, adapter, text), "{model}: {text}");
        assert_eq!((&answer["model"], &answer["object"]), (&json!(model), &json!("chat.completion")));
        let usage = &answer["usage"];
        let tokens = usage["completion_tokens"].as_u64().expect("a number");
        assert!(choice["finish_reason"] == if tokens == 6 { "length" } else { "stop" }, "{answer}");
        let sum = usage["prompt_tokens"].as_u64().expect("a number") + tokens;
        assert_eq!(usage["total_tokens"].as_u64(), Some(sum));
    }
    assert_ne!(answers[0]["choices"], answers[1]["choices"], "the adapter says something else");

    // The same in pieces, and how likely each token was.
    let whole = said(&answers[1]["choices"][0]);
    let more = json!({"stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 2});
    let streamed = served.post(CHAT, &asking("tuned", texts[0], more));
    assert!(streamed.head.contains("content-type: text/event-stream"), "{}", streamed.head);
    let (events, is_whole) = streamed.events();
    let delta = |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
    assert_eq!((events.iter().map(delta).collect::<String>().as_str(), is_whole), (whole, true));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (used, ended) = (&events[events.len() - 1], &events[events.len() - 2]);
    assert_eq!((&used["choices"], &used["usage"]), (&json!([]), &answers[1]["usage"]));
    assert_eq!(ended["choices"][0]["finish_reason"], answers[1]["choices"][0]["finish_reason"]);
    let scored = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array()).flatten();
    let scored: Vec<&Value> = scored.collect();
    assert_eq!(Some(scored.len() as u64), answers[1]["usage"]["completion_tokens"].as_u64());
    for token in scored {
        let top = token["top_logprobs"].as_array().expect("two");
        assert!(
            top.len() == 2 && top[0]["token"] == token["token"] && top[0]["logprob"] == token["logprob"],
            "{token}"
        );
        assert!(token["logprob"].as_f64().is_some_and(|p| p <= 0.0), "{token}");
    }

    // Held to a form, what a model of random numbers says is what was asked for. New lines are forbidden: it would say them at length.
    let lines = (10..=15).chain([35]).map(|id: u32| (id.to_string(), json!(-100)));
    let lines: Value = lines.collect::<serde_json::Map<_, _>>().into();
    let schema = json!({
        "type": "object",
        "properties": {
            "sky": {"enum": ["clear", "grey"]},
            "days": {"type": "integer", "minimum": 0, "maximum": 99},
            "dry": {"type": "boolean"},
        },
        "required": ["sky", "days", "dry"],
        "additionalProperties": false,
    });
    let of_schema = json!({"type": "json_schema", "json_schema": {"name": "day", "strict": true, "schema": schema}});
    let held = |more: Value| {
        let mut body = asking("tuned", "Hi", json!({"max_tokens": 120, "logit_bias": lines}));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        served.post(CHAT, &body)
    };
    let is_day = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("JSON");
        let days = value["days"].as_u64().is_some_and(|days| days < 100);
        value.as_object().is_some_and(|day| day.len() == 3)
            && days
            && value["dry"].is_boolean()
            && value["sky"].is_string()
    };
    let day = held(json!({"response_format": of_schema, "logprobs": true})).ok();
    assert!(is_day(said(&day["choices"][0])) && day["choices"][0]["finish_reason"] == "stop", "{day}");
    let (events, is_whole) = held(json!({"response_format": of_schema, "stream": true})).events();
    assert_eq!((events.iter().map(delta).collect::<String>().as_str(), is_whole), (said(&day["choices"][0]), true));
    let cut = held(json!({"response_format": of_schema, "max_tokens": 3})).ok();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let mut closing = lines.clone();
    closing["447"] = json!(100); // `}`
    let object = held(json!({"response_format": {"type": "json_object"}, "logit_bias": closing, "model": "t"})).ok();
    assert_eq!((said(&object["choices"][0]).trim(), &object["choices"][0]["finish_reason"]), ("{}", &json!("stop")));
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let tools = json!([tool("plan"), tool("pack")]);
    let one = json!({"type": "function", "function": {"name": "pack"}});
    for (choice, stream) in [(json!("required"), false), (one, true)] {
        let more = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false, "stream": stream});
        let answer = held(more);
        let (message, reason) = match stream {
            false => (answer.ok()["choices"][0]["message"].clone(), answer.ok()["choices"][0]["finish_reason"].clone()),
            true => {
                let (events, _) = answer.events();
                let called = events.iter().find(|event| event["choices"][0]["delta"]["tool_calls"].is_array());
                let ended = &events[events.len() - 1];
                (called.expect("a call")["choices"][0]["delta"].clone(), ended["choices"][0]["finish_reason"].clone())
            }
        };
        let call = &message["tool_calls"][0]["function"];
        assert!(is_day(call["arguments"].as_str().expect("JSON")) && reason == "tool_calls", "{message}");
        assert!(call["name"] == "pack" || (!stream && call["name"] == "plan"), "{call}");
    }

    // Several answers, with a seed that decides them; a text that ends them.
    let several =
        || served.post(CHAT, &asking("t", "Hi", json!({"n": 3, "temperature": 1.5, "top_k": 0, "seed": 7}))).ok();
    let (first, again) = (several(), several());
    assert_eq!(first["choices"], again["choices"]);
    let texts: Vec<&str> = first["choices"].as_array().expect("three").iter().map(said).collect();
    assert!(texts.len() == 3 && (texts[0] != texts[1] || texts[1] != texts[2]), "{texts:?}");
    let stop: String = whole.chars().skip(2).take(2).collect();
    let cut = served.post(CHAT, &asking("tuned", "Hi", json!({"stop": [stop]}))).ok();
    assert_eq!(
        said(&cut["choices"][0]),
        &whole[..whole.find(&stop).expect("it is there")],
        "{whole:?} before {stop:?}"
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");

    // Texts that are gone on with, of words and of tokens.
    let text = |prompt: Value| {
        let body = json!({"model": "t", "prompt": prompt, "temperature": 0, "max_tokens": 4, "logprobs": 1});
        served.post("/v1/completions", &body).ok()
    };
    let both = text(json!(["Hi", "a b"]));
    assert_eq!(both["choices"][1]["text"], text(json!("a b"))["choices"][0]["text"]);
    assert_eq!(both["choices"][1]["index"], 1);
    let logprobs = both["choices"][0]["logprobs"]["token_logprobs"].as_array().expect("a list");
    assert_eq!(logprobs.len(), 4);
    assert_eq!(text(json!([[2, 5, 6]]))["usage"]["prompt_tokens"], 3);

    // Where texts are: `score` has no hidden states to compare with, and the script asks transformers.
    let embed = |input: Value, format: &str| {
        let body = json!({"model": "tuned", "input": input, "encoding_format": format});
        served.post("/v1/embeddings", &body).ok()["data"].clone()
    };
    let places = embed(json!(["a cat", "a cat", "four"]), "float");
    let place = |at: usize| -> Vec<f64> {
        places[at]["embedding"].as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    let product = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
    assert!((product(place(0), place(0)) - 1.0).abs() < 1e-5 && place(0) == place(1));
    assert!(product(place(0), place(2)) < 0.999, "another text is elsewhere");
    assert!(
        embed(json!("a cat"), "base64")[0]["embedding"].as_str().is_some_and(|text| text.len() > 4 * place(0).len())
    );
    assert_eq!(served.post("/v1/embeddings", &json!({"model": "t", "input": ""})).status, 400);

    assert!(served.figure("gemma_tune_requests_total{path=\"/v1/chat/completions\",status=\"200\"}") >= 8);
    assert_eq!(served.figure("gemma_tune_running_answers"), 0);
    assert_eq!(served.end(), Some(0));
}

#[test]
fn what_is_wrong_is_said_and_what_is_forbidden_is_not_done() {
    let bench = Bench::new().with_text();
    bench.write("keys", "secret-one\n");
    bench.write("inside.png", "a file of this machine");
    let served = Served::start(
        &bench,
        "--model t --name base --api-key-file keys --max-body-bytes 4kB --max-tokens 5 --requests-per-minute 200 --tokens-per-minute 100000",
    );
    for path in ["/health", "/ready"] {
        assert_eq!(served.get(path).status, 200, "{path}");
    }
    for (key, code) in [("", "invalid_api_key"), ("Authorization: Bearer secret\r\n", "invalid_api_key")] {
        let refused = served.ask("POST", CHAT, key, &asking("base", "Hi", json!({})).to_string());
        assert_eq!((refused.status, refused.problem().1.as_str()), (401, code));
        assert!(!refused.body.contains("secret"), "{}", refused.body);
    }
    assert_eq!(served.get("/metrics").status, 401);

    let key = "Authorization: Bearer secret-one\r\n";
    let post = |body: &str| served.ask("POST", CHAT, key, body);
    let chat = |more: Value| post(&asking("base", "Hi", more).to_string());
    let first = chat(json!({}));
    assert_eq!(first.status, 200);
    for said in
        ["x-ratelimit-limit-requests: 200", "x-ratelimit-remaining-requests: 199", "x-ratelimit-limit-tokens: 100000"]
    {
        assert!(first.head.contains(said), "{said}: {}", first.head);
    }
    let image = |url: &str| {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        json!({"messages": [{"role": "user", "content": [part]}]})
    };
    let file = format!("file://{}", bench.path("inside.png").display());
    let path = bench.path("inside.png").display().to_string();
    let listed = json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]});
    for (answer, expected) in [
        (post("{\"model\": "), (400, "invalid_json", "", "no JSON")),
        (post("[1]"), (400, "", "", "not an object")),
        (chat(json!({"model": "other"})), (404, "model_not_found", "model", "`base`")),
        (chat(json!({"temprature": 1})), (400, "unknown_parameter", "temprature", "did you mean `temperature`?")),
        (chat(json!({"messages": []})), (400, "", "messages", "`messages` is empty")),
        (chat(json!({"messages": [{"role": "robot", "content": "x"}]})), (400, "", "messages", "unknown role `robot`")),
        (chat(json!({"max_tokens": 1_000_000})), (400, "context_length_exceeded", "messages", "the model takes")),
        (chat(json!({"n": 17})), (400, "", "n", "1 to 16")),
        (chat(image(&file)), (400, "", "messages", "in the request itself")),
        (chat(image(&path)), (400, "", "messages", "in the request itself")),
        (chat(image("http://169.254.169.254/latest")), (400, "", "messages", "`http://169.254.169.254/latest`")),
        (chat(image("http://127.0.0.1:1/x.png")), (400, "", "messages", "no address asked")),
        (chat(listed), (400, "", "messages", "")),
        (
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}}),
            ),
            (400, "invalid_schema", "response_format", "at /not"),
        ),
        (chat(json!({"tool_choice": "required"})), (400, "", "tool_choice", "needs `tools`")),
        (chat(json!({"user": "x".repeat(5_000)})), (413, "body_too_large", "", "4000 bytes")),
        (served.ask("GET", CHAT, key, ""), (405, "", "", "takes POST")),
        (served.ask("GET", "/v1/models/none", key, ""), (404, "model_not_found", "model", "`none`")),
        (served.ask("GET", "/../../etc/passwd", key, ""), (404, "unknown_url", "", "nothing")),
        (
            served.ask("GET", "/v1/models", &format!("{key}Origin: http://evil.example\r\n"), ""),
            (403, "", "", "origins"),
        ),
    ] {
        let (status, code, param, message) = answer.problem();
        let is_expected = (status, code.as_str(), param.as_str()) == (expected.0, expected.1, expected.2);
        assert!(is_expected && message.contains(expected.3), "{expected:?}: {}", answer.body);
        assert!(!answer.body.contains("a file of this machine"), "{}", answer.body);
    }
    // The usual number of tokens is the server's, and as many as there is room for.
    let answer = chat(json!({"max_tokens": null})).ok();
    assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens <= 5), "{answer}");
    let described: Value = served.ask("GET", "/openapi.json", key, "").ok();
    assert!(described["paths"]["/v1/chat/completions"]["post"].is_object());
    let twice = format!("GET /health HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\nConnection: close\r\n\r\n", served.address);
    assert_eq!(served.raw(twice.as_bytes()).status, 400);
    let rebound = "GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(served.raw(rebound.as_bytes()).status, 403, "a name that somebody made to mean this machine");
    for broken in ["\r\n\r\n", "GET / HTTP/9\r\n\r\n", "POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
        let mut stream = served.connect();
        let _ = stream.write_all(broken.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(chat(json!({})).status, 200, "and it goes on");
    assert_eq!(served.end(), Some(0));

    for (args, part) in [
        ("--adapter x", "write `NAME=FOLDER`"),
        ("--adapter t=missing", "`--name` calls the base otherwise"),
        ("--adapter a=missing", "missing"),
        ("--api-key-file missing", "there is no such file"),
        ("--host 203.0.113.1", "nobody can listen"),
    ] {
        let refused = bench.run(&format!("serve --model t --port 0 {args}"));
        assert!(matches!(refused.code, Some(1 | 2)) && refused.stderr.contains(part), "{args}: {}", refused.stderr);
    }
}

#[test]
fn who_goes_away_is_not_answered_and_what_has_begun_is_finished() {
    let bench = Bench::new().with_text();
    let served = Served::start(&bench, "--model t --parallel 1 --queue 1");
    // The tiny model ends no answer by itself when every token that could is forbidden.
    let bias: Value = (0..8).map(|id| (id.to_string(), json!(-100))).collect::<serde_json::Map<_, _>>().into();
    let long = |more: Value| {
        let mut body = asking("t", "Hi", json!({"stream": true, "max_tokens": 40, "logit_bias": bias}));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let begin = |body: &Value| {
        let (text, mut stream) = (body.to_string(), served.connect());
        let head =
            format!("POST {CHAT} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", served.address, text.len());
        stream.write_all(format!("{head}{text}").as_bytes()).expect("a request");
        stream
    };
    for gone in 0..20 {
        let mut stream = begin(&long(json!({"stream": gone % 4 != 3})));
        if gone % 2 == 0 {
            let _ = stream.read(&mut [0; 64]);
        }
    }
    // All slots are free again, as soon as the system has said that the connections are gone.
    let is_free = || served.post(CHAT, &asking("t", "Hi", json!({}))).status == 200;
    assert!((0..100).any(|_| is_free() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));
    let is_idle =
        || served.figure("gemma_tune_waiting_requests") == 0 && served.figure("gemma_tune_running_answers") == 0;
    assert!((0..100).any(|_| is_idle() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));

    // Who has said all that he wants to say is answered, whole or in pieces.
    for more in [json!({"stream": false}), json!({"max_tokens": 5})] {
        let mut stream = begin(&long(more));
        stream.shutdown(std::net::Shutdown::Write).expect("half of it");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains("HTTP/1.1 200 OK") && text.contains("\"length\""), "{text}");
    }

    // Asked to end in the middle of a stream: it is finished, and nobody else is taken.
    let mut stream = begin(&long(json!({})));
    let mut reader = BufReader::new(stream.try_clone().expect("the stream"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a head");
    let idle = served.connect();
    let address = served.address.clone();
    let ending = std::thread::spawn(move || served.end());
    let mut rest = String::new();
    let _ = stream.flush();
    reader.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(ending.join().expect("an end"), Some(0));
    drop(idle);
    assert!(TcpStream::connect(&address).is_err());
}

/// A template that speaks of tools as FunctionGemma's does.
const IN_WORDS: &str = r#"{{ bos_token }}{%- set ns = namespace(rest=messages) -%}
{%- if tools or messages[0].role in ("system", "developer") -%}
{{- "<start_of_turn>developer\n" -}}
{%- if messages[0].role in ("system", "developer") -%}{{- messages[0].content | trim -}}{%- set ns.rest = messages[1:] -%}{%- endif -%}
{%- for tool in tools or [] -%}{{- "<start_function_declaration>declaration:" + tool.function.name + "<end_function_declaration>" -}}{%- endfor -%}
{{- "<end_of_turn>\n" -}}
{%- endif -%}
{%- for m in ns.rest -%}
{%- if m.role == "tool" -%}{{- "<start_function_response>response:" + m.name + "{value:<escape>" + m.content + "<escape>}<end_function_response>" -}}
{%- else -%}
{{- "<start_of_turn>" + ("model" if m.role == "assistant" else m.role) + "\n" -}}
{%- if m.content -%}{{- m.content | trim -}}{%- endif -%}
{%- for c in m.tool_calls or [] -%}{{- "<start_function_call>call:" + c.function.name + "{}<end_function_call>" -}}{%- endfor -%}
{%- if not m.tool_calls -%}{{- "<end_of_turn>\n" -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<start_of_turn>model\n" -}}{%- endif -%}
"#;

#[test]
fn calls_in_functiongemmas_words_become_calls() {
    let bench = Bench::new().with_text();
    bench.set("t/config.json", "max_position_embeddings", json!(1024));
    bench.write("t/chat_template.jinja", IN_WORDS);
    let served = Served::start(&bench, "--model t");
    let parameters = json!({"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]});
    let tools = json!([{"type": "function", "function": {"name": "pack", "parameters": parameters}}]);
    let question = json!({"role": "user", "content": "Pack?"});
    let ask = |messages: Value, more: Value| {
        let mut body = asking("t", "", json!({"messages": messages, "tools": tools, "max_tokens": 150}));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        served.post(CHAT, &body)
    };
    let said = ask(
        json!([{"role": "developer", "content": "Be brief."}, question]),
        json!({"tool_choice": "required", "parallel_tool_calls": false}),
    );
    let choice = said.ok()["choices"][0].clone();
    let calls = choice["message"]["tool_calls"].clone();
    let arguments = calls[0]["function"]["arguments"].as_str().expect("JSON");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert!(arguments["days"].is_i64() && calls[0]["function"]["name"] == "pack", "{choice}");
    assert_eq!(choice["finish_reason"], "tool_calls");
    // What the tool answered goes back with the number of the call alone; the template shows its name.
    let answer = json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "done"});
    let more = json!({"max_tokens": 2});
    ask(json!([question, {"role": "assistant", "content": null, "tool_calls": calls}, answer]), more).ok();
    let format = json!({"response_format": {"type": "json_object"}});
    assert_eq!(ask(json!([question]), format).problem().2, "response_format");
}

const TUNED: &str = "\
model: {base: t}
data: {train: chats.jsonl, max_length: 64}
adapter: {r: 4, lora_alpha: 64, target_modules: [q_proj, v_proj, down_proj]}
training: {max_steps: 6, learning_rate: 0.05, gradient_accumulation_steps: 1, lr_scheduler_type: constant}
output: {dir: out}
";
