//! Who runs what waits, one after the other.

use super::events::Level;
use super::metrics::{Metrics, table};
use super::process::{end_orphan, holder, start};
use super::runs::{End, Failure};
use super::{Left, Page, Queue, Run, Status};
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::process::{self, Process};
use crate::progress::metric;
use crate::terminal::printable;
use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

pub use super::process::RunnerOptions;

/// How often is looked at a run.
const LOOK: Duration = Duration::from_millis(100);
/// How often is looked whether one waits, where nobody says so.
const IDLE: Duration = Duration::from_secs(5);
/// How often something is said again to a database that was not there.
const AGAIN: Duration = Duration::from_secs(1);

/// What comes of runs.
pub trait Hooks: Send + Sync {
    /// A run has left an adapter, which is to be answered with from now on by the name of the run's model.
    ///
    /// # Errors
    /// One that cannot be loaded.
    fn serve(&self, run: &Run, adapter: &Path) -> Result<()>;

    /// A model is to be answered with no more.
    fn forget(&self, model: &str);

    /// Something for whoever looks after the server.
    fn note(&self, text: &str);

    /// How a run stands, for the same: said each time, also in the same words.
    fn told(&self, text: &str) {
        self.note(text);
    }
}

/// A thread that runs what waits.
pub struct Runner {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Runner {
    /// Begins with what ran when the program ended the last time, or has waited longest.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(queue: Arc<Queue>, options: RunnerOptions, hooks: Arc<dyn Hooks>) -> Result<Self> {
        let working = Working { queue: queue.clone(), options, hooks, warned: RefCell::default() };
        let thread = std::thread::Builder::new().name("runs".into()).spawn(move || working.work());
        let thread =
            thread.map_err(|e| Error::new(Kind::Run, format!("no thread can be started: {e}")).caused_by(e))?;
        Ok(Runner { queue, thread })
    }

    /// [Stops](Queue::stop) the queue, and waits for that.
    pub fn stop(self) {
        self.queue.stop();
        let _ = self.thread.join();
        self.queue.is_stopping.store(false, Ordering::SeqCst);
    }
}

struct Working {
    queue: Arc<Queue>,
    options: RunnerOptions,
    hooks: Arc<dyn Hooks>,
    /// What was warned of, and is so still.
    warned: RefCell<Option<String>>,
}

