//! OpenAI's HTTP interface to a model and its adapters: a driver of the generation engine.
//!
//! One thread speaks HTTP, and never waits for the model; the caller's thread runs the engine. What a model is, and how a
//! request becomes a prompt, is the business of a [`Host`].

mod answer;
pub mod bodies;
mod body;
mod client;
mod connections;
mod figures;
mod grammar;
mod keys;
mod limits;
mod models;
mod multipart;
mod refusal;
mod routes;
mod routing;
mod scored;
mod timed;
mod tuning;
mod upstream;
mod wire;
mod worker;

pub use self::body::{Body, Events};
pub use self::connections::{Manner, speak};
pub use self::keys::Keys;
pub use self::models::{Models, Named, Side};
pub use self::refusal::Refusal;
pub use self::routes::no_other_page;
pub use self::routing::{By, Choice, Routing};
pub use self::tuning::{Chosen, Method, Orders, Rows, TRAIN, Tuning, VALIDATION, Wanted};
pub use self::upstream::{Upstream, chats_address};

use self::figures::Counts;
use self::grammar::Grammars;
use self::limits::Limits;
use self::worker::Command;
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{EngineOptions, Prompt, Sampling};
use crate::model::LanguageModel;
use crate::text::called::CallForm;
use serde_json::{Map, Value};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Prompts that are read at once.
const READERS: usize = 2;
/// Files that come at once.
const UPLOADS: usize = 8;
/// How long answers that have begun are waited for when the server ends.
const GRACE_TIME: Duration = Duration::from_secs(120);

/// What is served.
pub trait Host: Send + Sync {
    /// The model.
    fn model(&self) -> &dyn LanguageModel;

    /// By which names requests ask for it and for the adapters beside it.
    fn models(&self) -> &Models;

    /// The most tokens of a prompt and its answer.
    fn context_tokens(&self) -> usize;

    /// Words of the model.
    fn vocab_size(&self) -> usize;

    /// Tokens that end an answer.
    fn stop(&self) -> &[u32];

    /// Numbers in a hidden state.
    fn hidden_size(&self) -> usize;

    /// Whether a token is no part of any text.
    fn is_special(&self, id: u32) -> bool;

    /// The spelling of a token, as it is in the vocabulary.
    fn token(&self, id: u32) -> Option<String>;

    /// How it calls tools.
    fn call_form(&self) -> CallForm;

    /// What judges prompts, where it is to be told by that who answers.
    fn classifier(&self) -> Option<&Arc<Side>> {
        None
    }

    /// What makes texts of tokens while they come.
    fn stream(&self) -> crate::text::TokenStream;

    /// The prompt of a conversation: an object with `messages`.
    ///
    /// # Errors
    /// One that the model's template refuses, and pictures or sounds that it cannot take.
    fn conversation(&self, row: &Map<String, Value>) -> Result<Prompt>;

    /// The prompt that a plain text is.
    ///
    /// # Errors
    /// One that the vocabulary cannot spell.
    fn text(&self, text: &str) -> Result<Prompt>;
}

/// How a server behaves.
#[derive(Debug)]
pub struct ServeOptions {
    /// Who may ask; nobody is asked who they are where it has no keys.
    pub keys: Keys,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// New tokens of an answer, where the request does not say.
    pub max_tokens: usize,
    /// How tokens are chosen, where the request does not say.
    pub sampling: Sampling,
    /// Answers that are given at once.
    pub most_answers: usize,
    /// Requests that may wait beside these; as many may wait to be read.
    pub most_waiting: usize,
    /// How long all answers of a request may take.
    pub request_time: Duration,
    /// Requests of each key in a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens of each key in a minute, of prompts and answers.
    pub tokens_per_minute: Option<u64>,
    /// What fine-tuning needs, where it is offered.
    pub tuning: Option<Tuning>,
    /// Who answers chats, where that is not always this model.
    pub routing: Option<Routing>,
}

/// What all connections know.
struct Shared {
    options: ServeOptions,
    /// Where it listens.
    address: SocketAddr,
    /// Prompts are read by so many at once: a picture takes half a gigabyte while it is.
    reading: Arc<Semaphore>,
    /// Requests that wait for that.
    waiting_to_be_read: AtomicUsize,
    /// Files that come at once: each is written to a disk.
    uploading: Semaphore,
    /// Whether it has been asked to end.
    stopping: watch::Receiver<bool>,
    host: OnceLock<Arc<dyn Host>>,
    work: Sender<Command>,
    counts: Counts,
    grammars: Grammars,
    limits: Arc<Limits>,
}

