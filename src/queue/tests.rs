//! The queue of a folder, with programs that stand in for training, and its tables in every database that there is.

mod places;
#[cfg(feature = "postgres")]
mod postgres;
mod tables;

use self::tables::Tables;
use super::*;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

const LIMITS: Limits = Limits { files: 3, bytes: 100, waiting: 3 };

/// These tests, with their tables in a file, and in PostgreSQL where there is one to be tested with.
macro_rules! on_all_databases {
    ($($test:path as $name:ident),* $(,)?) => {
        mod in_a_file {
            use super::*;
            $(#[test]
            fn $name() {
                $test(&Tables::in_a_file());
            })*
        }

        #[cfg(feature = "postgres")]
        mod in_postgresql {
            use super::*;
            $(#[test]
            fn $name() {
                tables::in_postgresql(stringify!($name), |tables| $test(&tables.tables));
            })*
        }
    };
}

on_all_databases! {
    files_are_their_owners_in_pages_and_within_limits as files_are_their_owners,
    a_folder_has_one_queue_and_what_killed_writers_left_is_gone as a_folder_has_one_queue,
    a_run_with_a_folder_of_its_own_is_taken_over_goes_on_and_is_forgotten_with_all_that_it_left as a_run_is_taken_over,
    runs_are_their_owners_and_are_stopped_and_resumed as runs_are_their_owners,
}

fn all() -> Page<'static> {
    Page { after: None, most: 100, oldest_first: false }
}

