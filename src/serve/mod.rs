//! OpenAI's HTTP interface to a model and its adapters: a driver of the generation engine.
//!
//! One thread speaks HTTP, and never waits for the model; the caller's thread runs the engine. What a model is, and how a
//! request becomes a prompt, is the business of a [`Host`].

mod answer;
mod body;
mod connections;
mod figures;
mod keys;
mod refusal;
mod routes;
mod scored;
mod wire;
mod worker;

pub use self::body::{Body, Events};
pub use self::keys::Keys;
pub use self::refusal::Refusal;
pub use self::routes::no_other_page;

use self::figures::Counts;
use self::worker::{Command, Room};
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{EngineOptions, Prompt, Sampling};
use crate::model::LanguageModel;
use crate::nn::SidePath;
use serde_json::{Map, Value};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};

/// Prompts that are read at once.
const READERS: usize = 2;

/// What is served.
pub trait Host: Send + Sync {
    /// The model.
    fn model(&self) -> &dyn LanguageModel;

    /// What runs beside it, in the order of [`Host::names`]; the first is the model by itself.
    fn sides(&self) -> Vec<&dyn SidePath>;

    /// By which names requests ask for these.
    fn names(&self) -> &[String];

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
    /// Whether it has been asked to end.
    stopping: watch::Receiver<bool>,
    host: OnceLock<Arc<dyn Host>>,
    work: Sender<Command>,
    counts: Counts,
    /// Seconds since 1970.
    started: u64,
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
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let shared = Shared {
            options,
            address,
            reading: Arc::new(Semaphore::new(READERS)),
            waiting_to_be_read: AtomicUsize::new(0),
            stopping: stopping.clone(),
            host: OnceLock::new(),
            work,
            counts: Counts::default(),
            started,
        };
        let shared = Arc::new(shared);
        let known = shared.clone();
        let http = std::thread::Builder::new().name("http".into());
        let http = http.spawn(move || connections::serve(listener, known, stopping)).map_err(failed)?;
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
        let room = Room { answers: shared.options.most_answers, waiting: shared.options.most_waiting };
        let worked = worker::work(host.as_ref(), &work, engine, room, &shared.counts);
        stop.send_replace(true);
        let ended = http.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "the thread of HTTP ended early")));
        worked.and(ended)
    }
}

impl Shared {
    /// The host, once there is one.
    fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.get()
    }

    /// Whether only its own machine reaches it.
    fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}
