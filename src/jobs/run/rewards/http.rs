//! Rewards that a server gives: it is sent what a program reads, a line of JSON for each answer, and answers with as many numbers.

use super::fault::Fault;
use super::{Answered, lines};
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use crate::progress::counted;
use crate::recipe;
use crate::report::text;
use crate::terminal::excerpt;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often a server is asked that is busy, or away.
const TRIES: u32 = 5;
/// How long is waited before the second time; twice as long before each further one, unless the server says how long.
const PAUSE: Duration = Duration::from_millis(250);
/// How often is looked whether the run is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// What a server may answer.
const MOST_BYTES: u64 = 16 << 20;
/// Characters of it that a message shows.
const SHOWN_CHARS: usize = 300;
/// What is shorter is no secret, but part of many words.
const SECRET_BYTES: usize = 4;

/// A server that judges answers.
#[derive(Clone)]
pub struct Http {
    url: String,
    /// The address as the recipe has it, without what may be secret in it: what stands behind a `?`.
    shown: String,
    timeout: Duration,
    headers: Vec<(String, String)>,
    /// The values of variables, which nobody is shown.
    secrets: Vec<String>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("url", &self.shown).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What came of asking once.
#[derive(Debug)]
#[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "nobody asks"))]
enum Heard {
    /// What the server said.
    Said(String),
    /// It said no, and perhaps when to ask again.
    Refused { status: u16, body: String, after: Option<Duration> },
    /// No connection, or one that broke.
    Broken(String),
    /// It took too long.
    Late,
    /// It said more than is read.
    Long,
}

impl Http {
    /// That of reward number `at` of a recipe.
    ///
    /// # Errors
    /// As [`Http::missing`].
    pub fn of(keys: &recipe::Reward, at: usize) -> Result<Self> {
        let (http, problems) = Http::read(keys, at);
        Error::many(problems).map_or(Ok(http), Err)
    }

    /// A problem for each variable of its address and headers that is not set, or one where this program cannot speak HTTP.
    pub fn missing(keys: &recipe::Reward, at: usize) -> Vec<Error> {
        Http::read(keys, at).1
    }

    fn read(keys: &recipe::Reward, at: usize) -> (Self, Vec<Error>) {
        let url = keys.url.as_deref().unwrap_or_default();
        let shown = url.split(['?', '#']).next().unwrap_or_default().to_owned();
        let mut texts = Texts::default();
        let url = texts.filled(format!("rewards[{at}].url"), url, &|name| std::env::var(name).ok());
        let mut headers = Vec::new();
        for (name, value) in keys.headers.iter().flat_map(|recipe::Headers(headers)| headers) {
            let key = format!("rewards[{at}].headers.{name}");
            headers.push((name.clone(), texts.filled(key, value, &|name| std::env::var(name).ok())));
        }
        let Texts { mut secrets, mut problems } = texts;
        if cfg!(not(feature = "hub")) {
            let what = "`kind: http` needs the feature `hub`, which this program was built without";
            let error = Error::new(Kind::Recipe, what).at(Place::Key(format!("rewards[{at}].kind")));
            problems = vec![error.hint("build it with `--features hub`, which is in the default")];
        }
        secrets.retain(|secret| secret.len() >= SECRET_BYTES);
        // The longest first: one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let timeout = Duration::from_secs_f64(keys.timeout.unwrap_or(60.0));
        (Http { url, shown, timeout, headers, secrets }, problems)
    }