fn blank(queue: &Queue, text: &str) -> tempfile::NamedTempFile {
    let mut file = queue.blank().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn leave(queue: &Queue, owner: &str, text: &str) -> Result<Stored> {
    let rows = Some((blank(queue, "rows"), 1));
    queue.leave(owner, Left { name: "../x.jsonl".into(), kind: "fine-tune".into(), bytes: blank(queue, text), rows })
}

/// A run of the recipe, for `one`.
fn order(queue: &Queue, recipe: &str) -> Run {
    let recipe = |_: &Path| Ok(recipe.to_owned());
    let model = |id: &str| format!("ft:{}", &id[..8]);
    let order = Order {
        owner: "one",
        model: &model,
        files: &[],
        recipe: &recipe,
        output: None,
        device: None,
        details: json!({"seed": 7}),
    };
    queue.order(&order).unwrap()
}

fn ids<T>(paged: Option<Paged<T>>, id: impl Fn(T) -> String) -> (Vec<String>, bool) {
    let Paged { items, has_more } = paged.unwrap();
    (items.into_iter().map(id).collect(), has_more)
}

fn files_are_their_owners_in_pages_and_within_limits(tables: &Tables) {
    let dir = tempfile::tempdir().unwrap();
    let queue = tables.open(dir.path()).unwrap();
    let mine: Vec<Stored> = (0..3).map(|_| leave(&queue, "one", "bytes").unwrap()).collect();
    let theirs = leave(&queue, "two", "bytes").unwrap();
    assert!(leave(&queue, "one", "bytes").unwrap_err().what().contains("3 files of 100 bytes"));
    assert!(leave(&queue, "two", &"x".repeat(96)).is_err() && leave(&queue, "two", &"x".repeat(95)).is_ok());

    let list =
        |owner: &str, kinds: &[&str], page: Page<'_>| ids(queue.files(owner, kinds, page).unwrap(), |file| file.id);
    let [first, second, third] = [0, 1, 2].map(|at| mine[at].id.clone());
    assert_eq!(list("one", &[], all()), (vec![third.clone(), second.clone(), first.clone()], false));
    assert_eq!(list("one", &["fine-tune"], Page { most: 2, ..all() }), (vec![third.clone(), second.clone()], true));
    let rest = Page { after: Some(&second), most: 2, oldest_first: false };
    assert_eq!(list("one", &[], rest), (vec![first.clone()], false));
    assert_eq!(list("one", &[], Page { oldest_first: true, ..rest }), (vec![third.clone()], false));
    assert_eq!(list("one", &["other"], all()).0, Vec::<String>::new());
    assert_eq!(queue.files("one", &[], Page { after: Some(&theirs.id), ..all() }).unwrap(), None);

    assert_eq!(queue.file("two", &first).unwrap(), None);
    assert!(!queue.delete_file("two", &first).unwrap() && queue.bytes_of(&first).exists());
    assert!(queue.delete_file("one", &first).unwrap() && !queue.bytes_of(&first).exists());
    assert_eq!(queue.file("one", &second).unwrap().unwrap(), mine[1]);
    assert_eq!(fs::read_to_string(queue.bytes_of(&second)).unwrap(), "bytes");
    assert!(
        queue.bytes_of(&second).starts_with(dir.path())
            || queue.bytes_of(&second).starts_with(dir.path().canonicalize().unwrap())
    );
}

fn a_folder_has_one_queue_and_what_killed_writers_left_is_gone(tables: &Tables) {
    let dir = tempfile::tempdir().unwrap();
    let queue = tables.open(dir.path()).unwrap();
    let error = tables.open(dir.path()).err().unwrap();
    assert!(error.what().contains("another process") && error.exit_code() == 2);
    let (file, run) = (leave(&queue, "one", "bytes").unwrap(), order(&queue, ""));
    fs::write(dir.path().join("files/.tmp-x"), "").unwrap();
    let half = dir.path().join("runs").join(new_id());
    fs::create_dir(&half).unwrap();
    fs::write(dir.path().join("runs/notes.txt"), "somebody's own").unwrap();
    drop(queue);
    let queue = tables.open(dir.path()).unwrap();
    assert!(!dir.path().join("files/.tmp-x").exists() && !half.exists() && dir.path().join("runs/notes.txt").exists());
    assert!(queue.bytes_of(&file.id).exists() && queue.rows_of(&file.id).exists());
    assert_eq!(queue.run("one", &run.id).unwrap().unwrap(), run);
    assert_eq!(run.details, json!({"seed": 7}));
}

fn a_run_with_a_folder_of_its_own_is_taken_over_goes_on_and_is_forgotten_with_all_that_it_left(tables: &Tables) {
    let dir = tempfile::tempdir().unwrap();
    let queue = tables.open(&dir.path().join("queue")).unwrap();
    let output = dir.path().join("own");
    let older = Run {
        id: String::new(),
        owner: "one".into(),
        status: Status::Failed,
        model: "faq".into(),
        is_dropped: false,
        created: 5,
        started: Some(6),
        finished: Some(7),
        tokens: None,
        results: None,
        error: None,
        details: json!({"model": "m"}),
        output: output.to_str().map(str::to_owned),
        device: Some("cuda:1".into()),
        process: None,
    };
    let run = queue.take_over(older.clone()).unwrap();
    fs::create_dir(queue.folder(&run.id)).unwrap();
    assert_eq!(queue.run_of_model("one", "faq").unwrap().unwrap(), Run { id: run.id.clone(), ..older });
    assert!(queue.take_over(run.clone()).is_err(), "its name is taken");
    let changed =
        Run { details: json!({"model": "/m"}), process: Some(Process { pid: 1, born: Some(2) }), ..run.clone() };
    queue.change(&changed).unwrap();
    assert_eq!(queue.run("one", &run.id).unwrap().unwrap(), changed);
    queue.change(&run).unwrap();
    assert_eq!(queue.run("one", &run.id).unwrap().unwrap(), run);
    assert_eq!(queue.output(&run), output);
    let recipe = queue.folder(&run.id).join("recipe.yaml").display().to_string();
    assert_eq!(queue.words(&run), ["train", &recipe, "--device=cuda:1"]);
    fs::create_dir(&output).unwrap();
    fs::write(output.join("notes.txt"), "somebody's own").unwrap();
    assert_eq!(queue.words(&run).len(), 3, "no run has been there");
    fs::write(output.join(".lock"), "").unwrap();
    assert_eq!(queue.words(&run)[3], "--resume");
    assert_eq!(queue.words(&Run { status: Status::Succeeded, ..run.clone() }).len(), 3);

    assert!(queue.resume("one", &run.id).unwrap().is_some_and(|(_, turned)| !turned));
    assert!(queue.retry("one", &run.id).unwrap().is_some_and(|(run, turned)| turned && run.finished.is_none()));
    assert!(output.join("notes.txt").exists(), "nothing is removed");
    let process = Process::of(std::process::id());
    assert!(queue.begin(&run.id, Some(process), "").unwrap());
    assert!(!queue.forget("one", &run.id).unwrap(), "it runs");
    queue.pause("one", &run.id).unwrap();
    let paused = queue.run("one", &run.id).unwrap().unwrap();
    if cfg!(target_os = "linux") {
        assert!(queue.is_busy(&paused) && !queue.forget("one", &run.id).unwrap(), "its process saves what it has");
    }
    let ended = Process { born: process.born.map(|born| born + 1), ..process };
    queue.retry("one", &run.id).unwrap();
    assert!(queue.begin(&run.id, Some(ended), "").unwrap());
    queue.pause("one", &run.id).unwrap();
    assert_eq!(queue.stopped().unwrap().len(), 1);
    assert!(!queue.forget("two", &run.id).unwrap() && queue.forget("one", &run.id).unwrap());
    assert!(!output.exists() && !queue.folder(&run.id).exists());
    assert!(
        queue.events(&run.id, None, all()).unwrap().items.is_empty() && queue.run("one", &run.id).unwrap().is_none()
    );
}

#[test]
fn what_is_somebody_elses_folder_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("files/mine")).unwrap();
    let error = Queue::open(dir.path(), LIMITS).err().unwrap();
    assert!(error.exit_code() == 2 && error.what().contains("holds something else"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was written");

    // Of a queue whose tables were cut to nothing, too.
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    let file = leave(&queue, "one", "bytes").unwrap();
    let (bytes, tables) = (queue.bytes_of(&file.id), dir.path().join(DATABASE));
    drop(queue);
    let whole = fs::read(&tables).unwrap();
    for length in [0, whole.len() / 2] {
        fs::write(&tables, &whole[..length]).unwrap();
        let error = Queue::open(dir.path(), LIMITS).err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains(DATABASE), "{error}");
        assert!(error.hint_text().is_some() && bytes.exists(), "{error}");
    }
    fs::write(&tables, whole).unwrap();
    assert!(Queue::open(dir.path(), LIMITS).unwrap().file("one", &file.id).unwrap().is_some());
    assert!(
        is_ours(&new_id()) && is_ours(&format!("{}.rows", new_id())) && !is_ours("mine") && !is_ours("readme.rows")
    );
}

