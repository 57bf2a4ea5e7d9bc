//! What is made of runs and takes its time, each a few verbs in turn, their words in files that outlive the studio.
//!
//! One at a time; others wait. What goes on although the studio was killed is found again.

use super::folder::Folder;
use super::placing;
use super::verbs::{Program, line};
use crate::clock::now;
use crate::error::{Error, Kind, Result};
use crate::process::Process;
use crate::{atomic, input};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long processes may take to end when the studio does.
const GRACE: Duration = Duration::from_secs(60);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A folder with base and adapter in one.
    Merge,
    /// The same as a GGUF file.
    Gguf,
    /// The adapter as a GGUF file.
    Lora,
    /// A folder for Ollama.
    Ollama,
    /// An upload to the Hub.
    Push,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Another one goes on.
    Waiting,
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// It was stopped.
    Stopped,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub task: Task,
    /// The run that it is made of.
    pub run: String,
    /// The base model of the run.
    pub model: String,
    /// The command lines, without the program's name.
    pub steps: Vec<Vec<String>>,
    /// Which of them is next, or goes on.
    pub at: usize,
    /// What comes of it.
    pub output: PathBuf,
    /// How it stands.
    pub state: State,
    /// The last exit code.
    pub code: Option<i32>,
    /// The process that goes on.
    pub process: Option<Process>,
    /// When it was asked for, in seconds since 1970,
    pub created: u64,
    /// began
    pub started: Option<u64>,
    /// and ended.
    pub ended: Option<u64>,
    /// Whether somebody has asked it to stop.
    #[serde(default)]
    pub stopping: bool,
    /// Variables of its processes, which no file keeps.
    #[serde(skip)]
    pub secrets: Vec<(&'static str, String)>,
}

impl Job {
    /// A new one, whose number it is given when it is [added](Jobs::add).
    pub fn new(task: Task, run: &str, model: &str, steps: Vec<Vec<String>>, output: PathBuf) -> Self {
        Job {
            id: 0,
            task,
            run: run.to_owned(),
            model: model.to_owned(),
            steps,
            at: 0,
            output,
            state: State::Waiting,
            code: None,
            process: None,
            created: now(),
            started: None,
            ended: None,
            stopping: false,
            secrets: Vec::new(),
        }
    }

    /// As its file has it.
    fn text(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Has it name what is in this folder, wherever that was when it was asked for; whether that is something else.
    fn settle(&mut self, folder: &Folder) -> bool {
        let Some(from) = self.output.to_str().and_then(placing::root).map(Path::to_path_buf) else { return false };
        if from == folder.dir() {
            return false;
        }
        for word in self.steps.iter_mut().flatten() {
            *word = placing::word(word, &from, folder);
        }
        if let Some(model) = placing::base(&self.model, Some(&from), folder) {
            self.model = model;
        }
        if let Ok(rest) = self.output.strip_prefix(&from) {
            self.output = folder.dir().join(rest);
        }
        // What goes on elsewhere is somebody else's.
        self.process = self.process.filter(|_| placing::is_here(&from, folder));
        true
    }

    /// It for the page.
    fn shown(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        shown["commands"] = self.steps.iter().map(|words| line(words)).collect();
        shown
    }

    /// Takes what became of a step.
    fn ended_with(&mut self, code: Option<i32>) {
        (self.code, self.process) = (code, None);
        self.state = match code {
            Some(0) if self.at + 1 == self.steps.len() => State::Done,
            Some(0) if !self.stopping => {
                self.at += 1;
                State::Waiting
            }
            Some(code) if code != 3 && !self.stopping => State::Failed,
            _ => State::Stopped,
        };
        if self.state != State::Waiting {
            self.ended = Some(now());
            self.stopping = false;
        }
    }
}

/// All jobs of a studio.
pub struct Jobs {
    folder: PathBuf,
    program: Program,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<u64, Job>,
    /// Those that this studio has started.
    children: HashMap<u64, Child>,
}

impl Jobs {
    /// Those that a folder knows of.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn open(folder: &Folder, program: Program) -> Result<Self> {
        let mut jobs = BTreeMap::new();
        let all = folder.dir().join("jobs");
        let read = |path: &Path| -> Result<Job> {
            let text = input::read_to_string(path).map_err(|e| Error::io("reading", path, e))?;
            serde_json::from_str(&text).map_err(|e| {
                Error::new(Kind::Data, format!("the job is damaged: {e}")).at_path(path).hint("remove its folder")
            })
        };
        for name in crate::paths::entries(&all) {
            let path = all.join(name).join("job.json");
            if path.is_file() {
                let mut job = read(&path)?;
                if job.settle(folder) {
                    atomic::write(&path, &job.text())?;
                }
                jobs.insert(job.id, job);
            }
        }
        let inner = Mutex::new(Inner { jobs, children: HashMap::new() });
        Ok(Jobs { folder: all, program, inner })
    }