    /// What it says of each answer; `None` where `stop` was set first.
    ///
    /// # Errors
    /// Where it cannot be asked in time, says no, or does not give a number for each answer: the answer that has none is named.
    pub fn judge(&self, name: &str, answers: &[Answered], stop: &AtomicBool) -> Result<Option<Vec<f64>>> {
        let fault = Fault { name, who: &self.shown, answers, complaints: String::new() };
        let (body, started): (Arc<[u8]>, _) = (lines(answers).into(), Instant::now());
        let mut pause = PAUSE;
        for tries in 1.. {
            let left = self.timeout.saturating_sub(started.elapsed());
            let Some(heard) = self.ask(&body, left, stop) else { return Ok(None) };
            let (what, hint, wait) = match heard {
                Heard::Said(said) => return numbers(self, &fault, &said).map(Some),
                Heard::Late => {
                    let what = format!("has not judged {} in {}", fault.all(), text::duration(self.timeout));
                    return Err(fault
                        .error(&what, 0)
                        .hint("raise the reward's `timeout`, in seconds, or mend the server"));
                }
                Heard::Long => {
                    let what = format!("answered more than {} MiB for {}", MOST_BYTES >> 20, fault.all());
                    return Err(fault.error(&what, 0).hint(NUMBERS_ALONE));
                }
                Heard::Refused { status: status @ (429 | 503), body, after } => {
                    let what = format!("answered {status}{}", self.saying(&body));
                    (what, "it is busy: give it more `timeout`, or fewer answers at once", after.unwrap_or(pause))
                }
                Heard::Refused { status, body, .. } => {
                    let what = format!("answered {status}{}", self.saying(&body));
                    let hint = match status {
                        300..=399 => {
                            "name the address that it leads to: nobody is followed, as headers may hold secrets"
                        }
                        401 | 403 => "it wants to know who asks: `headers: {Authorization: 'Bearer $TOKEN'}`",
                        404 | 405 => "answers are sent with POST: is this the address for that?",
                        _ => "2xx is what an answer with numbers has",
                    };
                    return Err(fault.error(&what, 0).hint(hint));
                }
                Heard::Broken(why) => (
                    format!("cannot be asked: {}", self.discreet(&why)),
                    "is the server there, and is this its address?",
                    pause,
                ),
            };
            let left = self.timeout.saturating_sub(started.elapsed());
            if tries == TRIES || wait >= left {
                let tried = if tries == 1 { String::new() } else { format!(", {tries} times") };
                return Err(fault.error(&format!("{what}{tried}"), 0).hint(hint));
            }
            if !slept(wait, stop) {
                return Ok(None);
            }
            pause *= 2;
        }
        Ok(None)
    }

    /// Asks once, on a thread of its own, which is left alone once `stop` is set: then `None`.
    fn ask(&self, body: &Arc<[u8]>, left: Duration, stop: &AtomicBool) -> Option<Heard> {
        let (sender, receiver) = channel();
        let (asks, body, started) = (self.clone(), body.clone(), Instant::now());
        thread::spawn(move || sender.send(asks.post(&body, left)));
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(heard) => return Some(heard),
                Err(RecvTimeoutError::Disconnected) => return Some(Heard::Broken("nothing was heard".into())),
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::SeqCst) => return None,
                Err(RecvTimeoutError::Timeout) if started.elapsed() > left => return Some(Heard::Late),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    #[cfg(not(feature = "hub"))]
    fn post(&self, _: &[u8], _: Duration) -> Heard {
        let _ = &self.headers; // which nobody is told
        Heard::Broken("this program was built without the feature `hub`".into())
    }

    #[cfg(feature = "hub")]
    fn post(&self, body: &[u8], left: Duration) -> Heard {
        let broken = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => Heard::Late,
            ureq::Error::BodyExceedsLimit(_) => Heard::Long,
            ureq::Error::HostNotFound => Heard::Broken("its name could not be resolved".into()),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Heard::Broken("the connection was refused".into())
            }
            other => Heard::Broken(other.to_string()),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(left))
            .user_agent(concat!("gemma-tune/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let mut request = agent.post(&self.url).header("content-type", "application/x-ndjson");
        request = request.header("accept", "application/json, application/x-ndjson");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) => return broken(error),
        };
        let header = |name: &str| answer.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let (status, after) = (answer.status(), header("retry-after").map(Duration::from_secs));
        let said = match answer.body_mut().with_config().limit(MOST_BYTES).read_to_vec() {
            Ok(said) => String::from_utf8_lossy(&said).into_owned(),
            Err(error) if status.is_success() => return broken(error),
            Err(_) => String::new(),
        };
        match status.is_success() {
            true => Heard::Said(said),
            false => Heard::Refused { status: status.as_u16(), body: said, after },
        }
    }

    /// What a server said beside its number: the beginning, on a line.
    fn saying(&self, body: &str) -> String {
        let line: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match line.trim() {
            "" => String::new(),
            // Only then is it cut: a secret in two no longer looks like one.
            line => format!(": {}", excerpt(&self.discreet(line), SHOWN_CHARS)),
        }
    }

    /// A text without the values of variables, and without what stands behind the address.
    fn discreet(&self, text: &str) -> String {
        let text = text.replace(&self.url, &self.shown);
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "(a secret)"))
    }
}