fn runs_are_their_owners_and_are_stopped_and_resumed(tables: &Tables) {
    let dir = tempfile::tempdir().unwrap();
    let queue = tables.open(dir.path()).unwrap();
    let runs: Vec<Run> = (0..3).map(|_| order(&queue, "")).collect();
    let too_many = Order {
        owner: "one",
        model: &|id| id.into(),
        files: &[],
        recipe: &|_| Ok(String::new()),
        output: None,
        device: None,
        details: json!({}),
    };
    assert!(queue.order(&too_many).unwrap_err().what().contains("3 runs wait"));
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 3, "nothing is left of it");
    let list = |owner: &str, page| ids(queue.runs(owner, page).unwrap(), |run: Run| run.id);
    assert_eq!(list("one", Page { most: 2, ..all() }), (vec![runs[2].id.clone(), runs[1].id.clone()], true));
    assert_eq!(list("two", all()), (Vec::new(), false));
    assert!(queue.runs("two", Page { after: Some(&runs[0].id), ..all() }).unwrap().is_none());
    assert!(queue.cancel("two", &runs[0].id).unwrap().is_none() && queue.run("two", &runs[0].id).unwrap().is_none());

    let next = || queue.next().unwrap().map(|run| run.id);
    assert_eq!(next().as_ref(), Some(&runs[0].id));
    assert!(queue.begin(&runs[1].id, None, "").unwrap());
    assert_eq!(next().as_ref(), Some(&runs[1].id), "what ran goes on first");
    let stands =
        |turned: Result<Option<(Run, bool)>>| turned.unwrap().map(|(run, turned)| (run.status, turned)).unwrap();
    assert_eq!(stands(queue.pause("one", &runs[1].id)), (Status::Paused, true));
    assert!(!queue.begin(&runs[1].id, None, "").unwrap());
    assert_eq!(stands(queue.cancel("one", &runs[0].id)), (Status::Cancelled, true));
    assert_eq!(stands(queue.cancel("one", &runs[0].id)), (Status::Cancelled, false));
    assert_eq!(stands(queue.resume("one", &runs[0].id)), (Status::Cancelled, false));
    assert!(queue.run("one", &runs[0].id).unwrap().unwrap().finished.is_some());
    assert_eq!(stands(queue.resume("one", &runs[1].id)), (Status::Queued, true));
    assert_eq!(next().as_ref(), Some(&runs[1].id));
}

/// What comes of runs in tests, and what is said.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>, Mutex<Vec<String>>);

impl Hooks for Seen {
    fn serve(&self, run: &Run, adapter: &Path) -> Result<()> {
        self.0.lock().unwrap().push(run.model.clone());
        match adapter.is_dir() {
            true => Ok(()),
            false => Err(Error::new(Kind::Adapter, "there is none")),
        }
    }

    fn forget(&self, model: &str) {
        self.0.lock().unwrap().push(format!("no {model}"));
    }

    fn note(&self, text: &str) {
        self.1.lock().unwrap().push(text.to_owned());
    }