/// A process of ours, which does not outlive who looks after it.
struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Working {
    fn work(&self) {
        if let Err(error) = self.end_stopped() {
            self.warn(&error);
        }
        while !self.is_stopping() {
            let turned = self.turn();
            *self.queue.turn_now() = None;
            match turned {
                Ok(true) => self.is_well(),
                Ok(false) => {
                    self.is_well();
                    self.queue.wait(IDLE);
                }
                Err(error) => {
                    self.warn(&error);
                    self.queue.wait(IDLE);
                }
            }
        }
    }

    /// Says what is wrong, once while it is so.
    fn warn(&self, error: &Error) {
        let place = error.place().map(|place| format!(" ({place})")).unwrap_or_default();
        let text = format!("warning: what waits to be trained: {}{place}", error.what());
        if self.warned.replace(Some(text.clone())).as_ref() != Some(&text) {
            self.hooks.note(&text);
        }
    }

    fn is_well(&self) {
        if self.warned.take().is_some() {
            self.hooks.note("What waits to be trained goes on.");
        }
    }

    /// What was done; `None` where the database is away, which is said.
    fn unless_away<T>(&self, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(done) => {
                self.is_well();
                Ok(Some(done))
            }
            Err(error) if error.kind() == Kind::Unreachable => {
                self.warn(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Does something as soon as the database is there. Where the program is to end before that, the next one finds the run as it was.
    fn insist<T>(&self, act: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            if let Some(done) = self.unless_away(act())? {
                return Ok(done);
            }
            if self.is_stopping() {
                let what = "the database was away when a run was over: it goes on with the next start";
                return Err(Error::new(Kind::Unreachable, what));
            }
            self.queue.wait(AGAIN);
        }
    }

    /// Ends what runs on of runs that were stopped: whoever started it was killed before he could.
    fn end_stopped(&self) -> Result<()> {
        for run in self.queue.stopped()? {
            end_orphan(&self.queue.output(&run), run.process, self.options.grace);
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.queue.is_stopping.load(Ordering::SeqCst)
    }

    /// Runs the one whose turn it is; whether there was one.
    fn turn(&self) -> Result<bool> {
        let Some(run) = self.queue.next()? else { return Ok(false) };
        let (folder, output) = (self.queue.folder(&run.id), self.queue.output(&run));
        end_orphan(&output, run.process, self.options.grace);
        let words = self.queue.words_on(&run, self.options.device.as_deref());
        let child = match start(&folder, &words, &self.options) {
            Ok(child) => child,
            Err(error) => {
                // It would fail again: whoever waits hears of it.
                self.queue.begin(&run.id, None, "The run cannot be started.")?;
                self.fail(&run, Failure { code: "not_started".into(), message: error.what().into(), place: None })?;
                return Ok(true);
            }
        };
        let mut ours = Ours(child);
        let process = Process::of(ours.0.id());
        if let Some(turn) = self.queue.turn_now().as_mut() {
            (turn.process, turn.words) = (Some(process), words);
        }
        let says = if run.started.is_some() { "Training goes on." } else { "Training has begun." };
        if !self.queue.begin(&run.id, Some(process), says)? {
            return Ok(true); // somebody has stopped it just now
        }
        self.tell(&run, says);
        let mut metrics = Metrics::of(&output);
        let watched = self.watch(&run, &mut ours.0, &mut metrics);
        if watched.is_err() {
            // Whoever has the tables now goes on with what is saved.
            self.queue.let_go();
            process::await_end(&mut ours.0, self.options.grace);
        }
        let ended = watched?;
        self.queue.keep_metrics(&run.id, &metrics.new_lines())?;
        match ended {
            Some(status) => self.ended(&run, status)?,
            None if self.is_stopping() => self.tell(&run, "What it has is saved: it goes on at the next start."),
            // Somebody may have it go on already.
            None if self.queue.status(&run.id).is_ok_and(|status| status == Status::Cancelled) => {
                self.tell(&run, "It is cancelled.");
            }
            None => self.tell(&run, "It is paused."),
        }
        Ok(true)
    }

    /// Says how a run stands to whoever looks after the server, in a line.
    fn tell(&self, run: &Run, says: &str) {
        let says = says.replace('\n', " ");
        self.hooks.told(&printable(&format!("run {} (`{}`): {says}", run.id, run.model)));
    }

    /// Looks after a process until it ends; `None` where somebody stopped it, who has taken that down himself. While the database is
    /// away the process goes on, and what it says is taken down later.
    fn watch(&self, run: &Run, child: &mut Child, metrics: &mut Metrics) -> Result<Option<ExitStatus>> {
        let (mut lines, mut is_called) = (Vec::new(), false);
        loop {
            let status = child.try_wait().map_err(|e| Error::io("waiting for", self.options.command_name(), e))?;
            lines.extend(metrics.new_lines());
            if !lines.is_empty() && self.unless_away(self.queue.keep_metrics(&run.id, &lines))?.is_some() {
                lines.clear();
            }
            if status.is_some() && (lines.is_empty() || self.is_stopping()) {
                return Ok(status);
            }
            // Whoever changes something calls.
            is_called |= self.queue.wait(LOOK);
            if is_called && status.is_none() {
                let stands = if self.is_stopping() { None } else { self.unless_away(self.queue.status(&run.id))? };
                if self.is_stopping() || stands.is_some_and(|stands| stands != Status::Running) {
                    self.queue.let_go();
                    process::await_end(child, self.options.grace);
                    return Ok(None);
                }
                is_called = stands.is_none();
            }
        }
    }

    /// Takes down how a process ended by itself.
    fn ended(&self, run: &Run, status: ExitStatus) -> Result<()> {
        let output = self.queue.output(run);
        match status.code() {
            Some(0) => self.succeed(run, &output),
            // Of somebody who knows the process: what is saved goes on when it is wanted.
            Some(3) => {
                let end = End { status: Status::Paused, tokens: None, results: None, error: None };
                let says = "The run was interrupted from outside.";
                if self.insist(|| self.queue.end(&run.id, &end, Level::Warn, says))? {
                    self.tell(run, says);
                }
                Ok(())
            }
            // Somebody else's process has the run: the next turn ends it, and goes on.
            Some(_) if holder(&output).is_some() => Ok(()),
            _ => self.fail(run, failure(&self.queue.folder(&run.id), status)),
        }
    }

    fn succeed(&self, run: &Run, output: &Path) -> Result<()> {
        if let Err(error) = self.hooks.serve(run, &self.queue.adapter(run)) {
            let message = format!("the adapter is trained, and cannot be loaded: {}", error.what());
            return self.fail(run, Failure { code: "not_loaded".into(), message, place: None });
        }
        let summary: Option<Value> =
            input::read(&output.join("summary.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let tokens = summary.as_ref().and_then(|summary| summary.get("tokens")?.as_u64());
        let results = self.insist(|| self.results(run)).ok();
        let end = End { status: Status::Succeeded, tokens, results, error: None };
        let says = "The run is done, and its model is there.";
        if !self.insist(|| self.queue.end(&run.id, &end, Level::Info, says))? {
            self.hooks.forget(&run.model); // somebody cancelled it just now
            return Ok(());
        }
        let losses = summary.as_ref().map(losses).unwrap_or_default();
        self.tell(run, &format!("The run is done, and its model is there.{losses}"));
        Ok(())
    }

    /// Leaves its steps as a table.
    fn results(&self, run: &Run) -> Result<String> {
        let events = self.queue.events(&run.id, None, Page::ALL)?.items;
        let mut bytes = self.queue.blank()?;
        let text = table(events.into_iter().filter_map(|event| event.metrics));
        bytes.write_all(text.as_bytes()).map_err(|e| Error::io("writing", bytes.path(), e))?;
        let left = Left { name: "step_metrics.csv".into(), kind: "fine-tune-results".into(), bytes, rows: None };
        self.queue.keep(&run.owner, left).map(|stored| stored.id)
    }

    fn fail(&self, run: &Run, failure: Failure) -> Result<()> {
        let says = failure.message.clone();
        let end = End { status: Status::Failed, tokens: None, results: None, error: Some(failure) };
        if self.insist(|| self.queue.end(&run.id, &end, Level::Error, &says))? {
            self.tell(run, &format!("It failed: {says}"));
        }
        Ok(())
    }
}

/// How many steps a run took and what became of its losses, by its `summary.json`.
fn losses(summary: &Value) -> String {
    let loss = |value: &Value| value.as_f64().map(metric);
    let steps = summary["steps"].as_u64().map(|steps| format!(" Steps: {steps}"));
    let trained = loss(&summary["first_loss"]).zip(loss(&summary["last_loss"]));
    let trained = trained.map(|(first, last)| format!("loss {first} -> {last}"));
    let held_out = loss(&summary["last_eval"]["eval_loss"]).map(|loss| format!("evaluation loss {loss}"));
    let said: Vec<String> = [steps, trained, held_out].into_iter().flatten().collect();
    if said.is_empty() { String::new() } else { format!("{}.", said.join(", ")) }
}

/// Why a process ended early, in the words of its log.
fn failure(folder: &Path, status: ExitStatus) -> Failure {
    let bytes = input::read(&folder.join("log.txt")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // Whose folder it is, is nobody's business.
    let text = text.replace(&format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR), "");
    let (mut messages, mut place) = (Vec::new(), None);
    for line in text.lines() {
        if line.starts_with(super::process::BEGUN) {
            (messages, place) = (Vec::new(), None);
        } else if let Some(message) = line.strip_prefix("error: ") {
            messages.push(message.to_owned());
        } else if let Some(at) = line.strip_prefix("  --> ").filter(|_| !messages.is_empty()) {
            place.get_or_insert_with(|| at.to_owned());
        } else if let Some((hint, message)) = line.strip_prefix("  hint: ").zip(messages.last_mut()) {
            *message += &format!(" ({hint})");
        }
    }
    let (code, usual) = match status.code() {
        Some(2) => ("invalid_input", "the run was refused".to_owned()),
        Some(code) => ("run_failed", format!("the run ended with exit code {code}")),
        None => ("killed", "the run was killed: memory may have been short".to_owned()),
    };
    let message = if messages.is_empty() { usual } else { messages.join("; ") };
    Failure { code: code.into(), message, place }
}
