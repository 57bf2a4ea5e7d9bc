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
use crate::serve::{Manner, speak};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How long answers that have begun are waited for when the studio ends.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
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
        let failed = |e: std::io::Error| Error::new(Kind::Run, format!("no thread can be started: {e}")).caused_by(e);
        let (keeper, until) = (shared.clone(), stop.subscribe());
        let keeping = std::thread::Builder::new().name("jobs".into()).spawn(move || keep(&keeper, &until));
        let keeping = keeping.map_err(failed)?;
        // A browser that goes away takes what it has asked for with it.
        let manner = Manner { half_close: false, grace: ANSWER_GRACE };
        let served = speak(listener, manner, stop.subscribe(), move |request| routes::answer(request, shared.clone()));
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

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