/// A server that listens.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    work: Receiver<Command>,
    http: JoinHandle<Result<()>>,
    stop: watch::Sender<bool>,
}

/// Ends a server: streams that have begun are finished, and nothing else begins.
#[derive(Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks it to end; says whether it was asked before.
    pub fn ask(&self) -> bool {
        self.0.send_replace(true)
    }
}

impl Server {
    /// Listens; until [`Server::run`] there is no model, and requests are told so.
    ///
    /// # Errors
    /// Where nobody can listen there.
    pub fn listen(host: &str, port: u16, options: ServeOptions) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let hint = match e.kind() {
                std::io::ErrorKind::AddrInUse => "something else listens there; `--port 0` takes any that is free",
                _ => {
                    "`--host` is an address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for all that reach it"
                }
            };
            let what = format!("nobody can listen at {host}, port {port}: {e}");
            Error::new(Kind::Run, what).at(Place::Named("--host, --port".into())).hint(hint).caused_by(e)
        };
        let listener = TcpListener::bind((host, port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (work, commands) = mpsc::channel();
        let (stop, stopping) = watch::channel(false);
        let limits = Limits::new(options.requests_per_minute, options.tokens_per_minute, options.keys.count());
        let shared = Shared {
            options,
            address,
            reading: Arc::new(Semaphore::new(READERS)),
            waiting_to_be_read: AtomicUsize::new(0),
            uploading: Semaphore::new(UPLOADS),
            stopping: stopping.clone(),
            host: OnceLock::new(),
            work,
            counts: Counts::default(),
            grammars: Grammars::default(),
            limits: Arc::new(limits),
        };
        let shared = Arc::new(shared);
        shared.look_upstream().map_err(failed)?;
        let known = shared.clone();
        let http = std::thread::Builder::new().name("http".into());
        let http = http.spawn(move || serve(listener, known, stopping)).map_err(failed)?;
        Ok(Server { address, shared, work: commands, http, stop })
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Whether only its own machine reaches it.
    pub fn is_local(&self) -> bool {
        self.shared.is_local()
    }

    /// Takes what it serves: from now on requests are taken, and wait for [`Server::run`].
    ///
    /// # Errors
    /// A second one.
    pub fn host(&self, host: Arc<dyn Host>) -> Result<()> {
        let work = self.shared.work.clone();
        // Where the engine has ended, it needs no word.
        host.models().when_gone(move || drop(work.send(Command::Tidy)));
        self.shared.host.set(host).map_err(|_| Error::new(Kind::Bug, "a server has one host"))
    }

    /// Answers requests until it is [asked to end](Stop::ask), on this thread, with an engine that gives no more answers at once than
    /// requests may ask for.
    ///
    /// # Errors
    /// When it has no host, and when the device fails.
    pub fn run(self, engine: EngineOptions) -> Result<()> {
        let Server { shared, work, http, stop, .. } = self;
        let host = shared.host().ok_or_else(|| Error::new(Kind::Bug, "a server has a host"))?;
        let worked = worker::work(host.as_ref(), &work, engine, &shared.counts);
        stop.send_replace(true);
        let ended = http.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "the thread of HTTP ended early")));
        worked.and(ended)
    }
}

/// Speaks HTTP until it is to end, and tells the engine's thread so.
fn serve(listener: TcpListener, shared: Arc<Shared>, stopping: watch::Receiver<bool>) -> Result<()> {
    let work = shared.work.clone();
    let manner = Manner { half_close: true, grace: GRACE_TIME };
    let spoken = speak(listener, manner, stopping, move |request| routes::answer(request, shared.clone()));
    // Where the other thread has ended, it needs no word.
    let _ = work.send(Command::End);
    spoken
}

impl Shared {
    /// Looks, beside everything else, whether who is asked instead can be asked: what is wrong there is no reason not to start.
    fn look_upstream(self: &Arc<Self>) -> std::io::Result<()> {
        if self.options.routing.is_none() {
            return Ok(());
        }
        let known = self.clone();
        let look = move || {
            let is_up = known.options.routing.as_ref().map(Routing::check);
            is_up.into_iter().for_each(|is_up| known.counts.upstream(is_up));
        };
        std::thread::Builder::new().name("upstream".into()).spawn(look).map(drop)
    }

    /// The host, once there is one.
    fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.get()
    }

    /// Whether only its own machine reaches it.
    fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}