    fn told(&self, text: &str) {
        self.1.lock().unwrap().push(text.to_owned());
    }
}

#[cfg(unix)]
mod running {
    use super::*;

    on_all_databases! {
        super::what_fails_says_why_in_its_own_words_and_the_next_one_runs as what_fails_says_why,
        super::a_run_is_stopped_goes_on_and_ends_with_its_model_and_a_table as a_run_is_stopped_and_goes_on,
        super::what_a_killed_program_left_running_is_ended_before_the_run_goes_on as what_was_left_running_is_ended,
    }

    /// A program that stands in for training: the recipe is what it does, in its run's folder.
    const PROGRAM: &str = "run=$(dirname \"$2\")/run; mkdir -p $run; . \"$2\"";
    /// Takes steps until it is told to end, and goes on behind them.
    pub const STEPS: &str = "
trap 'exit 3' TERM
n=$(cat $run/metrics.jsonl 2>/dev/null | wc -l)
while [ ! -e $run/enough ]; do
    n=$((n + 1)); echo \"{\\\"step\\\":$n,\\\"loss\\\":1.5}\" >> $run/metrics.jsonl; sleep 0.02
done
mkdir -p $run/adapter; echo '{\"tokens\": 42, \"steps\": 9, \"first_loss\": 2.5, \"last_loss\": 1.5}' > $run/summary.json";

    pub struct Bench {
        dir: tempfile::TempDir,
        pub queue: Arc<Queue>,
        pub seen: Arc<Seen>,
    }

