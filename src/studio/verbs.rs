//! The verbs of this program, each in a process of its own, and what they say.

use crate::error::{Error, Kind, Result};
use crate::process::set_apart;
use crate::terminal::shell_word;
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What of a process's words is kept.
const MOST_BYTES: u64 = 16 << 20;

/// The program.
#[derive(Debug, Clone)]
pub struct Program(Arc<PathBuf>);

/// What a verb said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Its command line, to be typed.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub out: String,
    /// Talk.
    pub err: String,
}

/// Ends a process when nobody waits for it any more.
struct Waited(Arc<Mutex<Child>>);

impl Drop for Waited {
    fn drop(&mut self) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}

impl Program {
    /// The program at `path`.
    pub fn new(path: PathBuf) -> Self {
        Program(Arc::new(path))
    }

    /// A command that is yet to be started.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(self.0.as_path());
        command.args(words).stdin(Stdio::null());
        set_apart(&mut command);
        command
    }

    /// Runs a verb to its end, unless nobody waits for it any more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn say(&self, words: &[String]) -> Result<Said> {
        let failed =
            |e: std::io::Error| Error::new(Kind::Run, format!("a process cannot be started: {e}")).caused_by(e);
        let mut child = self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let waited = Waited(child.clone());
        let (sender, receiver) = oneshot::channel();
        let command = line(words);
        std::thread::spawn(move || {
            let talk = std::thread::spawn(move || text(err));
            let out = text(out);
            let err = talk.join().unwrap_or_default();
            // Its ends are closed, so it has ended or does so now.
            let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
            let _ = sender.send(Said { command, code: status.ok().and_then(|status| status.code()), out, err });
        });
        let said = receiver.await.map_err(|_| Error::new(Kind::Bug, "a process was not listened to"));
        drop(waited);
        said
    }
}

/// All that comes, as far as anybody would read it.
fn text(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(MOST_BYTES).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut from, &mut std::io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A command line as a person would type it.
pub fn line(words: &[String]) -> String {
    let words = words.iter().map(|word| match word.split_once('=') {
        // `--model=x` keeps a name that begins with a dash from being an option; for the eye it is two words.
        Some((option, value)) if option.starts_with("--") => {
            let between = if value.starts_with('-') { "=" } else { " " };
            format!("{option}{between}{}", shell_word(value))
        }
        _ => shell_word(word),
    });
    std::iter::once("gemma-tune".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_can_be_typed() {
        let words = ["merge", "--model=a b", "--adapter=-x", "--json"].map(str::to_owned);
        assert_eq!(line(&words), "gemma-tune merge --model 'a b' --adapter=-x --json");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_process_says_is_heard_and_nobody_waits_in_vain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shell = Program::new("/bin/sh".into());
        let words = |script: &str| ["-c".to_owned(), script.to_owned()];
        let said = runtime.block_on(shell.say(&words("echo out; echo err >&2; exit 3"))).unwrap();
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(3), "out\n", "err\n"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late");
        let script = words(&format!("exec sleep 0.2; touch {}", path.display()));
        let begun = std::time::Instant::now();
        runtime.block_on(async {
            let late = tokio::time::timeout(std::time::Duration::from_millis(20), shell.say(&script)).await;
            assert!(late.is_err());
        });
        assert!(begun.elapsed() < std::time::Duration::from_millis(200), "it was ended");
        assert!(runtime.block_on(Program::new("/none".into()).say(&words(""))).is_err());
    }
}
