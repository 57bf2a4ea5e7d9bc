//! A model that is talked to, with an adapter beside it: `serve` in a process of its own.

use super::door::secret;
use super::folder::Folder;
use super::verbs::{Program, line};
use crate::error::{Error, Kind, Result};
use crate::paths::named;
use crate::process::{self, Process};
use crate::{atomic, input};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What requests call the model by itself.
const BASE: &str = "base";
/// How long answers that have begun are waited for.
const GRACE: Duration = Duration::from_secs(3);

/// The model that is talked to, if any.
pub struct Talk {
    program: Program,
    /// Its words.
    log: PathBuf,
    /// Its API key.
    key: PathBuf,
    /// Which process it is, for a studio that comes after one that was killed.
    left: PathBuf,
    talking: Mutex<Option<Talking>>,
    /// Held while one takes the place of another.
    changing: Mutex<()>,
}

struct Talking {
    child: Child,
    model: String,
    run: Option<String>,
    command: String,
    key: String,
    /// Its address, once the model is loaded.
    url: Arc<OnceLock<String>>,
    /// With which code it ended, if it has.
    ended: Option<Option<i32>>,
}

/// The process that a studio left behind which was killed.
#[derive(Serialize, Deserialize)]
struct Left {
    #[serde(flatten)]
    process: Process,
    /// That studio's folder: of a copy of it the process is none.
    #[serde(default)]
    dir: PathBuf,
}

impl Left {
    /// The one that a file names, where it runs still and is of the studio in `dir`.
    fn read(path: &Path, dir: &Path) -> Option<Process> {
        let left: Left = serde_json::from_str(&input::read_to_string(path).ok()?).ok()?;
        Some(left.process).filter(|process| left.dir == dir && process.is_alive())
    }
}

/// Where to ask, and with what.
pub struct Reached {
    /// `127.0.0.1:8080`.
    pub address: String,
    /// The API key.
    pub key: String,
}

impl Talk {
    /// None yet. One that a studio left behind which was killed is ended.
    pub fn new(folder: &Folder, program: Program) -> Self {
        let left = folder.work("serve.json");
        Left::read(&left, folder.dir()).into_iter().for_each(Process::ask_to_end);
        Talk {
            program,
            log: folder.work("serve.txt"),
            key: folder.work("api-key"),
            left,
            talking: Mutex::new(None),
            changing: Mutex::new(()),
        }
    }

    /// Loads a model, and the adapter of a run beside it, in place of what was talked to.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn open(&self, folder: &Folder, model: &str, run: Option<&str>, device: &str) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.end();
        let mut words = vec!["serve".to_owned(), format!("--model={model}"), format!("--name={BASE}")];
        if let Some(run) = run {
            words.push(format!("--adapter={run}={}", named(&folder.run(run))));
        }
        words.push("--port=0".to_owned());
        if device != "auto" {
            words.push(format!("--device={device}"));
        }
        let shown = line(&words);
        let key = secret()?;
        atomic::write(&self.key, key.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&self.key, own).map_err(|e| Error::io("protecting", &self.key, e))?;
        }
        words.push(format!("--api-key-file={}", named(&self.key)));
        let log = File::create(&self.log).map_err(|e| Error::io("writing", &self.log, e))?;
        let mut child = self
            .program
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| Error::new(Kind::Run, format!("a process cannot be started: {e}")).caused_by(e))?;
        let url = Arc::new(OnceLock::new());
        if let Some(out) = child.stdout.take() {
            let url = url.clone();
            std::thread::spawn(move || {
                let mut first = String::new();
                // Its first line is its address; one that ends before says nothing.
                if BufReader::new(out).read_line(&mut first).is_ok_and(|bytes| bytes > 0) {
                    let _ = url.set(first.trim().to_owned());
                }
            });
        }
        let left = Left { process: Process::of(child.id()), dir: folder.dir().to_owned() };
        atomic::write(&self.left, &serde_json::to_vec(&left).unwrap_or_default())?;
        let (model, run) = (model.to_owned(), run.map(str::to_owned));
        *self.locked() = Some(Talking { child, model, run, command: shown, key, url, ended: None });
        Ok(())
    }

    /// Looks whether it goes on.
    pub fn look(&self) {
        if let Some(talking) = self.locked().as_mut().filter(|talking| talking.ended.is_none())
            && let Ok(Some(status)) = talking.child.try_wait()
        {
            talking.ended = Some(status.code());
        }
    }

    /// How it stands, for the page.
    pub fn shown(&self) -> Value {
        let talking = self.locked();
        let Some(talking) = talking.as_ref() else { return Value::Null };
        let state = match (talking.ended, talking.url.get()) {
            (Some(_), _) => "ended",
            (None, Some(_)) => "ready",
            (None, None) => "loading",
        };
        let words = || input::read_to_string(&self.log).unwrap_or_default();
        json!({
            "state": state, "model": talking.model, "run": talking.run, "command": talking.command,
            "names": std::iter::once(BASE).chain(talking.run.as_deref()).collect::<Vec<_>>(),
            "url": talking.url.get().map(|url| format!("{url}/v1")), "key": talking.key,
            "log": if state == "ready" { String::new() } else { words() },
        })
    }

    /// Where it is asked.
    pub fn reached(&self) -> Option<Reached> {
        let talking = self.locked();
        let talking = talking.as_ref().filter(|talking| talking.ended.is_none())?;
        let address = talking.url.get()?.strip_prefix("http://")?.to_owned();
        Some(Reached { address, key: talking.key.clone() })
    }

    /// Whether it still reads a run.
    pub fn is_loading(&self, run: &str) -> bool {
        let is_it = |talking: &Talking| talking.run.as_deref() == Some(run) && talking.ended.is_none();
        self.locked().as_ref().is_some_and(|talking| is_it(talking) && talking.url.get().is_none())
    }

    /// Ends it, and frees its memory.
    pub fn end(&self) {
        let Some(mut talking) = self.locked().take() else { return };
        if talking.ended.is_none() {
            process::end(&mut talking.child, GRACE);
        }
        let _ = std::fs::remove_file(&self.left);
    }

    fn locked(&self) -> MutexGuard<'_, Option<Talking>> {
        self.talking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_studio_ends_no_model_of_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serve.json");
        let process = Process::of(std::process::id());
        let left = Left { process, dir: dir.path().to_owned() };
        std::fs::write(&path, serde_json::to_vec(&left).unwrap()).unwrap();
        let found = Some(process).filter(|process| process.is_alive());
        assert_eq!((Left::read(&path, dir.path()), Left::read(&path, Path::new("/copy"))), (found, None));
        std::fs::write(&path, serde_json::to_vec(&process).unwrap()).unwrap();
        assert_eq!(Left::read(&path, dir.path()), None, "of a studio that did not say where");
    }
}
