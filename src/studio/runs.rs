//! The runs of a studio: those of a queue in its folder, each with the name that a person gave it.

use super::folder::Folder;
use super::verbs::line;
use crate::error::{Error, Kind, Result};
use crate::process::Process;
use crate::queue::{Limits, Order, Page, Queue, Run, Status};
use crate::{input, paths};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose they all are.
const OWNER: &str = "";
/// A person knows how many he wants.
const LIMITS: Limits = Limits { files: u64::MAX, bytes: u64::MAX, waiting: u64::MAX };

/// All runs of a studio.
pub struct Runs {
    /// Where they wait.
    pub queue: Arc<Queue>,
}

impl Runs {
    /// Those that a folder knows of, those of older studios among them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(folder: &Folder) -> Result<Self> {
        let runs = Runs { queue: Arc::new(Queue::open(&folder.dir().join("queue"), LIMITS)?) };
        runs.take_over_all(&folder.dir().join("jobs"))?;
        runs.are_in(folder)?;
        Ok(runs)
    }

    /// Refuses a folder that was copied or moved, or is opened from another place: its runs are named as they were seen from where it was
    /// begun, so that those of another folder, or none, would be trained and removed.
    fn are_in(&self, folder: &Folder) -> Result<()> {
        let place = |path: PathBuf| {
            let parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
            fs::canonicalize(&parent).or_else(|_| std::path::absolute(&parent)).unwrap_or(parent)
        };
        let own = place(folder.run("any"));
        let is_elsewhere = |run: &Run| place(self.queue.output(run)) != own;
        let Some(run) = self.all()?.into_iter().find(is_elsewhere) else { return Ok(()) };
        let (name, output) = (&run.model, self.queue.output(&run));
        let what = format!(
            "the run `{name}` of this studio lies in `{}`, as seen from here, which is not in it",
            output.display()
        );
        Err(Error::new(Kind::Recipe, what).at_path(folder.dir()).hint(
            "open it by the same `--dir` in the working directory in which it was begun; a copy goes on without `queue` and `runs`",
        ))
    }

    /// One of them, by its id.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn get(&self, id: &str) -> Result<Option<Run>> {
        self.queue.run(OWNER, id)
    }

    /// The one of that name.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn named(&self, name: &str) -> Result<Option<Run>> {
        self.queue.run_of_model(OWNER, name)
    }

    /// Takes a run of a name with its recipe, whose `output.dir` is that, and gives its id.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn add(&self, name: &str, recipe: &str, output: &str, device: Option<&str>, details: Value) -> Result<String> {
        let (model, recipe) = (|_: &str| name.to_owned(), |_: &Path| Ok(recipe.to_owned()));
        let output = Some(output);
        let order = Order { owner: OWNER, model: &model, files: &[], recipe: &recipe, output, device, details };
        self.queue.order(&order).map(|run| run.id)
    }

    /// Stops a run, lets it go on or removes it with all that it left; `false` where it is not in a state for that.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn act(&self, id: &str, what: &str) -> Result<bool> {
        let turned = match what {
            "stop" => self.queue.pause(OWNER, id),
            "resume" => self.queue.retry(OWNER, id),
            _ => return self.queue.forget(OWNER, id),
        };
        Ok(turned?.is_some_and(|(_, turned)| turned))
    }

    /// All of them for the page, the oldest first.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn shown(&self) -> Result<Vec<Value>> {
        Ok(self.all()?.iter().map(|run| self.show(run)).collect())
    }

    fn all(&self) -> Result<Vec<Run>> {
        Ok(self.queue.runs(OWNER, Page::ALL)?.map(|paged| paged.items).unwrap_or_default())
    }

    fn show(&self, run: &Run) -> Value {
        let output = self.queue.output(run);
        // It was stopped, and saves what it has.
        let stopping = matches!(run.status, Status::Paused | Status::Cancelled) && self.queue.is_busy(run);
        let state = match run.status {
            Status::Queued => "waiting",
            Status::Running => "running",
            Status::Paused | Status::Cancelled if stopping => "running",
            Status::Paused | Status::Cancelled => "stopped",
            Status::Succeeded => "done",
            Status::Failed => "failed",
        };
        let memory_bytes = run.process.filter(|process| process.is_alive()).and_then(Process::memory_bytes);
        json!({
            "id": run.id, "task": "train", "run": run.model, "model": base_of(run), "state": state, "stopping": stopping,
            "output": output.display().to_string(), "created": run.created, "started": run.started, "ended": run.finished,
            "estimated_bytes": run.details["estimated_bytes"], "memory_bytes": memory_bytes,
            "has_adapter": output.join("adapter").join("adapter_config.json").is_file(),
            "commands": [line(&self.queue.words(run))],
        })
    }

    /// Takes over what older studios have kept in `jobs/N/` of their runs: words and recipe move into the queue, and what the runs
    /// left stays where it is.
    fn take_over_all(&self, jobs: &Path) -> Result<()> {
        let folders = paths::entries(jobs).into_iter().map(|name| jobs.join(name));
        let read = |folder: PathBuf| -> Result<_> { Ok(Older::read(&folder)?.map(|older| (older, folder))) };
        let mut found = folders.filter_map(|folder| read(folder).transpose()).collect::<Result<Vec<_>>>()?;
        found.sort_by_key(|(older, _)| older.id);
        for (older, folder) in found {
            // Where this was interrupted, it is there already.
            let run = match self.named(&older.run)? {
                Some(run) => run,
                None => self.queue.take_over(older.taken())?,
            };
            let to = self.queue.folder(&run.id);
            fs::rename(&folder, &to).map_err(|e| Error::io("moving a run of an older studio to", &to, e))?;
        }
        Ok(())
    }
}

