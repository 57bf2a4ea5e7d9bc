//! Requests to the Hub and its storage: repeated where repeating may help, streamed where they are large.

use super::outgoing::Outgoing;
use crate::error::Error;
use crate::hub::http::{self, Refusal, origin};
use crate::hub::settings::HubSettings;
use crate::progress::Progress;
use serde_json::Value;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body, SendBody};

/// Attempts at one request.
const ATTEMPTS: u32 = 8;
/// Attempts at the first of them: without a network the user is told soon.
const FIRST_ATTEMPTS: u32 = 3;
/// The longest pause of our own choosing.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest that the Hub may ask to wait for; it counts requests in windows of five minutes.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// From this on the user is told of a wait.
const WORTH_SAYING: Duration = Duration::from_secs(5);
/// The most that an answer may be: the description of some 300,000 files.
const ANSWER_LIMIT_BYTES: u64 = 64 << 20;
/// How many times longer than usual the Hub may think about what takes it long.
const PATIENCE: u32 = 30;
/// The public Hub, which a mirror may name in its answers.
const PUBLIC: &str = "https://huggingface.co";

/// What Git LFS speaks.
pub const LFS: &str = "application/vnd.git-lfs+json";

/// Why a request had no success in the end.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody said no.
    Refused(Refusal),
    /// The connection to this host did not come about or broke, and why.
    Broken(String, String),
    /// A file here cannot be read.
    Local(Error),
}

impl Trouble {
    /// The same, which says that it asks for more time than is waited.
    fn asks_for(self, wait: Duration) -> Self {
        let Trouble::Refused(mut refusal) = self else { return self };
        let (wait, most) = (wait.as_secs(), MAX_WAIT.as_secs());
        let asks = format!("it asks to be given {wait} s, and {most} s are waited at most");
        refusal.message = if refusal.message.is_empty() { asks } else { format!("{}; {asks}", refusal.message) };
        Trouble::Refused(refusal)
    }
}

/// A request.
pub struct Call<'c> {
    method: Method,
    url: &'c str,
    payload: Payload<'c>,
    content_type: &'static str,
    headers: Vec<(String, String)>,
    with_token: bool,
    is_patient: bool,
    is_repeatable: bool,
    attempts: u32,
}

enum Payload<'c> {
    None,
    Bytes(&'c [u8]),
    Part(Part<'c>),
}

/// A stretch of a file.
#[derive(Clone, Copy)]
pub struct Part<'c> {
    pub file: &'c Outgoing,
    pub offset: u64,
    pub length: u64,
    /// How much of it has been reported as sent, over all attempts.
    pub seen: &'c AtomicU64,
}

impl<'c> Call<'c> {
    /// A question to the Hub.
    pub fn get(url: &'c str) -> Self {
        Call::new(Method::GET, url, Payload::None)
    }

    /// JSON to the Hub.
    pub fn post(url: &'c str, json: &'c [u8]) -> Self {
        Call::new(Method::POST, url, Payload::Bytes(json))
    }

    /// A part of a file to the storage, which knows no tokens.
    pub fn put(url: &'c str, part: Part<'c>, headers: Vec<(String, String)>) -> Self {
        Call { with_token: false, headers, ..Call::new(Method::PUT, url, Payload::Part(part)) }
    }

    fn new(method: Method, url: &'c str, payload: Payload<'c>) -> Self {
        let (content_type, headers) = ("application/json", Vec::new());
        let (with_token, is_patient, is_repeatable, attempts) = (true, false, true, ATTEMPTS);
        Call { method, url, payload, content_type, headers, with_token, is_patient, is_repeatable, attempts }
    }

    /// The same of another type.
    pub fn of_type(self, content_type: &'static str) -> Self {
        Call { content_type, ..self }
    }

    /// The same without the token: its address is a permission in itself.
    pub fn without_token(self) -> Self {
        Call { with_token: false, ..self }
    }

    /// The same, before which nothing has been sent.
    pub fn first(self) -> Self {
        Call { attempts: FIRST_ATTEMPTS, ..self }
    }

    /// The same, which may take the Hub long.
    pub fn patient(self) -> Self {
        Call { is_patient: true, ..self }
    }

    /// The same, which is not sent again when nobody knows whether it was heard.
    pub fn once(self) -> Self {
        Call { is_repeatable: false, ..self }
    }
}

/// A successful answer.
pub struct Answer {
    pub etag: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    /// Its body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Who sends requests, with the account's token.
pub struct Wire<'a> {
    agent: Agent,
    settings: &'a HubSettings,
    pub progress: &'a dyn Progress,
}

impl<'a> Wire<'a> {
    pub fn new(settings: &'a HubSettings, progress: &'a dyn Progress) -> Self {
        Wire { agent: http::agent(settings), settings, progress }
    }