/// Texts of a recipe with variables, as they are filled in.
#[derive(Debug, Default)]
struct Texts {
    /// What stood in the place of variables.
    secrets: Vec<String>,
    /// Those that could not be filled in.
    problems: Vec<Error>,
}

impl Texts {
    /// The text of a key with variables in the place of `$NAME` and `${NAME}`.
    fn filled(&mut self, key: String, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
        let (mut missing, mut secrets) = (Vec::new(), Vec::new());
        let mut find = |name: &str| match lookup(name).filter(|value| !value.is_empty()) {
            Some(value) => {
                secrets.push(value.clone());
                value
            }
            None => {
                missing.push(name.to_owned());
                String::new()
            }
        };
        let filled = paths::with_variables(text, &mut find);
        self.secrets.extend(secrets);
        let wrong = |what: String, hint: String| Error::new(Kind::Recipe, what).at(Place::Key(key.clone())).hint(hint);
        self.problems.extend(missing.into_iter().map(|name| {
            let what = format!("the variable `{name}` of `{key}` is not set");
            wrong(what, format!("set `{name}` in the environment; `$$` is a dollar"))
        }));
        filled.unwrap_or_else(|| {
            let what = format!("`${{` in `{key}` is not followed by a variable's name and `}}`");
            self.problems.push(wrong(what, "write `${NAME}` or `$NAME`; `$$` is a dollar".into()));
            String::new()
        })
    }
}

/// What a server is to answer.
const NUMBERS_ALONE: &str =
    "it answers with a JSON list of numbers, or with one number a line: one for each line that it is sent";

/// Waits, unless the run is to stop: whether it waited to the end.
fn slept(time: Duration, stop: &AtomicBool) -> bool {
    let started = Instant::now();
    while started.elapsed() < time {
        if stop.load(Ordering::SeqCst) {
            return false;
        }
        thread::sleep(LOOK.min(time.saturating_sub(started.elapsed())));
    }
    true
}

/// The number of each answer, of what a server said of them: a JSON list, or lines.
fn numbers(http: &Http, fault: &Fault, said: &str) -> Result<Vec<f64>> {
    let said = said.trim();
    let items: Vec<String> = match said.starts_with('[') {
        false => said.lines().map(|line| line.trim().to_owned()).collect(),
        true => match serde_json::from_str::<Vec<Value>>(said) {
            Ok(items) => items.iter().map(Value::to_string).collect(),
            Err(error) => {
                let what = format!("answered what is no JSON list ({error}){}", http.saying(said));
                return Err(fault.error(&what, 0).hint(NUMBERS_ALONE));
            }
        },
    };
    let not_finite = |number: usize, item: &str| {
        format!("gave what is no finite number as number {number} of its answer{}", http.saying(item))
    };
    let miscounted = format!("gave {} for {}", counted(items.len(), "number"), fault.all());
    fault.numbers(&items, (&not_finite, NUMBERS_ALONE), (miscounted, NUMBERS_ALONE))
}

