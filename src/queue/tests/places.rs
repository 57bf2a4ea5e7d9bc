//! Folders that have another place than when they were used last.

use super::*;
use crate::recipe;
use crate::testkit::copy;

/// A recipe as orders have it, of rows in its run's folder and of others that are outside.
fn written(folder: &Path) -> Result<String> {
    let path = |name: &str| paths::named(&folder.join(name));
    let value = json!({
        "model": {"base": "/models/m"},
        "data": {"train": [{"path": path("train.jsonl"), "format": "messages"}], "eval": [{"path": "/data/valid.jsonl"}]},
        "output": {"dir": path(RUN), "save_total_limit": 3},
    });
    Ok(serde_json::to_string_pretty(&value).unwrap() + "\n")
}

fn ordered(queue: &Queue, recipe: &dyn Fn(&Path) -> Result<String>) -> Run {
    let model = |id: &str| format!("ft:{id}");
    let details = json!({});
    let order = Order { owner: "one", model: &model, files: &[], recipe, output: None, device: None, details };
    queue.order(&order).unwrap()
}

fn found(queue: &Queue, run: &Run) -> Run {
    queue.run("one", &run.id).unwrap().unwrap()
}

/// A run that has been in its `output.dir`, and that this very process seems to train.
pub fn begun(queue: &Queue) -> Run {
    let run = ordered(queue, &written);
    let output = queue.output(&run);
    fs::create_dir(&output).unwrap();
    fs::write(output.join("recipe.yaml"), written(&queue.folder(&run.id)).unwrap()).unwrap();
    queue.change(&Run { process: Some(Process::of(std::process::id())), ..run.clone() }).unwrap();
    found(queue, &run)
}

/// Whether the recipes of a run name what is in this folder.
#[track_caller]
pub fn is_of(queue: &Queue, run: &Run) {
    let folder = queue.folder(&run.id);
    let expected = recipe::texts(&written(&folder).unwrap());
    assert_eq!(expected.len(), 6);
    for path in [folder.join("recipe.yaml"), folder.join(RUN).join("recipe.yaml")] {
        assert_eq!(recipe::texts(&fs::read_to_string(path).unwrap()), expected);
    }
}

/// Opens a folder that was elsewhere, and again.
#[track_caller]
fn moved_from(before: &Path, dir: &Path) -> Queue {
    let queue = Queue::open(dir, LIMITS).unwrap();
    let said = queue.said();
    assert!(said.len() == 1 && said[0].contains(&format!("were in `{}`", before.display())), "{said:?}");
    drop(queue);
    let queue = Queue::open(dir, LIMITS).unwrap();
    assert!(queue.said().is_empty(), "once: {:?}", queue.said());
    queue
}

#[test]
fn a_copy_of_a_folder_is_a_queue_of_its_own_and_one_that_was_moved_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let [own, copied, again, moved] = ["own", "co$pied", "again", "moved"].map(|name| dir.path().join(name));
    let queue = Queue::open(&own, LIMITS).unwrap();
    let runs = [(); 3].map(|()| begun(&queue));
    queue.pause("one", &runs[1].id).unwrap();
    queue.cancel("one", &runs[2].id).unwrap();
    let runs = runs.map(|run| found(&queue, &run));
    let is_untouched = |queue: &Queue| {
        assert!(queue.said().is_empty() && queue.stopped().unwrap().len() == 2);
        runs.iter().for_each(|run| is_of(queue, run));
        runs.iter().for_each(|run| assert_eq!(found(queue, run), *run));
    };
    let is_here = |queue: &Queue| {
        assert!(queue.stopped().unwrap().is_empty(), "there is nobody to be ended");
        runs.iter().for_each(|run| is_of(queue, run));
        runs.iter().for_each(|run| assert_eq!(found(queue, run), Run { process: None, ..run.clone() }));
    };
    copy(&own, &copied);
    is_here(&moved_from(&own, &copied));
    copy(&copied, &again);
    is_here(&moved_from(&copied, &again));
    is_untouched(&queue);
    drop(queue);
    is_untouched(&Queue::open(&own, LIMITS).unwrap());
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let queue = Queue::open(&link, LIMITS).unwrap();
        assert!(queue.said().is_empty() && runs.iter().all(|run| found(&queue, run) == *run), "it is the same folder");
    }
    fs::rename(&own, &moved).unwrap();
    is_here(&moved_from(&own, &moved));
}

#[test]
fn a_recipe_that_would_be_trained_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("a b");
    fs::create_dir(&inner).unwrap();
    let [own, first, second] = ["own", "first", "second"].map(|name| inner.join(name));
    let queue = Queue::open(&own, LIMITS).unwrap();
    // Over two lines, as nobody writes a path.
    let folded = |folder: &Path| {
        let path = folder.join(RUN).display().to_string();
        Ok(format!("output:\n  dir: >-\n    {}\n", path.replacen("a b", "a\n    b", 1)))
    };
    let run = ordered(&queue, &folded);
    copy(&own, &first);
    let error = Queue::open(&first, LIMITS).err().unwrap();
    assert!(error.exit_code() == 2 && error.what().contains(&run.model) && error.hint_text().is_some(), "{error}");
    assert!(error.to_string().contains(&first.join("runs").join(&run.id).display().to_string()), "{error}");
    // One that is trained no more is in nobody's way.
    queue.cancel("one", &run.id).unwrap();
    copy(&own, &second);
    assert!(Queue::open(&second, LIMITS).unwrap().said().is_empty());
}

/// What a copied folder has to train is trained in it, and the process of the other one goes on.
#[cfg(unix)]
#[test]
fn a_server_on_a_copy_trains_into_the_copy_and_ends_nothing_of_the_other() {
    use std::process::{Command, Stdio};

    // A program that stands in for training: it leaves an adapter in the `output.dir` of the recipe.
    const PROGRAM: &str = r#"run=$(sed -n 's/^output: {dir: "*\([^"}]*\)"*}.*$/\1/p' "$2")
mkdir -p "$run/adapter"; echo '{"tokens": 42}' > "$run/summary.json""#;
    let dir = tempfile::tempdir().unwrap();
    let [own, copied, program] = ["own", "copied", "program"].map(|name| dir.path().join(name));
    fs::write(&program, PROGRAM).unwrap();
    let queue = Queue::open(&own, LIMITS).unwrap();
    let recipe = |folder: &Path| Ok(format!("output: {{dir: {}}}\n", folder.join(RUN).display()));
    let run = ordered(&queue, &recipe);
    let mut other = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    assert!(queue.begin(&run.id, Some(Process::of(other.id())), "").unwrap());
    copy(&own, &copied);

    let copy = Arc::new(Queue::open(&copied, LIMITS).unwrap());
    let options = RunnerOptions {
        command: vec!["/bin/sh".into(), program.into()],
        threads: None,
        device: None,
        grace: Duration::from_secs(60),
    };
    let runner = Runner::start(copy.clone(), options, Arc::new(Seen::default())).unwrap();
    let done = (0..6000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Some(found(&copy, &run)).filter(|run| run.status.is_over())
    });
    runner.stop();
    let is_alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let done = done.expect("a run that ends");
    assert_eq!((done.status, done.tokens), (Status::Succeeded, Some(42)), "{done:?}");
    assert!(copy.adapter(&done).is_dir() && is_alive);
    assert!(!queue.output(&run).exists() && found(&queue, &run).status == Status::Running);
}
