//! The runs of a studio: those of a queue in its folder, each with the name that a person gave it.

use super::folder::{Folder, OWNER};
use super::older;
use super::placing;
use super::verbs::line;
use crate::error::Result;
use crate::process::Process;
use crate::queue::{Limits, Order, Page, Queue, Run, Status};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// A person knows how many he wants.
const LIMITS: Limits = Limits { files: u64::MAX, bytes: u64::MAX, waiting: u64::MAX };

/// All runs of a studio.
pub struct Runs {
    /// Where they wait.
    pub queue: Arc<Queue>,
    /// What became of them when the folder was opened, for whoever opened it.
    pub said: Vec<String>,
}

impl Runs {
    /// Those that a folder knows of, those of older studios among them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(folder: &Folder) -> Result<Self> {
        let queue = Queue::open(&folder.dir().join("queue"), LIMITS)?;
        let mut runs = Runs { said: queue.said().to_vec(), queue: Arc::new(queue) };
        runs.said.extend(older::take_over(&folder.dir().join("jobs"), &runs.queue)?);
        runs.settle(folder)?;
        Ok(runs)
    }

    /// Sees to it that all runs lie in this folder and name what is in it, wherever it was when they were begun.
    fn settle(&mut self, folder: &Folder) -> Result<()> {
        let mut left = None;
        for run in self.all()? {
            let output = folder.run(&run.model).display().to_string();
            let before = run.output.as_deref().and_then(placing::root);
            let base = placing::base(base_of(&run), before, folder);
            let is_settled = run.output.as_ref() == Some(&output);
            if is_settled && base.is_none() {
                continue;
            }
            let is_here = is_settled || before.is_some_and(|before| placing::is_here(before, folder));
            left = left.or(before.filter(|_| !is_here).map(|before| before.display().to_string()));
            // One that lies here already, or is not trained any more, needs not say where it lies.
            let is_needed = !is_settled && run.status != Status::Succeeded;
            let placed = |text: &str| placing::text(text, &run.model, folder);
            self.queue.place(&run, &folder.run(&run.model), is_needed, &placed)?;
            let mut settled = Run { output: Some(output), ..run };
            if let Some(base) = base {
                settled.details["model"] = base.into();
            }
            // One that trains elsewhere is somebody else's; one that trains here is found by its lock.
            settled.process = settled.process.filter(|_| is_here);
            self.queue.change(&settled)?;
        }
        self.said.extend(left.map(|left| {
            format!("This studio was in `{left}`; its runs are those of `{}` from now on", folder.dir().display())
        }));
        Ok(())
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

    /// All of them, the oldest first.
    ///
    /// # Errors
    /// Those of the queue.
    pub fn all(&self) -> Result<Vec<Run>> {
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
            // Of studios that did not say it there is none.
            "learns": run.details["learns"],
            "has_adapter": output.join("adapter").join("adapter_config.json").is_file(),
            "commands": [line(&self.queue.words(run))],
        })
    }
}

/// The base of a run, as its recipe names it.
pub fn base_of(run: &Run) -> &str {
    run.details["model"].as_str().unwrap_or_default()
}

