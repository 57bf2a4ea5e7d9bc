//! A server of OpenAI's API that is asked in the place of this model.
//!
//! It is asked on a thread of its own: what speaks to it waits, and nobody else is to. Where nobody waits for its answer any more the
//! connection is cut, and it can stop.

use super::body::{Body, Events, event};
use super::client::Client;
use super::refusal::Refusal;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use ureq::{Agent, Timeout};

/// Bytes of an answer that does not come in pieces, at most.
const MOST_BYTES: usize = 64 << 20;
/// Pieces that wait for a client that reads slowly.
const PIECES: usize = 64;
/// Bytes of a piece, at most.
const PIECE_BYTES: usize = 16 << 10;
/// Chats that wait for it at once: each has a thread, and one of the connections that others come by.
const MOST_ASKED: usize = 64;
/// Bytes of an event of a stream, at most.
const MOST_EVENT_BYTES: usize = 1 << 20;
/// Bytes of its list of models, at most.
const MOST_LIST_BYTES: u64 = 4 << 20;
/// How long it may take to say which models it has.
const LIST_TIME: Duration = Duration::from_secs(10);
/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";

/// Who is asked, and how.
pub struct Upstream {
    url: String,
    key: Option<String>,
    model: String,
    timeout: Duration,
    asked: Arc<Semaphore>,
}

/// Where a server of OpenAI's API answers chats, behind what its addresses begin with.
const CHATS: &str = "/chat/completions";

/// Where a server whose addresses begin with `url` answers chats.
pub fn chats_address(url: &str) -> String {
    format!("{url}{CHATS}")
}

/// Why there is no answer, in words without any of the chat.
#[derive(Debug, PartialEq)]
pub struct Silence {
    /// Why.
    pub why: String,
    /// The status that it said instead.
    pub status: Option<u16>,
    /// Whether it was cut off here, because the client's request may take no longer.
    pub is_over: bool,
}

impl Silence {
    /// Whether nothing is to be had of it: who refuses a chat is there; who sends elsewhere is not, and of who is cut off here nothing is
    /// known.
    pub fn is_away(&self) -> bool {
        let is_no_answer = |status| status >= 500 || [401, 403, 404].contains(&status) || status < 400;
        !self.is_over && self.status.is_none_or(is_no_answer)
    }
}

impl From<String> for Silence {
    fn from(why: String) -> Self {
        Silence { why, status: None, is_over: false }
    }
}

/// Why a chat got no answer.
impl From<&ureq::Error> for Silence {
    fn from(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(Timeout::Global) => {
                let why = "the request may take no longer here (`--request-timeout`)".to_owned();
                Silence { is_over: true, ..why.into() }
            }
            other => why(other).into(),
        }
    }
}

/// Why an answer ended before its end.
impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<ureq::Error>()) {
            Some(timeout @ ureq::Error::Timeout(_)) => {
                let silence = Silence::from(timeout);
                Silence { why: format!("its answer broke off: {}", silence.why), ..silence }
            }
            _ => format!("its answer broke off: {error}").into(),
        }
    }
}

/// As much of a list of models as is looked at.
#[derive(Deserialize)]
struct List {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

/// As much of an answer as tells that it is one: some servers say `200` to what they refuse.
#[derive(Deserialize)]
struct Completion {
    #[serde(rename = "choices")]
    _choices: Vec<IgnoredAny>,
}

impl Upstream {
    /// A server whose addresses begin with `url`, asked for this `model` with this `key`; it may be silent for as long as `timeout`.
    pub fn new(url: String, key: Option<String>, model: String, timeout: Duration) -> Self {
        Upstream { url, key, model, timeout, asked: Arc::new(Semaphore::new(MOST_ASKED)) }
    }