/// The base of a run, as its recipe names it.
pub fn base_of(run: &Run) -> &str {
    run.details["model"].as_str().unwrap_or_default()
}

/// A run as studios before the queue kept it, in a file of its own.
#[derive(Deserialize)]
struct Older {
    id: u64,
    run: String,
    model: String,
    #[serde(default)]
    steps: Vec<Vec<String>>,
    output: String,
    state: String,
    created: u64,
    started: Option<u64>,
    ended: Option<u64>,
    #[serde(default)]
    estimated_bytes: Option<u64>,
    #[serde(default)]
    then_talk: bool,
}

impl Older {
    /// The one in a folder; `None` where there is none, or it was no run.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("job.json");
        if !path.is_file() {
            return Ok(None);
        }
        let damaged = |e: serde_json::Error| {
            Error::new(Kind::Data, format!("the job is damaged: {e}")).at_path(&path).hint("remove its folder")
        };
        let text = input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?;
        let job: Value = serde_json::from_str(&text).map_err(damaged)?;
        if job["task"] != "train" {
            return Ok(None);
        }
        serde_json::from_value(job).map(Some).map_err(damaged)
    }

    fn taken(self) -> Run {
        let device = self.steps.iter().flatten().find_map(|word| word.strip_prefix("--device="));
        let status = match self.state.as_str() {
            "waiting" => Status::Queued,
            "running" => Status::Running,
            "done" => Status::Succeeded,
            "failed" => Status::Failed,
            _ => Status::Paused,
        };
        Run {
            id: String::new(),
            owner: OWNER.to_owned(),
            status,
            model: self.run,
            is_dropped: false,
            created: self.created,
            started: self.started,
            finished: self.ended.filter(|_| status.is_over()),
            tokens: None,
            results: None,
            error: None,
            device: device.map(str::to_owned),
            details: json!({"model": self.model, "estimated_bytes": self.estimated_bytes, "then_talk": self.then_talk}),
            output: Some(self.output),
            process: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_older_studios_are_taken_over_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let older = |id: u64, task: &str, state: &str| {
            let job = dir.path().join("jobs").join(id.to_string());
            fs::create_dir(&job).unwrap();
            let output = folder.run(&format!("faq-{id}"));
            let steps = json!([["train", "s/jobs/1/recipe.yaml", "--device=cuda:0", "--resume"]]);
            let text = json!({
                "id": id, "task": task, "run": format!("faq-{id}"), "model": "m", "steps": steps, "at": 0, "output": output,
                "state": state, "code": null, "process": {"pid": 1, "born": 2}, "created": 10 + id, "started": 20, "ended": 30,
                "estimated_bytes": 40, "then_talk": true, "stopping": false,
            });
            fs::write(job.join("job.json"), text.to_string()).unwrap();
            fs::write(job.join("recipe.yaml"), format!("recipe {id}")).unwrap();
            fs::write(job.join("log.txt"), "words").unwrap();
            fs::create_dir(&output).unwrap();
            fs::write(output.join("summary.json"), "{}").unwrap();
        };
        let states = [(2, "done"), (10, "stopped"), (11, "failed"), (12, "waiting"), (13, "running")];
        states.iter().for_each(|(id, state)| older(*id, "train", state));
        older(3, "merge", "done");
        for _ in 0..2 {
            let runs = Runs::open(&folder).unwrap();
            let shown = runs.shown().unwrap();
            let seen: Vec<(&Value, &Value)> = shown.iter().map(|run| (&run["run"], &run["state"])).collect();
            let names = states.map(|(id, state)| (json!(format!("faq-{id}")), json!(state)));
            assert_eq!(seen, names.iter().map(|(name, state)| (name, state)).collect::<Vec<_>>());
            let run = runs.named("faq-2").unwrap().unwrap();
            assert_eq!((run.created, run.started, run.finished), (12, Some(20), Some(30)));
            assert_eq!((base_of(&run), run.device.as_deref()), ("m", Some("cuda:0")));
            assert_eq!(fs::read_to_string(runs.queue.folder(&run.id).join("recipe.yaml")).unwrap(), "recipe 2");
            assert_eq!(fs::read_to_string(runs.queue.folder(&run.id).join("log.txt")).unwrap(), "words");
            assert!(folder.run("faq-2").join("summary.json").exists(), "what it left stays where it was");
            assert_eq!(paths::entries(&dir.path().join("jobs")), ["3"], "no run");
        }
    }

    #[test]
    fn a_run_has_one_name_and_is_gone_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let runs = Runs::open(&folder).unwrap();
        let output = folder.run("faq").display().to_string();
        let add = || runs.add("faq", "task: sft", &output, None, json!({"model": "m", "estimated_bytes": 5}));
        let id = add().unwrap();
        assert!(add().is_err(), "the name is taken");
        let shown = runs.shown().unwrap().remove(0);
        assert_eq!(
            (&shown["state"], &shown["model"], &shown["estimated_bytes"]),
            (&json!("waiting"), &json!("m"), &json!(5))
        );
        let command = format!("gemma-tune train {}/recipe.yaml", runs.queue.folder(&id).display());
        assert_eq!(shown["commands"], json!([command]));
        fs::create_dir(&output).unwrap();
        let done = ["resume", "stop", "stop", "resume"].map(|what| runs.act(&id, what).unwrap());
        assert_eq!(done, [false, true, false, true]);
        assert!(runs.act(&id, "remove").unwrap() && !runs.act(&id, "remove").unwrap());
        assert!(!Path::new(&output).exists() && runs.named("faq").unwrap().is_none() && add().is_ok());
    }

    #[test]
    fn a_copy_of_a_studio_trains_and_removes_no_run_of_the_other() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(dir.path()).unwrap();
        let runs = Runs::open(&folder).unwrap();
        let output = folder.run("faq").display().to_string();
        runs.add("faq", "task: sft", &output, None, json!({"model": "m", "estimated_bytes": 5})).unwrap();
        drop(runs);
        let copy = Folder::open(other.path()).unwrap();
        let from = dir.path().join("queue");
        fs::create_dir_all(other.path().join("queue")).unwrap();
        for name in paths::entries(&from).iter().filter(|name| from.join(name).is_file()) {
            fs::copy(from.join(name), other.path().join("queue").join(name)).unwrap();
        }
        let error = Runs::open(&copy).map(drop).unwrap_err();
        assert!(error.what().starts_with("the run `faq` of this studio lies in"), "{error}");
        Runs::open(&folder).unwrap();
    }
}