/// Whether its model judges answers, and writes none.
pub fn judges(run: &Run) -> bool {
    run.details["learns"] == "reward"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;
    use crate::paths::named;
    use crate::testkit::copy;
    use std::fs;

    /// A job of an older studio, that has been in its folder, and its log.
    fn older(dir: &Path, id: u64, task: &str, state: &str, run: &str, output: &Path) {
        let job = dir.join("jobs").join(id.to_string());
        fs::create_dir(&job).unwrap();
        let steps = json!([["train", "s/jobs/1/recipe.yaml", "--device=cuda:0", "--resume"]]);
        let started = if state == "waiting" { Value::Null } else { json!(20) };
        let text = json!({
            "id": id, "task": task, "run": run, "model": "m", "steps": steps, "at": 0, "output": output,
            "state": state, "code": null, "process": {"pid": 1, "born": 2}, "created": 10 + id, "started": started, "ended": 30,
            "estimated_bytes": 40, "then_talk": true, "stopping": false,
        });
        fs::write(job.join("job.json"), text.to_string()).unwrap();
        fs::write(job.join("recipe.yaml"), format!("# recipe {id}\noutput: {{dir: {}}}\n", output.display())).unwrap();
        fs::write(job.join("log.txt"), "words").unwrap();
    }

    #[test]
    fn runs_of_older_studios_are_taken_over_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let states = [(2, "done"), (10, "stopped"), (11, "failed"), (12, "waiting"), (13, "running")];
        for (id, state) in states {
            let (name, output) = (format!("faq-{id}"), folder.run(&format!("faq-{id}")));
            older(dir.path(), id, "train", state, &name, &output);
            fs::create_dir(&output).unwrap();
            fs::write(output.join("summary.json"), "{}").unwrap();
        }
        older(dir.path(), 3, "merge", "done", "faq-2", &folder.run("faq-2"));
        for _ in 0..2 {
            let runs = Runs::open(&folder).unwrap();
            assert_eq!(runs.said, Vec::<String>::new());
            let shown = runs.shown().unwrap();
            let seen: Vec<(&Value, &Value)> = shown.iter().map(|run| (&run["run"], &run["state"])).collect();
            let names = states.map(|(id, state)| (json!(format!("faq-{id}")), json!(state)));
            assert_eq!(seen, names.iter().map(|(name, state)| (name, state)).collect::<Vec<_>>());
            let run = runs.named("faq-2").unwrap().unwrap();
            assert_eq!((run.created, run.started, run.finished), (12, Some(20), Some(30)));
            assert_eq!((base_of(&run), run.device.as_deref()), ("m", Some("cuda:0")));
            let kept = runs.queue.folder(&run.id);
            assert!(fs::read_to_string(kept.join("recipe.yaml")).unwrap().starts_with("# recipe 2\n"));
            assert_eq!(fs::read_to_string(kept.join("log.txt")).unwrap(), "words");
            assert!(folder.run("faq-2").join("summary.json").exists(), "what it left stays where it was");
            assert_eq!(paths::entries(&dir.path().join("jobs")), ["3"], "no run");
        }
    }

    #[test]
    fn of_older_runs_of_one_name_one_keeps_it_and_the_others_have_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let output = folder.run("faq");
        for (id, state, name) in [
            (1, "failed", "faq"),
            (2, "done", "faq"),
            (3, "waiting", "faq"),
            (4, "stopped", "faq-2"),
            (5, "waiting", "x"),
        ] {
            older(dir.path(), id, "train", state, name, &folder.run(name));
        }
        fs::create_dir(&output).unwrap();
        let runs = Runs::open(&folder).unwrap();
        let names = |runs: &Runs| {
            let of = |run: Run| (run.model.clone(), run.created - 10, runs.queue.output(&run));
            runs.all().unwrap().into_iter().map(of).collect::<Vec<_>>()
        };
        let expected = [("faq-3", 1), ("faq", 2), ("faq-4", 3), ("faq-2", 4), ("x", 5)];
        let expected = expected.map(|(name, id)| (name.to_owned(), id, folder.run(name)));
        assert_eq!(names(&runs), expected);
        assert!(
            runs.said.len() == 2 && runs.said[0].contains("`faq-3`") && runs.said[1].contains("job 3"),
            "{:?}",
            runs.said
        );
        let waits = runs.named("faq-4").unwrap().unwrap();
        let recipe = fs::read_to_string(runs.queue.folder(&waits.id).join("recipe.yaml")).unwrap();
        assert!(recipe.contains(&named(&folder.run("faq-4"))), "{recipe}");
        assert!(runs.act(&waits.id, "remove").unwrap() && output.exists(), "the folder is not its own");
        drop(runs);
        assert!(Runs::open(&folder).unwrap().said.is_empty());
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

    /// A studio with a run that this very process seems to train, whose paths are written as `root` has them.
    fn begun(folder: &Folder, root: &Path) -> Runs {
        let runs = Runs::open(folder).unwrap();
        let (data, output) = (root.join("data/1-a.csv"), root.join("runs/faq"));
        let recipe = format!(
            "model: {{base: m}}\ndata: {{train: {}}}  # rows\noutput: {{dir: {}}}\n",
            data.display(),
            output.display()
        );
        let output = output.display().to_string();
        let id = runs.add("faq", &recipe, &output, None, json!({"model": "m"})).unwrap();
        let process = Some(Process::of(std::process::id()));
        let run = runs.get(&id).unwrap().unwrap();
        runs.queue.change(&Run { process, ..run }).unwrap();
        fs::create_dir_all(folder.run("faq")).unwrap();
        fs::write(folder.run("faq").join("recipe.yaml"), recipe).unwrap();
        runs
    }

    #[test]
    fn a_copy_of_a_studio_trains_removes_and_ends_nothing_of_the_other() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(dir.path()).unwrap();
        let is_of = |runs: &Runs, folder: &Folder, is_trained: bool| {
            let run = runs.named("faq").unwrap().unwrap();
            assert_eq!(runs.queue.output(&run), folder.run("faq"));
            assert_eq!(run.process.is_some(), is_trained);
            for path in [runs.queue.folder(&run.id), folder.run("faq")] {
                let text = fs::read_to_string(path.join("recipe.yaml")).unwrap();
                let names = |path: &Path| text.contains(&named(path));
                assert!(
                    names(&folder.run("faq")) && names(&folder.data("1-a.csv")) && text.contains("  # rows"),
                    "{text}"
                );
            }
            run
        };
        let runs = begun(&folder, folder.dir());
        copy(dir.path(), &other.path().join("copy"));
        let copy = Folder::open(&other.path().join("copy")).unwrap();
        let copied = Runs::open(&copy).unwrap();
        assert!(
            copied.said[0].starts_with(&format!("This studio was in `{}`", folder.dir().display())),
            "{:?}",
            copied.said
        );
        let run = is_of(&copied, &copy, false);
        assert!(copied.act(&run.id, "remove").unwrap() && !copy.run("faq").exists());
        is_of(&runs, &folder, true);
        drop((runs, copied, copy));
        let runs = Runs::open(&folder).unwrap();
        assert!(runs.said.is_empty());
        is_of(&runs, &folder, true);
        drop((runs, folder));

        // The whole folder has another place.
        let moved = other.path().join("moved");
        fs::rename(dir.path(), &moved).unwrap();
        let folder = Folder::open(&moved).unwrap();
        is_of(&Runs::open(&folder).unwrap(), &folder, false);
        assert!(Runs::open(&folder).unwrap().said.is_empty(), "once");
        drop(folder);
        fs::rename(&moved, dir.path()).unwrap(); // for who removes it
    }

    #[test]
    fn what_was_named_from_a_working_directory_is_known_from_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("work/s")).unwrap();
        let model = folder.dir().parent().unwrap().join("m");
        fs::create_dir(&model).unwrap();
        drop(begun(&folder, Path::new("s")));
        let runs = Runs::open(&folder).unwrap();
        let run = runs.named("faq").unwrap().unwrap();
        assert_eq!((base_of(&run), runs.queue.output(&run)), (named(&model).as_str(), folder.run("faq")));
        let recipe = fs::read_to_string(runs.queue.folder(&run.id).join("recipe.yaml")).unwrap();
        assert!(recipe.contains(&named(&model)) && recipe.contains(&named(&folder.data("1-a.csv"))), "{recipe}");
    }

    #[test]
    fn a_recipe_that_would_be_trained_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let runs = Runs::open(&folder).unwrap();
        let id = runs
            .add("faq", "output:\n  dir: >-\n    /x\n    y/runs/faq\n", "/x y/runs/faq", None, json!({"model": "m"}))
            .unwrap();
        drop(runs);
        let error = Runs::open(&folder).map(drop).unwrap_err();
        assert!(error.what().contains("the run `faq`") && error.to_string().contains(&id), "{error}");
    }
}
