//! A page in the browser for who never saw a terminal: data in, training, chat, export.
//!
//! It computes nothing. Each thing that the page asks for is a verb of this very program, started as a process of its own with
//! what it prints for programs; the page shows the recipe and the command line of it, so that both ways are the same. What there
//! is of state is a folder of files.

mod allowed;
mod door;
mod folder;
mod jobs;
mod needed;
mod older;
mod page;
mod placing;
mod ratings;
mod routes;
mod runs;
mod shipping;
mod talk;
mod upstream;
mod verbs;

use self::door::Door;
use self::folder::Folder;
use self::jobs::Jobs;
use self::page::Page;
use self::runs::{Runs, base_of, judges};
use self::talk::Talk;
use self::verbs::Program;
use crate::error::{Error, Kind, Place, Result};
use crate::queue::{Hooks, Run, Runner, RunnerOptions};
use crate::serve::{Manner, speak};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long answers that have begun are waited for when the studio ends.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// How long a run that is stopped may take to save: a step of a large model takes its time.
const GRACE: Duration = Duration::from_secs(600);
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
    runs: Runs,
    jobs: Jobs,
    talk: Talk,
    page: Page,
    max_upload_bytes: u64,
}

/// A studio that listens.
pub struct Studio {
    listener: TcpListener,
    shared: Arc<Shared>,
    training: RunnerOptions,
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
        let command = vec![options.program.clone().into_os_string()];
        let training = RunnerOptions { command, threads: None, device: None, grace: GRACE };
        let program = Program::new(options.program);
        let shared = Shared {
            address,
            door: Door::new(address.port())?,
            runs: Runs::open(&folder)?,
            jobs: Jobs::open(&folder, program.clone())?,
            talk: Talk::new(&folder, program.clone()),
            folder,
            program,
            page: Page::made(),
            max_upload_bytes: options.max_upload_bytes,
        };
        Ok(Studio { listener, shared: Arc::new(shared), training, stop: watch::channel(false).0 })
    }

    /// Where the page is, with the key to it.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.shared.address, self.shared.door.token())
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Answers the page until it is asked to end; a run that goes on is saved then, and goes on with the next studio. `note` hears what
    /// whoever started it should know.
    ///
    /// # Errors
    /// When the system gives no means to speak HTTP.
    pub fn run(self, note: impl Fn(&str) + Send + Sync + 'static) -> Result<()> {
        let Studio { listener, shared, training, stop } = self;
        let failed = |e: std::io::Error| Error::new(Kind::Run, format!("no thread can be started: {e}")).caused_by(e);
        shared.runs.said.iter().for_each(|said| note(said));
        let hooks = Arc::new(Finished { shared: shared.clone(), note });
        let runner = Runner::start(shared.runs.queue.clone(), training, hooks)?;
        let (keeper, until) = (shared.clone(), stop.subscribe());
        let keeping = std::thread::Builder::new().name("jobs".into()).spawn(move || keep(&keeper, &until, runner));
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
fn keep(shared: &Shared, until: &watch::Receiver<bool>, runner: Runner) {
    while !*until.borrow() {
        shared.jobs.look();
        shared.talk.look();
        std::thread::sleep(LOOK);
    }
    shared.runs.queue.stop(); // it saves while the others end
    shared.talk.end();
    shared.jobs.end_all();
    runner.stop();
    shared.talk.end(); // with what a run has left just now
}

/// What comes of runs.
struct Finished<F> {
    shared: Arc<Shared>,
    note: F,
}

impl<F: Fn(&str) + Send + Sync> Hooks for Finished<F> {
    fn serve(&self, run: &Run, _: &Path) -> Result<()> {
        if run.details["then_talk"] == true && !judges(run) {
            // Why it cannot be talked to is said where it is looked for.
            let _ = self.shared.talk.open(&self.shared.folder, base_of(run), Some(&run.model), "auto");
        }
        Ok(())
    }

    fn forget(&self, _: &str) {}

    fn note(&self, text: &str) {
        (self.note)(text);
    }
}
