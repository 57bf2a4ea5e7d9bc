//! The process that trains: started apart from this one, and found again by whoever comes after.

use super::{RUN, now};
use crate::error::{Error, Result};
use crate::process::{Process, set_apart};
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How runs are trained.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// The program, and words before those that a run adds.
    pub command: Vec<OsString>,
    /// Its threads.
    pub threads: usize,
    /// The device, as `--device` takes it.
    pub device: String,
    /// How long one that is asked to end may take to save what it has.
    pub grace: Duration,
}

impl RunnerOptions {
    /// What the program is called in messages.
    pub(super) fn command_name(&self) -> PathBuf {
        self.command.first().map(PathBuf::from).unwrap_or_default()
    }
}

/// How the line in a log begins that says when a process was started.
pub const BEGUN: &str = "== begun ";

/// Starts the training of a run, or goes on with it.
///
/// # Errors
/// When the system starts no process.
pub fn start(folder: &Path, options: &RunnerOptions) -> Result<Child> {
    let log = folder.join("log.txt");
    let open = || File::options().create(true).append(true).open(&log);
    let begin = || {
        let mut out = open()?;
        writeln!(out, "{BEGUN}{}", now())?;
        std::io::Result::Ok((out, open()?))
    };
    let (out, err) = begin().map_err(|e| Error::io("writing", &log, e))?;
    let mut words = options.command.clone();
    words.extend(["train".into(), folder.join("recipe.yaml").into()]);
    let run = folder.join(RUN);
    // Where there is nothing, `--resume` is a mistake.
    if std::fs::read_dir(&run).is_ok_and(|mut entries| entries.next().is_some()) {
        words.push("--resume".into());
    }
    words.extend(["--device".into(), OsString::from(&options.device)]);
    let spawn = |words: &[OsString]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("RAYON_NUM_THREADS", options.threads.to_string());
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
        set_apart(&mut command);
        command.spawn()
    };
    // Whoever is answered comes first: the program that lowers a priority becomes the one that it starts.
    let lowered = [["nice", "-n", "10"].map(OsString::from).to_vec(), words.clone()].concat();
    let started = if cfg!(unix) { spawn(&lowered).or_else(|_| spawn(&words)) } else { spawn(&words) };
    started.map_err(|e| Error::io("starting", options.command_name(), e))
}

/// The process that holds the `output.dir` of a run, of whoever started it: its number, where it is to be read.
pub fn holder(run: &Path) -> Option<Option<u32>> {
    let mut file = File::options().read(true).write(true).open(run.join(".lock")).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            Some(text.trim().parse().ok())
        }
        _ => None,
    }
}

/// Ends what an earlier process of ours has started to train a run, and which runs on: there is one writer. `known` is it, as it was
/// taken down; where the system does not say when processes began, the lock of the run alone tells.
pub fn end_orphan(run: &Path, known: Option<Process>, grace: Duration) {
    let (since, mut asked) = (Instant::now(), None);
    loop {
        let found = match (holder(run), known.filter(|known| known.is_alive())) {
            (None, None) => return,
            (held, known) => held.flatten().map(Process::of).or(known),
        };
        if let Some(process) = found {
            if asked != Some(process) {
                process.ask_to_end();
                asked = Some(process);
            }
            if since.elapsed() > grace {
                process.kill();
            }
        } else if since.elapsed() > grace * 2 {
            return; // nobody can be asked; the run itself says that somebody is there
        }
        sleep(LOOK);
    }
}
