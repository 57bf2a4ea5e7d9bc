//! Runs that wait for their turn: what they are, whose they are, and who runs them, one at a time.
//!
//! All of it is in a folder, which one process uses at a time:
//!
//! ```text
//! queue.sqlite          files, runs and what happened, whose each is; or, where these tables are in PostgreSQL,
//! queue.postgres        which they are
//! files/ID              bytes that somebody left, as they came
//! files/ID.rows         the same as rows that a recipe reads
//! runs/ID/recipe.yaml   what is trained: `train` runs it by itself, too
//!         train.jsonl   its rows; whoever deletes the file that they came from changes nothing
//!         log.txt       what the run said
//!         run/          its `output.dir`, unless it has another
//! ```
//!
//! A run is a child process of this very program, which outlives neither a wish to stop nor, as soon as somebody looks, whoever
//! started it. The folder may be moved, and a copy of it is a queue of its own. This room knows neither HTTP nor models; what a run's
//! numbers mean is that of `metrics.jsonl`.

mod address;
mod bond;
mod checkpoints;
mod database;
mod events;
mod files;
mod metrics;
mod order;
mod page;
mod placing;
mod process;
mod runner;
mod runs;

pub use self::address::Address;
pub use self::checkpoints::Checkpoint;
pub use self::events::{Event, Level};
pub use self::files::{Left, Stored};
pub use self::order::Order;
pub use self::page::{Page, Paged};
pub use self::placing::{is_one, moved};
pub use self::runner::{Hooks, Runner, RunnerOptions};
pub use self::runs::{Failure, Run, Status};

use self::bond::{BOND, Bond};
use self::database::{Database, values};
use crate::atomic::Locked;
use crate::clock::since_1970;
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use crate::process::Process;
use crate::random::{Label, Rng};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What somebody may leave.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files of one owner.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Runs of one owner that wait or run.
    pub waiting: u64,
}

/// The folders in it, and the tables that say what is in them.
const FOLDERS: [&str; 2] = ["files", "runs"];
/// The file of the tables.
const DATABASE: &str = "queue.sqlite";
/// How many may wait for them.
const MOST_ASKING: usize = 64;

/// The queue of a folder.
pub struct Queue {
    dir: PathBuf,
    limits: Limits,
    database: Mutex<Database>,
    /// How many wait for it.
    asking: AtomicUsize,
    /// Whether there may be something new for who runs.
    called: Mutex<bool>,
    calls: Condvar,
    is_stopping: AtomicBool,
    /// The run whose turn it is, if any is.
    turn: Mutex<Option<Turn>>,
    /// What became of the runs when it was opened.
    said: Vec<String>,
    // Held as long as the process lives, however it ends.
    _lock: Locked,
}