    impl Bench {
        pub fn new(tables: &Tables) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("program"), PROGRAM).unwrap();
            let queue = Arc::new(tables.open(&dir.path().join("queue")).unwrap());
            Bench { dir, queue, seen: Arc::default() }
        }

        fn options(&self) -> RunnerOptions {
            let command = vec!["/bin/sh".into(), self.dir.path().join("program").into()];
            RunnerOptions { command, threads: Some(1), device: Some("cpu".into()), grace: Duration::from_secs(60) }
        }

        pub fn start(&self) -> Runner {
            Runner::start(self.queue.clone(), self.options(), self.seen.clone()).unwrap()
        }

        pub fn until(&self, id: &str, is_so: impl Fn(&Run) -> bool) -> Run {
            // A machine that has much else to do takes its time.
            for _ in 0..6000 {
                let run = self.queue.run("one", id).unwrap().unwrap();
                if is_so(&run) {
                    return run;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("{:?}", self.queue.run("one", id))
        }

        /// What whoever looks after the server was told of a run.
        fn told(&self, run: &Run) -> Vec<String> {
            let begins = format!("run {} (`{}`): ", run.id, run.model);
            let told = self.seen.1.lock().unwrap();
            told.iter().filter_map(|line| line.strip_prefix(&begins)).map(str::to_owned).collect()
        }

        pub fn messages(&self, id: &str) -> Vec<String> {
            let page = Page { oldest_first: true, ..all() };
            let events = self.queue.events(id, None, page).unwrap().items;
            events.into_iter().filter(|event| event.metrics.is_none()).map(|event| event.message).collect()
        }

        pub fn steps(&self, id: &str) -> Vec<u64> {
            let page = Page { most: 1000, oldest_first: true, after: None };
            let events = self.queue.events(id, None, page).unwrap().items;
            events.into_iter().filter_map(|event| event.metrics?.get("step")?.as_u64()).collect()
        }
    }

    pub fn what_fails_says_why_in_its_own_words_and_the_next_one_runs(tables: &Tables) {
        let bench = Bench::new(tables);
        let wrong = order(
            &bench.queue,
            "echo 'error: row 3 is odd\n  --> '$(dirname $run)'/train.jsonl, row 3\n  hint: mend it' >&2; exit 2",
        );
        let killed = order(&bench.queue, "kill -9 $$");
        let without = order(&bench.queue, "exit 0");
        let runner = bench.start();
        let failure = |run: &Run| bench.until(&run.id, |run| run.status == Status::Failed).error.unwrap();
        let found = failure(&wrong);
        assert_eq!((found.code.as_str(), found.message.as_str()), ("invalid_input", "row 3 is odd (mend it)"));
        assert_eq!(found.place.as_deref(), Some("train.jsonl, row 3"));
        assert_eq!(failure(&killed).code, "killed");
        assert_eq!(failure(&without).code, "not_loaded");
        runner.stop();
        assert_eq!(bench.told(&wrong), ["Training has begun.", "It failed: row 3 is odd (mend it)"]);
        assert_eq!(
            bench.told(&killed),
            ["Training has begun.", "It failed: the run was killed: memory may have been short"]
        );
    }

    pub fn a_run_is_stopped_goes_on_and_ends_with_its_model_and_a_table(tables: &Tables) {
        let bench = Bench::new(tables);
        let run = order(&bench.queue, STEPS);
        let runner = bench.start();
        bench.until(&run.id, |run| run.status == Status::Running && !bench.steps(&run.id).is_empty());
        bench.queue.pause("one", &run.id).unwrap();
        bench.queue.resume("one", &run.id).unwrap();
        let goes_on =
            |times| bench.messages(&run.id).iter().filter(|says| *says == "Training goes on.").count() >= times;
        bench.until(&run.id, |_| goes_on(1));
        let seen = bench.steps(&run.id).len();
        bench.until(&run.id, |run| bench.steps(&run.id).len() > seen + 1);
        // The program that serves ends, and another one goes on.
        runner.stop();
        assert_eq!(bench.queue.run("one", &run.id).unwrap().unwrap().status, Status::Running);
        let runner = bench.start();
        bench.until(&run.id, |_| goes_on(2));
        fs::write(bench.queue.folder(&run.id).join("run/enough"), "").unwrap();
        let done = bench.until(&run.id, |run| run.status.is_over());
        assert_eq!((done.status, done.tokens), (Status::Succeeded, Some(42)));
        let steps = bench.steps(&run.id);
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>(), "each of them once");
        let results = bench.queue.file("one", &done.results.unwrap()).unwrap().unwrap();
        let table = fs::read_to_string(bench.queue.bytes_of(&results.id)).unwrap();
        assert!(table.starts_with("step,train_loss,valid_loss,learning_rate\n1,1.5,,\n"), "{table}");
        assert_eq!(*bench.seen.0.lock().unwrap(), std::slice::from_ref(&run.model));

        let drop_model = |owner: &str| bench.queue.drop_model(owner, &run.model, &|run| run.details.clone()).unwrap();
        assert!(!drop_model("two"));
        assert_eq!(bench.queue.succeeded().unwrap().len(), 1);
        assert!(drop_model("one") && !drop_model("one"));
        assert!(bench.queue.succeeded().unwrap().is_empty() && !bench.queue.folder(&run.id).exists());
        runner.stop();
        let told = [
            "Training has begun.",
            "It is paused.",
            "Training goes on.",
            "What it has is saved: it goes on at the next start.",
            "Training goes on.",
            "The run is done, and its model is there. Steps: 9, loss 2.5000 -> 1.5000.",
        ];
        assert_eq!(bench.told(&run), told);
    }

    pub fn what_a_killed_program_left_running_is_ended_before_the_run_goes_on(tables: &Tables) {
        let bench = Bench::new(tables);
        let run = order(&bench.queue, STEPS);
        let folder = bench.queue.folder(&run.id);
        let words = bench.queue.words_on(&run, None);
        let mut orphan = process::start(&folder, &words, &bench.options()).unwrap();
        assert!(bench.queue.begin(&run.id, Some(Process::of(orphan.id())), "").unwrap());
        let reaper = std::thread::spawn(move || orphan.wait().unwrap().code());
        while !folder.join("run/metrics.jsonl").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let runner = bench.start();
        // It saved what it had when it was asked to end, which was before the other one began.
        assert_eq!(reaper.join().unwrap(), Some(3));
        bench.until(&run.id, |run| bench.messages(&run.id).contains(&"Training goes on.".to_owned()));
        bench.queue.cancel("one", &run.id).unwrap();
        runner.stop();
        assert_eq!(bench.queue.run("one", &run.id).unwrap().unwrap().status, Status::Cancelled);
        assert!(bench.seen.0.lock().unwrap().is_empty());

        // Of a run that was stopped, too, before anybody looked at it.
        let run = order(&bench.queue, STEPS);
        let folder = bench.queue.folder(&run.id);
        let words = bench.queue.words_on(&run, None);
        let mut orphan = process::start(&folder, &words, &bench.options()).unwrap();
        assert!(bench.queue.begin(&run.id, Some(Process::of(orphan.id())), "").unwrap());
        bench.queue.pause("one", &run.id).unwrap();
        while !folder.join("run/metrics.jsonl").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if cfg!(target_os = "linux") {
            let reaper = std::thread::spawn(move || orphan.wait().unwrap().code());
            let runner = bench.start();
            assert_eq!(reaper.join().unwrap(), Some(3));
            runner.stop();
        } else {
            orphan.kill().unwrap();
            orphan.wait().unwrap();
        }
    }
}