    /// All of them, for the page.
    pub fn shown(&self) -> Vec<Value> {
        self.locked().jobs.values().map(Job::shown).collect()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<Job> {
        self.locked().jobs.get(&id).cloned()
    }

    /// Whether something is made of a run, or waits to be.
    pub fn reading(&self, run: &str) -> bool {
        let is_undone = |job: &Job| matches!(job.state, State::Waiting | State::Running);
        self.locked().jobs.values().any(|job| job.run == run && is_undone(job))
    }

    /// Takes a job, and gives its number.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, job: Job) -> Result<u64> {
        let mut inner = self.locked();
        let id = inner.jobs.keys().next_back().map_or(1, |last| last + 1);
        let folder = self.folder.join(id.to_string());
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("making the folder", &folder, e))?;
        let job = Job { id, ..job };
        self.save(&job)?;
        inner.jobs.insert(id, job);
        Ok(id)
    }

    /// Asks a job to stop. Says whether there is one to stop.
    pub fn stop(&self, id: u64) -> bool {
        let mut inner = self.locked();
        let Some(job) = inner.jobs.get_mut(&id) else { return false };
        match (job.state, job.process) {
            (State::Waiting, _) => {
                (job.state, job.ended) = (State::Stopped, Some(now()));
            }
            (State::Running, Some(process)) => {
                job.stopping = true;
                process.ask_to_end();
                #[cfg(not(unix))]
                if let Some(child) = inner.children.get_mut(&id) {
                    let _ = child.kill();
                }
            }
            _ => return false,
        }
        // A stop that no file knows of is a stop.
        let _ = inner.jobs.get(&id).map(|job| self.save(job));
        true
    }

    /// Forgets a job that does not go on, with its words; what it made stays. Says whether there was one.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self, id: u64) -> Result<bool> {
        let mut inner = self.locked();
        if inner.jobs.get(&id).is_none_or(|job| job.state == State::Running) {
            return Ok(false);
        }
        let folder = self.folder.join(id.to_string());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| Error::io("removing", &folder, e))?;
        }
        inner.jobs.remove(&id);
        Ok(true)
    }

    /// Looks what became of the one that goes on, and starts the one whose turn it is.
    pub fn look(&self) {
        let mut inner = self.locked();
        if self.goes_on(&mut inner) {
            return;
        }
        let Inner { jobs, children } = &mut *inner;
        let waiting = jobs.values_mut().filter(|job| job.state == State::Waiting);
        // One that has begun goes first.
        let Some(job) = waiting.min_by_key(|job| (job.at == 0, job.id)) else { return };
        match self.start(job) {
            Ok(child) => drop(children.insert(job.id, child)),
            Err(error) => {
                job.ended_with(Some(i32::from(error.exit_code())));
                let path = self.folder.join(job.id.to_string()).join("log.txt");
                let _ = atomic::write(&path, error.to_string().as_bytes());
            }
        }
        let _ = self.save(job);
    }

    /// Takes down what has ended; whether any goes on.
    fn goes_on(&self, inner: &mut Inner) -> bool {
        let Inner { jobs, children } = inner;
        let mut goes_on = false;
        for job in jobs.values_mut().filter(|job| job.state == State::Running) {
            let code = match children.get_mut(&job.id).map(Child::try_wait) {
                Some(Ok(Some(status))) => status.code(),
                Some(Ok(None)) => {
                    goes_on = true;
                    continue;
                }
                // Of a studio that was killed.
                None if job.process.is_some_and(Process::is_alive) => {
                    goes_on = true;
                    continue;
                }
                // How it ended, nobody knows.
                Some(Err(_)) | None => None,
            };
            children.remove(&job.id);
            job.ended_with(code);
            let _ = self.save(job);
        }
        goes_on
    }

    fn start(&self, job: &mut Job) -> Result<Child> {
        let folder = self.folder.join(job.id.to_string());
        let open = |name: String| {
            let path = folder.join(name);
            File::options().create(true).append(true).open(&path).map_err(|e| Error::io("opening", &path, e))
        };
        let no_words = Vec::new();
        let words = job.steps.get(job.at).unwrap_or(&no_words);
        let mut command = self.program.command(words);
        command.envs(job.secrets.iter().map(|(name, value)| (name, value)));
        command.stdout(
            File::create(folder.join(format!("out-{}.json", job.at))).map_err(|e| Error::io("writing", &folder, e))?,
        );
        command.stderr(open("log.txt".into())?);
        let child = command
            .spawn()
            .map_err(|e| Error::new(Kind::Run, format!("a process cannot be started: {e}")).caused_by(e))?;
        job.process = Some(Process::of(child.id()));
        job.state = State::Running;
        job.started = job.started.or(Some(now()));
        Ok(child)
    }

    /// Stops all that go on, and waits for their end.
    pub fn end_all(&self) {
        let running = |job: &&Job| job.state == State::Running;
        let ids: Vec<u64> = self.locked().jobs.values().filter(running).map(|job| job.id).collect();
        for id in ids {
            self.stop(id);
        }
        let until = Instant::now() + GRACE;
        while self.goes_on(&mut self.locked()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn save(&self, job: &Job) -> Result<()> {
        atomic::write(&self.folder.join(job.id.to_string()).join("job.json"), &job.text())
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_studio_makes_what_it_makes_in_its_own_folder_and_ends_nothing_of_the_other() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(dir.path()).unwrap();
        let made = |folder: &Folder| folder.dir().join("ship/faq-Q8_0.gguf");
        let steps = |folder: &Folder| {
            let (run, made) = (folder.run("faq"), made(folder));
            let (run, made) = (format!("--adapter={}", run.display()), format!("--output={}", made.display()));
            vec![["export", "gguf", "--model=m", &run, &made].map(str::to_owned).to_vec()]
        };
        let jobs = Jobs::open(&folder, Program::new("/none".into())).unwrap();
        let job = Job::new(Task::Gguf, "faq", "m", steps(&folder), made(&folder));
        let process = Some(Process::of(std::process::id()));
        let id = jobs.add(Job { state: State::Running, process, ..job }).unwrap();
        let copy = Folder::open(other.path()).unwrap();
        std::fs::create_dir(copy.job(id)).unwrap();
        std::fs::copy(folder.job(id).join("job.json"), copy.job(id).join("job.json")).unwrap();
        for _ in 0..2 {
            let copied = Jobs::open(&copy, Program::new("/none".into())).unwrap();
            let job = copied.get(id).unwrap();
            assert_eq!((job.steps, job.output, job.process), (steps(&copy), made(&copy), None));
        }
        let copied = Jobs::open(&copy, Program::new("/none".into())).unwrap();
        assert!(!copied.stop(id), "it is not its own");
        copied.look();
        assert_eq!(copied.get(id).unwrap().state, State::Stopped, "how it ended, nobody knows");
        let again = Jobs::open(&folder, Program::new("/none".into())).unwrap().get(id).unwrap();
        assert_eq!((again.process, again.steps), (process, steps(&folder)));
    }
}
