//! The process that trains: started apart from this one, asked to end, and found again by whoever comes after.

use super::{RUN, now};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
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
        // A Ctrl-C is for whoever serves, which then ends this.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    };
    // Whoever is answered comes first: the program that lowers a priority becomes the one that it starts.
    let lowered = [["nice", "-n", "10"].map(OsString::from).to_vec(), words.clone()].concat();
    let started = if cfg!(unix) { spawn(&lowered).or_else(|_| spawn(&words)) } else { spawn(&words) };
    started.map_err(|e| Error::io("starting", options.command_name(), e))
}

/// Asks a process to save what it has and to end.
#[cfg(unix)]
pub fn ask_to_end(process: u32) {
    use nix::sys::signal::{Signal, kill};
    if let Ok(id) = i32::try_from(process) {
        let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT);
    }
}

/// As above, where nobody can be asked.
#[cfg(not(unix))]
pub fn ask_to_end(_: u32) {}

#[cfg(unix)]
fn end_now(process: u32) {
    use nix::sys::signal::{Signal, kill};
    if let Ok(id) = i32::try_from(process) {
        let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
    }
}

#[cfg(not(unix))]
fn end_now(_: u32) {}

/// Ends one of ours: asks it, and where it takes longer than the `grace`, does not ask.
pub fn end(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    ask_to_end(child.id());
    let since = Instant::now();
    while since.elapsed() < grace && cfg!(unix) {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        sleep(LOOK);
    }
    let _ = child.kill();
    child.wait().ok()
}

/// The process that holds the `output.dir` of a run, of whoever started it.
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

/// Ends what an earlier process of ours has started to train a run, and which runs on: there is one writer. `known` is its id, as it was
/// taken down. Says whether there was one.
pub fn end_orphan(folder: &Path, known: Option<u32>, grace: Duration) -> bool {
    let run = folder.join(RUN);
    let since = Instant::now();
    let mut asked = None;
    let mut was_there = false;
    loop {
        let found = match (holder(&run), known.filter(|known| trains(*known, folder))) {
            (None, None) => return was_there,
            (Some(holder), known) => holder.or(known),
            (None, known) => known,
        };
        was_there = true;
        if let Some(process) = found {
            if asked != Some(process) {
                ask_to_end(process);
                asked = Some(process);
            }
            if since.elapsed() > grace {
                end_now(process);
            }
        } else if since.elapsed() > grace * 2 {
            return true; // nobody can be asked; the run itself says that somebody is there
        }
        sleep(LOOK);
    }
}

/// Whether a process is one that trains the run of this folder, and not another that has got its number. Where the system does not say
/// what a process does, the lock of the run alone tells.
fn trains(process: u32, folder: &Path) -> bool {
    let Ok(words) = crate::input::read(Path::new(&format!("/proc/{process}/cmdline"))) else { return false };
    let recipe = folder.join("recipe.yaml");
    words.split(|byte| *byte == 0).any(|word| word == recipe.as_os_str().as_encoded_bytes())
}