impl Queue {
    /// Opens the queue of a folder, which is made where there is none, with its tables in a file of it.
    ///
    /// # Errors
    /// A folder that another process uses, that cannot be written, or whose tables are not there.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self> {
        Queue::open_at(dir, limits, None)
    }

    /// The same, with its tables at an address, where that is one.
    ///
    /// # Errors
    /// As above, and a database that cannot be reached, or is another folder's or server's.
    pub fn open_at(dir: &Path, limits: Limits, address: Option<&Address>) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|e| Error::io("finding", dir, e))?;
        let bond = Bond::read(&dir)?;
        let is_new = is_new(&dir, bond.as_ref(), address)?;
        for folder in FOLDERS {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder).map_err(|e| Error::io("creating the folder", &folder, e))?;
        }
        let lock = lock(&dir)?;
        let database = match address {
            None => Database::in_file(&dir.join(DATABASE))?,
            Some(address) => bound(&dir, bond, address, is_new)?,
        };
        let mut queue = Queue {
            dir,
            limits,
            database: Mutex::new(database),
            asking: AtomicUsize::new(0),
            called: Mutex::new(true),
            calls: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            turn: Mutex::new(None),
            said: Vec::new(),
            _lock: lock,
        };
        queue.tidy()?;
        let left = queue.settle()?;
        queue.said.extend(left);
        Ok(queue)
    }

    /// What became of the runs when it was opened, for whoever opened it.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// The folder of a run.
    pub fn folder(&self, run: &str) -> PathBuf {
        self.dir.join("runs").join(run)
    }

    /// The `output.dir` of a run.
    pub fn output(&self, run: &Run) -> PathBuf {
        run.output.as_ref().map_or_else(|| self.folder(&run.id).join(RUN), PathBuf::from)
    }

    /// The adapter of a run that has succeeded.
    pub fn adapter(&self, run: &Run) -> PathBuf {
        self.output(run).join("adapter")
    }

    /// What this program is told to train a run or to go on with it, or was told where it does so now.
    pub fn words(&self, run: &Run) -> Vec<String> {
        let told = self.turn_now().as_ref().filter(|turn| turn.run == run.id).map(|turn| turn.words.clone());
        let words = told.filter(|words| !words.is_empty());
        let words = words.unwrap_or_else(|| self.words_on(run, None));
        words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// The same as it is told next, on a device where the run names none.
    fn words_on(&self, run: &Run, device: Option<&str>) -> Vec<OsString> {
        let recipe = self.folder(&run.id).join("recipe.yaml");
        // A `$` in it would be a variable.
        let recipe = recipe.to_str().map_or_else(|| recipe.clone().into(), |text| paths::written(text).into());
        let mut words = vec!["train".into(), recipe];
        words.extend(run.device.as_deref().or(device).map(|device| format!("--device={device}").into()));
        let goes_on = run.status != Status::Succeeded && process::was_in(&self.output(run));
        words.extend(goes_on.then(|| "--resume".into()));
        words
    }

    /// Whether a process still trains a run, or saves what it has.
    pub fn is_busy(&self, run: &Run) -> bool {
        let is_its_turn = self.turn_now().as_ref().is_some_and(|turn| turn.run == run.id);
        is_its_turn || run.process.is_some_and(Process::is_alive)
    }

    /// Lets the run that runs save what it has and end, and begins no other: it goes on with the next start of the program.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.call();
    }

    /// Asks the process that trains now to save what it has and to end, for a program that does not wait for it.
    pub fn let_go(&self) {
        if let Some(turn) = self.turn_now().as_mut() {
            turn.ask_to_end();
        }
    }

    /// Removes what killed writers have left: nobody else is here.
    fn tidy(&self) -> Result<()> {
        for table in FOLDERS {
            let known = self.database()?.all(&format!("SELECT id FROM {table}"), values![], |row| row.get(0))?;
            let known: HashSet<String> = known.into_iter().collect();
            let folder = self.dir.join(table);
            let entries = fs::read_dir(&folder).map_err(|e| Error::io("listing the folder", &folder, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| Error::io("listing the folder", &folder, e))?;
                let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
                if !is_ours(&name) {
                    continue;
                }
                if !known.contains(name.trim_end_matches(files::ROWS)) {
                    let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    removed.map_err(|e| Error::io("removing what a killed process left", &path, e))?;
                }
            }
        }
        Ok(())
    }

    /// The tables, for one after the other; what a thread that ended had not finished is undone. Where a database lets its answers be
    /// waited for, no more wait than leave threads for whoever asks for something else.
    fn database(&self) -> Result<MutexGuard<'_, Database>> {
        let others = self.asking.fetch_add(1, Ordering::SeqCst);
        let locked = (others < MOST_ASKING).then(|| self.database.lock().unwrap_or_else(PoisonError::into_inner));
        self.asking.fetch_sub(1, Ordering::SeqCst);
        locked.ok_or_else(|| {
            let what = "too many wait for the database of what waits to be trained";
            Error::new(Kind::Unreachable, what).hint("try again later")
        })
    }

    /// Tells who runs that there may be something new.
    fn call(&self) {
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.calls.notify_all();
    }

    /// Waits until somebody calls, or so long; whether somebody did.
    fn wait(&self, most: Duration) -> bool {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.calls.wait_timeout_while(called, most, |called| !*called);
        let (mut called, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *called)
    }

    fn turn_now(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The run whose turn it is.
#[derive(Debug, Default)]
struct Turn {
    run: String,
    /// The process that trains it, once that has begun, and what that was told.
    process: Option<Process>,
    words: Vec<OsString>,
    /// Asked twice, it would not save.
    is_asked: bool,
}

impl Turn {
    fn ask_to_end(&mut self) {
        if let Some(process) = self.process.filter(|_| !self.is_asked) {
            process.ask_to_end();
            self.is_asked = true;
        }
    }
}

/// The `output.dir` of a run, in its folder, unless it has another.
pub const RUN: &str = "run";

/// Whether a folder has no queue yet; one that has its tables elsewhere than where they are looked for is refused, and so is one that
/// holds what is no queue's: what no table names is removed.
fn is_new(dir: &Path, bond: Option<&Bond>, address: Option<&Address>) -> Result<bool> {
    let refused =
        |what: String, path: PathBuf, hint: String| Err(Error::new(Kind::Recipe, what).at_path(path).hint(hint));
    let holds_something = |folder: &PathBuf| paths::is_vacant(folder).is_ok_and(|is_vacant| !is_vacant);
    let full = FOLDERS.map(|folder| dir.join(folder)).into_iter().find(holds_something);
    let file = dir.join(DATABASE);
    let length = file.metadata().ok().map(|file| file.len());
    match (bond, address, length) {
        (Some(Bond { address, .. }), None, _) => {
            let hint = format!("name it with `--database` ({address} when it was last used), or name another folder");
            refused("the queue of this folder is in a database of PostgreSQL".into(), dir.join(BOND), hint)
        }
        (_, Some(_), Some(1..)) => {
            let hint = "leave `--database` out, or name another folder".into();
            refused("the queue of this folder is in a file of it".into(), file, hint)
        }
        (None, None, Some(1..)) => Ok(false),
        (Some(_), Some(_), _) => Ok(full.is_none()),
        (None, _, length) => match (full, length) {
            (None, _) => Ok(true),
            (Some(full), Some(_)) => {
                let what =
                    format!("the database of what waits to be trained is empty, and `{}` is not", full.display());
                let hint =
                    "put a copy of the file back, or begin anew in another folder; nothing in this one was touched";
                refused(what, file, hint.into())
            }
            (Some(full), None) => {
                let hint = "name an empty folder, or one that is not there";
                refused("this folder holds something else, and no queue".into(), full, hint.into())
            }
        },
    }
}

/// The tables of a folder at an address, where they know each other, or do from now on.
fn bound(dir: &Path, bond: Option<Bond>, address: &Address, is_new: bool) -> Result<Database> {
    let is_bound = bond.is_some();
    let bond = bond.unwrap_or_else(|| Bond::new(address.shown()));
    let database = Database::at(address, &bond.id, dir, is_new)?;
    if !is_bound {
        bond.write(dir)?; // before there are tables: those of a folder that says nothing of them would be nobody's
    }
    let database = database.brought_to_this();
    if !is_bound && database.as_ref().is_err_and(|error| error.kind() == Kind::Recipe) {
        let _ = fs::remove_file(dir.join(BOND)); // nothing was made there
    }
    let database = database?;
    if bond.address != address.shown() {
        Bond { address: address.shown().to_owned(), ..bond }.write(dir)?;
    }
    Ok(database)
}

fn lock(dir: &Path) -> Result<Locked> {
    let path = dir.join(".lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(|e| Error::io("opening", &path, e))?;
    let held = |_| {
        Error::new(Kind::Recipe, "another process trains what waits in this folder")
            .at(Place::Path(dir.into()))
            .hint("one server uses a folder of jobs at a time")
    };
    Locked::take(file).map_err(|refused| refused.error(&path, held))
}

/// Whether something is called as this program calls what it writes.
fn is_ours(name: &str) -> bool {
    let id = name.trim_end_matches(files::ROWS);
    name.starts_with(files::UNFINISHED) || (id.len() == ID_LENGTH && id.bytes().all(|byte| DIGITS.contains(&byte)))
}

/// Letters and digits of a name; none that looks like another.
const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// How many a name has.
const ID_LENGTH: usize = 24;

/// A name that nothing has.
fn new_id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let nanos = since_1970(SystemTime::now()).as_nanos() as u64;
    let labels = [Label::Purpose("queue"), Label::Step(nanos), Label::Micro(NUMBER.fetch_add(1, Ordering::Relaxed))];
    let mut random = Rng::new(u64::from(std::process::id())).stream(&labels);
    (0..ID_LENGTH).map(|_| char::from(DIGITS[random.below(DIGITS.len() as u64) as usize])).collect()
}

#[cfg(test)]
mod tests;
