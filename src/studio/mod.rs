//! A page in the browser for who never saw a terminal: data in, training, chat, export.
//!
//! It computes nothing. Each thing that the page asks for is a verb of this very program, started as a process of its own with
//! what it prints for programs; the page shows the recipe and the command line of it, so that both ways are the same. What there
//! is of state is a folder of files.

mod allowed;
mod door;
mod folder;
mod jobs;
mod page;
mod ratings;
mod routes;
mod shipping;
mod talk;
mod upstream;
mod verbs;

use self::door::Door;
use self::folder::Folder;
use self::jobs::Jobs;
use self::page::Page;
use self::talk::Talk;
use self::verbs::Program;
use crate::error::{Error, Kind, Place, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};

/// Connections at once; others wait to be taken up.
const MOST_CONNECTIONS: usize = 64;
/// How long a browser may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// How often is looked what became of the processes.
const LOOK: Duration = Duration::from_millis(100);

/// How a studio works.
#[derive(Debug, Clone)]
pub struct StudioOptions {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// The program whose verbs do the work.
    pub program: PathBuf,
    /// Bytes of a file that is uploaded.
    pub max_upload_bytes: u64,
}

/// What all connections know.
struct Shared {
    address: SocketAddr,
    door: Door,
    folder: Folder,
    program: Program,
    jobs: Jobs,
    talk: Talk,
    page: Page,
    max_upload_bytes: u64,
}

/// A studio that listens.
pub struct Studio {
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

/// Ends a studio.
#[derive(Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks it to end; says whether it was asked before.
    pub fn ask(&self) -> bool {
        self.0.send_replace(true)
    }
}

impl Studio {
    /// Opens the folder, and listens on this machine alone.
    ///
    /// # Errors
    /// Where nobody can listen, and of a folder that cannot be used or that another studio uses.
    pub fn listen(port: u16, options: StudioOptions) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let what = format!("nobody can listen at 127.0.0.1, port {port}: {e}");
            let hint = "a studio may be open already; `--port 0` takes a port that is free";
            Error::new(Kind::Run, what).at(Place::Named("--port".into())).hint(hint).caused_by(e)
        };
        let folder = Folder::open(&options.dir)?;
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let program = Program::new(options.program);
        let shared = Shared {
            address,
            door: Door::new(address.port()),
            jobs: Jobs::open(&folder, program.clone())?,
            talk: Talk::new(&folder, program.clone()),
            folder,
            program,
            page: Page::made(),
            max_upload_bytes: options.max_upload_bytes,
        };
        Ok(Studio { listener, shared: Arc::new(shared), stop: watch::channel(false).0 })
    }

    /// Where the page is, with the key to it.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.shared.address, self.shared.door.token())
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Answers the page until it is asked to end; runs that go on are saved then, and can be resumed.
    ///
    /// # Errors
    /// When the system gives no means to speak HTTP.
    pub fn run(self) -> Result<()> {
        let Studio { listener, shared, stop } = self;
        let failed = |e: std::io::Error| Error::new(Kind::Run, format!("HTTP cannot be spoken: {e}")).caused_by(e);
        let (keeper, until) = (shared.clone(), stop.subscribe());
        let keeping = std::thread::Builder::new().name("jobs".into()).spawn(move || keep(&keeper, &until));
        let keeping = keeping.map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let served = runtime.block_on(accept(listener, &shared, stop.subscribe())).map_err(failed);
        runtime.shutdown_background();
        stop.send_replace(true);
        // Which has nothing to say but that it is done.
        let _ = keeping.join();
        served
    }
}

/// Looks after the processes until the studio ends, and ends them then.
fn keep(shared: &Shared, until: &watch::Receiver<bool>) {
    while !*until.borrow() {
        for done in shared.jobs.look() {
            if done.then_talk {
                // Why it cannot be talked to is said where it is looked for.
                let _ = shared.talk.open(&shared.folder, &done.model, Some(&done.run), "auto");
            }
        }
        shared.talk.look();
        std::thread::sleep(LOOK);
    }
    shared.talk.end();
    shared.jobs.end_all();
}

async fn accept(
    listener: TcpListener,
    shared: &Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(routes::answer(request, shared).await) }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A connection that breaks is its browser's affair.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
