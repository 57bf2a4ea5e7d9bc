//! The process that trains: started apart from this one, and found again by whoever comes after.

use crate::atomic::Locked;
use crate::clock::now;
use crate::error::{Error, Result};
use crate::process::{Process, set_apart};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a process that trains holds in its `output.dir`.
const LOCK: &str = ".lock";
/// How often is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How runs are trained.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// The program, and words before those that a run adds.
    pub command: Vec<OsString>,
    /// Its threads at a low priority, where it runs beside what answers; without them it has all that there are.
    pub threads: Option<usize>,
    /// The device of runs that name none, as `--device` takes it.
    pub device: Option<String>,
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

/// Whether a run has been in its `output.dir`: where none has, `--resume` is a mistake.
pub fn was_in(output: &Path) -> bool {
    [LOCK, "recipe.yaml"].iter().any(|name| output.join(name).exists())
}

/// Starts this program for the run in a folder.
///
/// # Errors
/// When the system starts no process.
pub fn start(folder: &Path, words: &[OsString], options: &RunnerOptions) -> Result<Child> {
    let log = folder.join("log.txt");
    let open = || File::options().create(true).append(true).open(&log);
    let begin = || {
        let mut out = open()?;
        writeln!(out, "{BEGUN}{}", now())?;
        std::io::Result::Ok((out, open()?))
    };
    let (out, err) = begin().map_err(|e| Error::io("writing", &log, e))?;
    let words = [options.command.as_slice(), words].concat();
    let spawn = |words: &[OsString]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.envs(options.threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string())));
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
        set_apart(&mut command);
        command.spawn()
    };
    // Whoever is answered comes first: the program that lowers a priority becomes the one that it starts.
    let lowered = [["nice", "-n", "10"].map(OsString::from).to_vec(), words.clone()].concat();
    let is_lowered = cfg!(unix) && options.threads.is_some();
    let started = if is_lowered { spawn(&lowered).or_else(|_| spawn(&words)) } else { spawn(&words) };
    started.map_err(|e| Error::io("starting", options.command_name(), e))
}

/// The process that holds the `output.dir` of a run, of whoever started it: its number, where it is to be read.
pub fn holder(run: &Path) -> Option<Option<u32>> {
    let mut file = Locked::held(&run.join(LOCK))?;
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    Some(text.trim().parse().ok())
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
