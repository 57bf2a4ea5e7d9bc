//! Programs that judge, while they run: fed, listened to, and ended with all that they have started themselves.

use crate::error::{Error, Kind, Result};
use crate::paths;
use crate::process::{end_group, set_apart};
use crate::recipe;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a program may write to its standard output.
pub const MOST_BYTES: usize = 16 << 20;
/// What is kept of its standard error: the last of it.
const LAST_BYTES: usize = 64 << 10;
/// How often is looked whether it is done.
const LOOK: Duration = Duration::from_millis(5);
/// How long it is listened to when it is done: what it has started itself may hold its ends open.
const GRACE: Duration = Duration::from_millis(500);

/// Those that run now, by the ids of their first processes, which are those of their groups.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every program that judges now, with all that it has started. Whoever would start another waits from then on: the process is to
/// end next.
pub fn end_all() {
    let running = running();
    running.iter().for_each(|group| end_group(*group));
    std::mem::forget(running);
}

/// Looks for the program of a command, in the PATH or where its folder says.
///
/// # Errors
/// When there is none, or it is no program.
pub fn find(command: &[String]) -> Result<()> {
    let Some(program) = command.first().filter(|program| !program.trim().is_empty()) else {
        return Ok(()); // which is reported as such
    };
    let is_path = program.contains(std::path::MAIN_SEPARATOR) || program.contains('/');
    let wrong = |what: String, hint: String| Err(Error::new(Kind::Recipe, what).hint(hint));
    let in_words = || match command {
        [all] if all.contains(char::is_whitespace) => {
            Some(format!("a program and its arguments are items of their own: `{}`", recipe::in_words(all)))
        }
        _ => None,
    };
    if is_path {
        let path = Path::new(program);
        if is_program(path) {
            return script(command);
        }
        let there = format!("relative paths start at the folder in which the program runs (`{}`)", here().display());
        return match path.is_file() {
            true => {
                let hint =
                    format!("make it one with `chmod +x {program}`, or name what runs it: `[python3, {program}]`");
                wrong(format!("`{program}` is a file that may not be run"), hint)
            }
            false => wrong(format!("there is no program `{program}`"), in_words().unwrap_or(there)),
        };
    }
    // Without a PATH the system has its own folders.
    let Some(folders) = std::env::var_os("PATH") else { return script(command) };
    if std::env::split_paths(&folders).any(|folder| is_program(&folder.join(program))) {
        return script(command);
    }
    let hint = match here().join(program).is_file() {
        true => format!("a file of this folder is named with it: `./{program}`"),
        false => in_words().unwrap_or_else(|| "install it, or name it with its folder".into()),
    };
    wrong(format!("there is no program `{program}` in the PATH"), hint)
}

/// Endings of files that another program runs.
const SCRIPTS: [&str; 12] = ["py", "sh", "bash", "js", "mjs", "ts", "rb", "pl", "php", "lua", "jl", "r"];

/// Looks for the script that a program is to run: its first argument that is no option, where that has the form of one.
///
/// # Errors
/// When there is none.
fn script(command: &[String]) -> Result<()> {
    let is_option = |word: &&String| word.starts_with('-');
    // What comes after these is no file: `-c CODE`, `-m MODULE`.
    let is_other = |word: &&String| ["-c", "-m", "-e", "--eval"].contains(&word.as_str());
    let arguments = command.get(1..).unwrap_or_default();
    let Some(named) = arguments.iter().find(|word| is_other(word) || !is_option(word)) else { return Ok(()) };
    let path = Path::new(named);
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let is_script = ending.is_some_and(|ending| SCRIPTS.contains(&ending.as_str()));
    if is_other(&named) || !is_script || named.contains(char::is_whitespace) || path.exists() {
        return Ok(());
    }
    let program = command.first().map_or("", String::as_str);
    let error = Error::new(Kind::Recipe, format!("there is no file `{named}`, which `{program}` is to run"));
    Err(match paths::absent(path, &|near| near.is_file()) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

fn here() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// As the system looks for it: with the endings that programs have.
#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    let with = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    ["", ".exe", ".bat", ".cmd", ".com"].iter().any(|ending| with(ending).is_file())
}

/// A program that runs. When it is dropped, it ends, and with it all that it has started and that has not left its group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: Heard,
    complaints: Heard,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself; whether something that it has started still held its output open.
    Done(ExitStatus, bool),
    /// It took too long.
    Late,
    /// It wrote more than [`MOST_BYTES`].
    Long,
    /// Nobody waits for it any more.
    Stopped,
}