#[cfg(feature = "hub")]
#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// The head and the body of each request.
    type Requests = Vec<(String, String)>;

    /// Reads a request to its end; its head and its body.
    fn request(stream: &mut TcpStream) -> (String, String) {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8(bytes.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap() || count == 0 {
                return (head.to_owned(), body.to_owned());
            }
        }
    }

    /// What a server gets that gives these answers, one after the other (an empty one breaks the connection), and what is made of them.
    fn asked(replies: &[&'static str], timeout: f64) -> (Requests, Result<Option<Vec<f64>>>) {
        let replies = replies.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/judge?key=hidden", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut requests = Vec::new();
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                requests.push(request(&mut stream));
                stream.write_all(reply.as_bytes()).unwrap();
            }
            requests
        });
        let http = Http {
            shown: url.replace("?key=hidden", ""),
            url,
            timeout: Duration::from_secs_f64(timeout),
            headers: vec![("x-key".into(), "Bearer s3cret".into())],
            secrets: vec!["s3cret".into()],
        };
        let row = json!({"prompt": "a\nb", "answer": 4});
        let columns = row.as_object().unwrap();
        let answered = |origin| Answered { completion: "é\n", tokens: 2, columns, origin };
        let answers = ["a.jsonl, row 1", "a.jsonl, row 2"].map(answered);
        let judged = http.judge("mine", &answers, &AtomicBool::new(false));
        (server.join().unwrap(), judged)
    }

    const NUMBERS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n[1, -2e3]";

    #[test]
    fn a_server_is_sent_lines_and_gives_numbers() {
        let (requests, judged) = asked(&[NUMBERS], 30.0);
        assert_eq!(judged.unwrap(), Some(vec![1.0, -2000.0]));
        let (head, body) = &requests[0];
        assert!(head.starts_with("POST /judge?key=hidden HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("content-type: application/x-ndjson") && head.contains("x-key: bearer s3cret"), "{head}");
        let line = "{\"prompt\":\"a\\nb\",\"answer\":4,\"completion\":\"é\\n\"}\n";
        assert_eq!(*body, line.repeat(2));
        let lines = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n 0.5\n1\r\n";
        assert_eq!(asked(&[lines], 30.0).1.unwrap(), Some(vec![0.5, 1.0]));
    }

    #[test]
    fn one_that_is_busy_or_away_is_asked_again_and_nothing_is_0_in_silence() {
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let (requests, judged) = asked(&[busy, "", NUMBERS], 30.0);
        assert_eq!((requests.len(), judged.unwrap()), (3, Some(vec![1.0, -2000.0])));
        for (replies, timeout, what, row) in [
            (
                &["HTTP/1.1 429 Slow\r\nRetry-After: 100\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow"][..],
                30.0,
                "answered 429: slow",
                "row 1",
            ),
            (
                &["HTTP/1.1 500 No\r\nContent-Length: 15\r\nConnection: close\r\n\r\nno s3cret\nthere"],
                30.0,
                "answered 500: no (a secret) there",
                "row 1",
            ),
            (
                &["HTTP/1.1 302 There\r\nLocation: /b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
                30.0,
                "answered 302",
                "row 1",
            ),
            (
                &["HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[1]"],
                30.0,
                "gave 1 number for 2 answers",
                "row 2",
            ),
            (
                &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n1\nNaN"],
                30.0,
                "gave what is no finite number as number 2 of its answer: NaN",
                "row 2",
            ),
            (
                &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n[1, null]"],
                30.0,
                "as number 2 of its answer: null",
                "row 2",
            ),
        ] {
            let error = asked(replies, timeout).1.unwrap_err();
            let said = error.to_string();
            assert_eq!(error.exit_code(), 1);
            assert!(said.contains("reward `mine`: `http://127.0.0.1:") && said.contains(what), "{said}");
            assert!(said.contains(&format!("an answer to a.jsonl, {row}")), "{said}");
            assert!(!said.contains("s3cret") && !said.contains("hidden"), "{said}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_is_said_or_once_the_run_is_to_stop() {
        // Nobody takes what is sent to it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let of = |timeout| {
            let (url, shown) = (url.clone(), url.clone());
            Http { url, shown, timeout, headers: Vec::new(), secrets: Vec::new() }
        };
        let started = Instant::now();
        let error = of(Duration::from_millis(200)).judge("mine", &[], &AtomicBool::new(false)).unwrap_err();
        assert!(error.what().contains("has not judged 0 answers in 0.2 s"), "{error}");
        let stopped = of(Duration::from_secs(60)).judge("mine", &[], &AtomicBool::new(true)).unwrap();
        assert!(stopped.is_none() && started.elapsed() < Duration::from_secs(30));
        drop(listener);
        let error = of(Duration::from_millis(400)).judge("mine", &[], &AtomicBool::new(false)).unwrap_err();
        assert!(error.what().contains("cannot be asked: the connection was refused"), "{error}");
    }

    #[test]
    fn headers_have_variables() {
        let lookup = |name: &str| (name == "TOKEN").then(|| "abcd".to_owned());
        let mut texts = Texts::default();
        let mut filled = |value: &str| texts.filled("rewards[0].url".into(), value, &lookup);
        assert_eq!(filled("Bearer $TOKEN"), "Bearer abcd");
        assert_eq!(filled("${TOKEN}x$$1 $"), "abcdx$1 $");
        assert_eq!(filled("$5"), "$5");
        // All of those that are not set, not the first alone.
        filled("a $OTHER ${THIRD}");
        filled("${TOKEN");
        let said: Vec<&str> = texts.problems.iter().map(Error::what).collect();
        let unset = |name| format!("the variable `{name}` of `rewards[0].url` is not set");
        assert_eq!(said[..2], [unset("OTHER"), unset("THIRD")]);
        assert!(said[2].starts_with("`${` in `rewards[0].url`") && said.len() == 3, "{said:?}");
        assert_eq!(texts.secrets, ["abcd", "abcd"]);
    }
}