    /// Its answer to a chat: what a client of ours sent, with another model, and nothing of who the client is. All of it may take as long
    /// as `within`. A stream goes on as it comes; where it ends before its end, `broken` hears why.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn chat(
        &self,
        mut chat: Map<String, Value>,
        within: Duration,
        client: Option<Client>,
        broken: impl FnOnce(&Silence) + Send + 'static,
    ) -> Result<Response<Body>, Silence> {
        // As a server would say itself that is there, and has too much to do.
        let many = |_| Silence { status: Some(429), ..format!("{MOST_ASKED} chats wait for it already").into() };
        let permit = self.asked.clone().try_acquire_owned().map_err(many)?;
        let wants_stream = chat.get("stream") == Some(&Value::Bool(true));
        chat.insert("model".into(), self.model.as_str().into());
        let agent = self.agent(within);
        // Whoever goes away from here takes this along.
        let connection = Connection(Some(agent.clone()));
        let (says_head, head) = oneshot::channel();
        let (says, mut hears) = channel(PIECES);
        let (url, key) = (chats_address(&self.url), self.key.clone());
        let body = Value::Object(chat).to_string();
        tokio::task::spawn_blocking(move || ask(&agent, &url, key.as_deref(), body.as_bytes(), says_head, &says));
        let Head { status, is_stream } = head.await.map_err(|_| "it was not asked".to_owned())??;
        if !(200..300).contains(&status) {
            return Err(Silence { status: Some(status), ..format!("it answered {status}").into() });
        }
        if wants_stream != is_stream {
            let [wanted, found] = [wants_stream, is_stream].map(|is| if is { "a stream" } else { "a whole answer" });
            return Err(format!("{wanted} was asked for, and it gave {found}").into());
        }
        if is_stream {
            let gone = Box::pin(async move {
                match client {
                    Some(client) => client.gone(false).await,
                    None => std::future::pending().await,
                }
            });
            let (end, broken) = (End::Open, Some(Box::new(broken) as Broken));
            return Ok(Body::events(Handed {
                hears,
                gone,
                held: Vec::new(),
                end,
                broken,
                _taken: (connection, permit),
            }));
        }
        let mut whole = Vec::new();
        while let Some(piece) = hears.recv().await {
            let piece = piece?;
            if whole.len() + piece.len() > MOST_BYTES {
                return Err(format!("its answer is longer than {} MiB", MOST_BYTES >> 20).into());
            }
            whole.extend_from_slice(&piece);
        }
        match serde_json::from_slice::<Completion>(&whole).is_ok().then(|| String::from_utf8(whole)) {
            Some(Ok(text)) => Ok(Body::text(StatusCode::OK, "application/json", text)),
            _ => Err("its answer is no JSON with `choices`".to_owned().into()),
        }
    }

    /// Asks it which models it has, and waits for that: what is wrong with its address or its key is known before the first chat. Says
    /// what is odd about its answer.
    ///
    /// # Errors
    /// What it was asked for, and what is wrong; the key is not in it.
    pub fn check(&self) -> Result<Option<String>, String> {
        let url = format!("{}/models", self.url);
        let wrong = |why: String| format!("GET {url}: {why}");
        let mut request = self.agent(LIST_TIME).get(&url);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut answer = request.call().map_err(|error| wrong(why(&error)))?;
        match answer.status().as_u16() {
            200..300 => {}
            status @ (401 | 403) if self.key.is_some() => {
                return Err(wrong(format!("it answered {status}: it does not take the key in `upstream.api_key_env`")));
            }
            status @ (401 | 403) => {
                return Err(wrong(format!("it answered {status}: it wants a key, which `upstream.api_key_env` names")));
            }
            404 => {
                let hint = format!("`upstream.url` is what stands before {CHATS}, as in https://api.openai.com/v1");
                return Err(wrong(format!("it answered 404: {hint}")));
            }
            status => return Err(wrong(format!("it answered {status}"))),
        }
        let text = answer.body_mut().with_config().limit(MOST_LIST_BYTES).read_to_vec();
        let list = text.ok().and_then(|text| serde_json::from_slice::<List>(&text).ok());
        let is_missing = |list: &List| !list.data.iter().any(|model| model.id == self.model);
        Ok(list.filter(is_missing).map(|_| format!("GET {url}: `{}` is not among its models", self.model)))
    }

    /// What its addresses begin with.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn agent(&self, within: Duration) -> Agent {
        let silent = Some(self.timeout).filter(|timeout| *timeout < within);
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // the key is for this address alone
            .timeout_global(Some(within))
            .timeout_connect(silent)
            .timeout_recv_response(silent)
            .timeout_per_read(silent)
            .timeout_per_write(silent)
            .user_agent(concat!("gemma-tune/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upstream { url, model, timeout, .. } = self;
        f.debug_struct("Upstream")
            .field("url", url)
            .field("model", model)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// What is spoken through; it is cut when this goes.
struct Connection(Option<Agent>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Agent::shutdown);
    }
}

/// How an answer begins.
struct Head {
    status: u16,
    is_stream: bool,
}

/// Asks, and says what comes of it; on a thread that may wait.
fn ask(
    agent: &Agent,
    url: &str,
    key: Option<&str>,
    body: &[u8],
    says_head: oneshot::Sender<Result<Head, Silence>>,
    says: &Sender<Result<Bytes, Silence>>,
) {
    let mut request = agent.post(url).header("content-type", "application/json");
    // Packed pieces would wait for each other.
    request = request.header("accept-encoding", "identity");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let answer = match request.send(body) {
        Ok(answer) => answer,
        Err(error) => {
            let _ = says_head.send(Err(Silence::from(&error))); // where nobody waits, nobody needs to know
            return;
        }
    };
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_stream = kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream");
    let status = answer.status().as_u16();
    if says_head.send(Ok(Head { status, is_stream })).is_err() || !answer.status().is_success() {
        return;
    }
    let (mut reader, mut buffer) = (answer.into_body().into_reader(), vec![0; PIECE_BYTES]);
    loop {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) => Err(error.into()),
        };
        let is_last = piece.is_err();
        if says.blocking_send(piece).is_err() || is_last {
            return;
        }
    }
}