    /// Sends a request until it is answered with a success, or with a refusal that stands. A busy or failing server and
    /// a broken connection are given time: what a `Retry-After` says, else a pause that doubles.
    pub fn send(&self, call: &Call) -> Result<Answer, Trouble> {
        let (mut pause, mut attempt) = (self.settings.retry_pause, 1);
        loop {
            let (trouble, asked) = match self.once(call) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let may_pass = match &trouble {
                Trouble::Refused(refusal) if refusal.status == 429 => true,
                Trouble::Refused(refusal) => call.is_repeatable && matches!(refusal.status, 408 | 500 | 502..=504),
                Trouble::Broken(..) => call.is_repeatable,
                Trouble::Local(_) => false,
            };
            // A server that asks for no time at all is busy all the same.
            let wait = asked.map_or(pause, |asked| asked.max(pause));
            if may_pass && wait > MAX_WAIT {
                return Err(trouble.asks_for(wait));
            }
            if !may_pass || attempt >= call.attempts {
                return Err(trouble);
            }
            if wait >= WORTH_SAYING {
                let what = match &trouble {
                    Trouble::Refused(refusal) => format!("answered {}", refusal.status),
                    _ => "is not to be reached".to_owned(),
                };
                let host = self.settings.without_secrets(origin(call.url));
                self.progress.note(&format!("{host} {what}: next try in {} s", wait.as_secs()));
            }
            std::thread::sleep(wait);
            pause = (2 * pause).min(MAX_PAUSE);
            attempt += 1;
        }
    }

    /// Sends a request; with a trouble comes the time that the server asks to be given.
    fn once(&self, call: &Call) -> Result<Answer, (Trouble, Option<Duration>)> {
        let url = self.here(call.url);
        let mut failed = None;
        let answer = match &call.payload {
            Payload::None => self.run(call, &url, SendBody::none(), None),
            Payload::Bytes(bytes) => {
                let mut reader: &[u8] = bytes;
                self.run(call, &url, SendBody::from_reader(&mut reader), Some(bytes.len() as u64))
            }
            Payload::Part(part) => {
                let reader = part.file.part(part.offset, part.length);
                let reader = reader.map_err(|error| (Trouble::Local(error), None))?;
                let mut stream =
                    Stream { reader, part: *part, position: 0, progress: self.progress, failed: &mut failed };
                self.run(call, &url, SendBody::from_reader(&mut stream), Some(part.length))
            }
        };
        if let (Some(error), Payload::Part(part)) = (failed, &call.payload) {
            let path = part.file.path().map_or_else(|| part.file.name.clone().into(), |path| path.to_path_buf());
            return Err((Trouble::Local(Error::io("reading", path, error)), None));
        }
        let broken = |error: &ureq::Error| {
            // Addresses of the storage are permissions, and nobody else's business.
            let why = http::broken(error).replace(&url, "its address");
            (Trouble::Broken(origin(&url).to_owned(), why), None)
        };
        let mut answer = answer.map_err(|error| broken(&error))?;
        if !answer.status().is_success() {
            let asked = retry_after(&answer);
            return Err((Trouble::Refused(Refusal::read(&mut answer, self.settings)), asked));
        }
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let body = answer.body_mut().with_config().limit(ANSWER_LIMIT_BYTES).read_to_vec();
        Ok(Answer { etag, body: body.map_err(|error| broken(&error))? })
    }

    fn run(&self, call: &Call, url: &str, body: SendBody, length: Option<u64>) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        if let Some(token) = self.settings.token.as_ref().filter(|_| call.with_token && self.is_hub(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(length) = length {
            // The storage takes nothing of unknown length.
            request = request.header("Content-Length", length);
        }
        if matches!(call.payload, Payload::Bytes(_)) {
            request = request.header("Content-Type", call.content_type);
        }
        if call.content_type == LFS {
            request = request.header("Accept", LFS);
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let timeout = self.settings.timeout * if call.is_patient { PATIENCE } else { 3 };
        let request = self
            .agent
            .configure_request(request.body(body)?)
            .timeout_recv_response(Some(timeout))
            .timeout_per_write(Some(3 * self.settings.timeout))
            .build();
        self.agent.run(request)
    }

    /// Whether the token may be shown at an address.
    fn is_hub(&self, url: &str) -> bool {
        origin(url) == origin(&self.settings.endpoint)
    }

    /// An address at the Hub that is in use, where the answer of a mirror names the public one.
    fn here(&self, url: &str) -> String {
        match url.strip_prefix(PUBLIC).filter(|rest| rest.starts_with('/')) {
            Some(rest) => format!("{}{rest}", self.settings.endpoint),
            None => url.to_owned(),
        }
    }
}

/// How long a server asks to be given, in seconds: in `Retry-After` (a date in it is not read), or until its window ends, as
/// the Hub says it (`RateLimit: "api";r=0;t=55`).
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let header = |name: &str| answer.headers().get(name)?.to_str().ok();
    let window = || header("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="));
    let window = || window().filter(|_| answer.status().as_u16() == 429);
    header("retry-after").or_else(window)?.trim().parse().ok().map(Duration::from_secs)
}

/// A part as it is read for the network, which reports what is sent for the first time.
struct Stream<'s> {
    reader: Box<dyn Read + 's>,
    part: Part<'s>,
    position: u64,
    progress: &'s dyn Progress,
    failed: &'s mut Option<io::Error>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.reader.read(buffer) {
            Ok(0) if !buffer.is_empty() && self.position < self.part.length => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"))
            }
            read => read,
        };
        let read = read.map_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            *self.failed = Some(error);
            copy
        })?;
        self.position += read as u64;
        let before = self.part.seen.fetch_max(self.position, Ordering::Relaxed);
        self.progress.advance(self.position.saturating_sub(before));
        Ok(read)
    }
}