impl Running {
    /// Starts a program in a group of its own, and gives it its `input`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &[String], input: Vec<u8>) -> io::Result<Self> {
        let (program, arguments) =
            command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        set_apart(&mut command);
        let mut running = running();
        let mut child = command.spawn()?;
        running.insert(child.id());
        drop(running);
        let mut given = child.stdin.take();
        // One that does not want to read it all is judged by what it writes.
        thread::spawn(move || given.as_mut().map(|given| given.write_all(&input)));
        let said = Heard::of(child.stdout.take(), Keep::First);
        let complaints = Heard::of(child.stderr.take(), Keep::Last);
        Ok(Running { child, said, complaints })
    }

    /// Waits until it is done, and ends it where that takes too long, or `stop` is set.
    ///
    /// # Errors
    /// When the system does not say how it is.
    pub fn wait(&mut self, timeout: Duration, stop: &AtomicBool) -> io::Result<Ended> {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if stop.load(Ordering::SeqCst) => return Ok(Ended::Stopped),
                None if self.said.kept().is_cut => return Ok(Ended::Long),
                None if started.elapsed() > timeout => return Ok(Ended::Late),
                None => thread::sleep(LOOK),
            }
        };
        // What it has started itself may go on writing for a moment, and then ends as it has.
        let is_held = !self.said.closes_within(GRACE);
        end_group(self.child.id());
        if is_held {
            // What was in its group is gone; what has left it is not waited for long.
            self.said.closes_within(4 * GRACE);
        }
        self.complaints.closes_within(GRACE);
        Ok(if self.said.kept().is_cut { Ended::Long } else { Ended::Done(status, is_held) })
    }

    /// What it wrote to its standard output so far.
    pub fn said(&self) -> String {
        self.said.text()
    }

    /// The last of what it wrote to its standard error so far.
    pub fn complaints(&self) -> String {
        self.complaints.text()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.child.id();
        end_group(id);
        // Of one that is gone already there is nothing to end or to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().remove(&id);
    }
}

/// Which bytes of a pipe are kept where there are too many.
#[derive(Debug, Clone, Copy)]
enum Keep {
    First,
    Last,
}

/// What comes of a pipe, while a thread reads it to its end, so that nobody who writes waits.
#[derive(Debug)]
struct Heard {
    kept: Arc<Mutex<Kept>>,
    closed: Receiver<()>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Whether there was more.
    is_cut: bool,
}

impl Heard {
    fn of(pipe: Option<impl Read + Send + 'static>, keep: Keep) -> Self {
        let kept = Arc::<Mutex<Kept>>::default();
        let (open, closed) = channel::<()>();
        let into = kept.clone();
        thread::spawn(move || {
            let _open = open; // dropped with the last byte
            let (Some(mut pipe), mut buffer) = (pipe, vec![0; 64 << 10]) else { return };
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => lock(&into).take(&buffer[..count], keep),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return, // what came is judged
                }
            }
        });
        Heard { kept, closed }
    }

    /// Waits for the end of the pipe; whether it came.
    fn closes_within(&self, time: Duration) -> bool {
        self.closed.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept().bytes).into_owned()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn take(&mut self, bytes: &[u8], keep: Keep) {
        match keep {
            Keep::First => {
                let room = MOST_BYTES - self.bytes.len();
                self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
                self.is_cut |= bytes.len() > room;
            }
            Keep::Last => {
                self.bytes.extend_from_slice(bytes);
                if self.bytes.len() > 2 * LAST_BYTES {
                    self.bytes.drain(..self.bytes.len() - LAST_BYTES);
                    self.is_cut = true;
                }
            }
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_is_not_there_is_named_before_it_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let judge = dir.path().join("judge.py").display().to_string();
        let missing = dir.path().join("jugde.py").display().to_string();
        std::fs::write(&judge, "").unwrap();
        let found = |words: &[&str]| find(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for words in [
            &["sh", judge.as_str()][..],
            &["sh", "-x", &judge, "nowhere.py"],
            &["sh", "-c", "python3 nowhere.py"],
            &["sh", "-c", "nowhere.sh"],
            &["sh", "nowhere"],
            &["sh", "out/nowhere.jsonl"],
            &["sh"],
        ] {
            assert!(found(words).is_ok(), "{words:?}");
        }
        for words in [&["sh", missing.as_str()][..], &["sh", "-x", &missing, &judge], &["/bin/sh", &missing]] {
            let error = found(words).unwrap_err();
            assert_eq!(error.what(), format!("there is no file `{missing}`, which `{}` is to run", words[0]));
            assert_eq!(error.hint_text(), Some(format!("did you mean `{judge}`?").as_str()));
        }
        assert!(found(&["sh", "nowhere.py"]).unwrap_err().hint_text().unwrap().contains("relative paths start at"));
    }
}