/// Why nothing was heard.
fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it did not answer in time".into(),
        ureq::Error::HostNotFound => "its name could not be resolved".into(),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "the connection was refused".into()
        }
        other => other.to_string(),
    }
}

/// Who hears why a stream ended before its end.
type Broken = Box<dyn FnOnce(&Silence) + Send>;

/// A stream that is handed on, whole events at a time: what is said of one that breaks off is an event of its own.
struct Handed {
    hears: Receiver<Result<Bytes, Silence>>,
    /// When nobody listens any more.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What has come of an event that has not ended.
    held: Vec<u8>,
    end: End,
    /// Who hears that it did not come to its own.
    broken: Option<Broken>,
    _taken: (Connection, OwnedSemaphorePermit),
}

/// How far a stream is.
#[derive(PartialEq)]
enum End {
    /// Its last event has not come.
    Open,
    /// It has.
    Said,
    /// Nothing comes any more.
    Over,
}

/// Whether the last event of a stream is among these; a text that says the same is none.
fn says_done(events: &[u8]) -> bool {
    let data = |line: &'_ [u8]| line.strip_prefix(b"data:").map(<[u8]>::trim_ascii).is_some_and(|data| data == DONE);
    events.split(|byte| *byte == b'\n').any(data)
}

impl Handed {
    /// The events that are whole with this piece.
    fn whole(&mut self, piece: &[u8]) -> Option<Bytes> {
        self.held.extend_from_slice(piece);
        let ends = |ending: &[u8]| {
            self.held.windows(ending.len()).rposition(|part| part == ending).map(|at| at + ending.len())
        };
        let end = ends(b"\n\n").max(ends(b"\n\r\n"))?;
        let events: Vec<u8> = self.held.drain(..end).collect();
        if says_done(&events) {
            self.end = End::Said;
        }
        Some(events.into())
    }

    /// What is said at the end of what has come: the rest of a stream that came to its own, or that it did not.
    fn last(&mut self, silence: Silence) -> Option<Bytes> {
        let is_whole = self.end == End::Said || says_done(&self.held);
        self.end = End::Over;
        if is_whole {
            return Some(std::mem::take(&mut self.held).into()).filter(|rest: &Bytes| !rest.is_empty());
        }
        self.broken.take().into_iter().for_each(|broken| broken(&silence));
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, format!("who was asked instead: {}", silence.why));
        Some(event(&refusal.json()).into())
    }
}

impl Events for Handed {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.end == End::Over {
                return Poll::Ready(None);
            }
            match self.hears.poll_recv(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    if let Some(events) = self.whole(&piece) {
                        return Poll::Ready(Some(events));
                    }
                    if self.held.len() > MOST_EVENT_BYTES {
                        let why = format!("an event has more than {} MiB", MOST_EVENT_BYTES >> 20);
                        return Poll::Ready(self.last(why.into()));
                    }
                }
                Poll::Ready(Some(Err(silence))) => return Poll::Ready(self.last(silence)),
                Poll::Ready(None) => return Poll::Ready(self.last("its answer broke off".to_owned().into())),
                Poll::Pending if self.gone.as_mut().poll(context).is_ready() => self.end = End::Over,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    /// Reads a request: its head, in small letters, and its body.
    fn request(stream: &TcpStream) -> (String, String) {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 {}
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn chat(stream: bool) -> Map<String, Value> {
        let body = serde_json::json!({"model": "t", "messages": [], "stream": stream, "x": 1.0});
        body.as_object().unwrap().clone()
    }

    /// What was said, and why it broke off.
    type Said = (String, Option<String>);

    /// What is made of an answer, and what was asked.
    fn answered(reply: &'static str, stream: bool) -> (Result<Said, Silence>, (String, String)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = request(&stream);
            stream.write_all(reply.as_bytes()).unwrap();
            asked
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(async {
            let upstream = Upstream::new(url, Some("s3cret".into()), "large".into(), Duration::from_secs(10));
            let (tells, told) = std::sync::mpsc::channel();
            let broken = move |silence: &Silence| tells.send(silence.why.clone()).unwrap();
            let answer = upstream.chat(chat(stream), Duration::from_secs(20), None, broken).await?;
            let mut said = Vec::new();
            match answer.into_body() {
                Body::Whole(bytes) => said.extend_from_slice(&bytes.unwrap_or_default()),
                Body::Events(mut events) => {
                    while let Some(piece) = std::future::poll_fn(|context| events.poll(context)).await {
                        said.extend_from_slice(&piece);
                    }
                }
            }
            Ok((String::from_utf8(said).unwrap(), told.try_recv().ok()))
        });
        (said, server.join().unwrap())
    }

    const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{\"choices\": [1]}";
    const STREAM: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\ndata: [DONE]\n\n";

    #[test]
    fn what_it_says_is_handed_on_and_it_hears_what_was_asked_alone() {
        let (said, (head, body)) = answered(JSON, false);
        assert_eq!(said.unwrap(), ("{\"choices\": [1]}".to_owned(), None));
        assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
        assert_eq!(body, r#"{"model":"large","messages":[],"stream":false,"x":1.0}"#);
        assert_eq!(answered(STREAM, true).0.unwrap(), ("data: 1\n\ndata: [DONE]\n\n".to_owned(), None));
        for cut in [
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: 1\n\ndata: {\"a",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\ndata: {\"a",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\ndata: {\"[DONE] a",
        ] {
            // Half an event is none.
            let (said, broken) = answered(cut, true).0.unwrap();
            assert!(said.starts_with("data: 1\n\ndata: {\"error\":") && said.contains("broke off"), "{said}");
            assert!(broken.is_some_and(|why| why.starts_with("its answer broke off")));
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for (reply, stream, part) in [
            ("HTTP/1.1 429 Slow\r\nContent-Length: 4\r\nConnection: close\r\n\r\nHi !", false, "it answered 429"),
            ("HTTP/1.1 307 There\r\nLocation: http://a.example\r\nContent-Length: 0\r\n\r\n", false, "it answered 307"),
            (JSON, true, "a stream was asked for, and it gave a whole answer"),
            (STREAM, false, "a whole answer was asked for"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>", false, "no JSON"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"error\": 1}",
                false,
                "no JSON with `choices`",
            ),
        ] {
            let Silence { why, status, .. } = answered(reply, stream).0.unwrap_err();
            assert!(why.contains(part) && !why.contains("s3cret"), "{why}");
            assert_eq!(status.is_some(), part.starts_with("it answered"), "{why}");
        }
    }

    /// What comes of looking at a server that gives this reply, and what it was asked.
    fn checked(reply: &'static str, key: Option<&str>) -> (Result<Option<String>, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = request(&stream).0;
            stream.write_all(reply.as_bytes()).unwrap();
            asked
        });
        let upstream = Upstream::new(url, key.map(str::to_owned), "large".into(), Duration::from_secs(10));
        (upstream.check(), server.join().unwrap())
    }

    #[test]
    fn what_is_wrong_with_an_address_or_a_key_is_known_before_a_chat() {
        let list =
            "HTTP/1.1 200 OK\r\nContent-Length: 27\r\nConnection: close\r\n\r\n{\"data\": [{\"id\": \"large\"}]}";
        let (said, asked) = checked(list, Some("s3cret"));
        assert_eq!(said, Ok(None));
        assert!(asked.starts_with("get /v1/models http/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: bearer s3cret\r\n"), "{asked}");
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{\"data\": [{\"id\": \"a\"}]}";
        assert!(checked(other, None).0.unwrap().expect("a remark").ends_with("`large` is not among its models"));
        let odd = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        assert_eq!(checked(odd, None).0, Ok(None), "what is no list says nothing of models");
        for (status, key, part) in [
            (
                "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                Some("s3cret"),
                "does not take the key",
            ),
            ("HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", None, "it wants a key"),
            (
                "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                None,
                "what stands before /chat/completions",
            ),
            ("HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Some("s3cret"), "it answered 500"),
        ] {
            let said = checked(status, key).0.unwrap_err();
            assert!(said.starts_with("GET http://127.0.0.1:") && said.contains("/v1/models: "), "{said}");
            assert!(said.contains(part) && !said.contains("s3cret"), "{said}");
        }
        // Nobody listens there any more.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let away = Upstream::new(format!("http://{port}"), None, "large".into(), Duration::from_secs(10));
        assert!(away.check().unwrap_err().ends_with("/models: the connection was refused"));
    }

    #[test]
    fn who_goes_away_cuts_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            request(&stream);
            // It thinks about it until nobody listens.
            stream.read(&mut [0]).is_ok_and(|count| count == 0)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = Upstream::new(url, None, "large".into(), Duration::from_secs(60));
            let asking = upstream.chat(chat(false), Duration::from_secs(60), None, |_| ());
            assert!(tokio::time::timeout(Duration::from_millis(300), asking).await.is_err());
        });
        assert!(server.join().unwrap());
    }
}
