//! What is PostgreSQL's alone: whose its tables are, and what happens when it is away.

use super::tables::in_postgresql;
use super::*;

#[track_caller]
fn refused(opened: Result<Queue>, what: &str) -> Error {
    let error = opened.err().unwrap();
    let is_so = error.exit_code() == 2 && error.what().contains(what) && error.hint_text().is_some();
    assert!(is_so && error.place().is_some(), "{error}");
    error
}

#[test]
fn a_folder_and_its_tables_know_each_other() {
    in_postgresql("a_folder_and_its_tables_know_each_other", |schema| {
        let dir = tempfile::tempdir().unwrap();
        let [own, other, copied, with_a_file] =
            ["own", "other", "copied", "with_a_file"].map(|name| dir.path().join(name));
        let queue = schema.tables.open(&own).unwrap();
        let file = leave(&queue, "one", "bytes").unwrap();

        // Another server, and that of a copy, where no lock of a file is in the way.
        refused(schema.tables.open(&own), "another process");
        fs::create_dir(&copied).unwrap();
        fs::copy(own.join(BOND), copied.join(BOND)).unwrap();
        refused(schema.tables.open(&copied), "another server trains what waits in this database");
        refused(schema.tables.open(&other), "of another folder of jobs");
        assert!(!other.join(BOND).exists(), "it has no tables");
        let run = places::begun(&queue);
        drop(queue);
        let is_named = refused(schema.tables.open(&copied), "is a copy of").what().contains(&own.display().to_string());
        assert!(is_named, "while the other is there");

        refused(Queue::open(&own, LIMITS), "in a database of PostgreSQL");
        drop(Queue::open(&with_a_file, LIMITS).unwrap());
        refused(schema.tables.open(&with_a_file), "in a file");
        fs::create_dir_all(other.join("files/mine")).unwrap();
        refused(schema.tables.open(&other), "holds something else");

        // Tables that are gone are not begun anew beside what they named.
        schema
            .other
            .batch_execute("ALTER TABLE gemma_tune_queue RENAME TO away; ALTER TABLE files RENAME TO gone")
            .unwrap();
        refused(schema.tables.open(&own), "this database holds something else");
        schema
            .other
            .batch_execute("ALTER TABLE gone RENAME TO files; ALTER TABLE away RENAME TO gemma_tune_queue")
            .unwrap();
        // The folder may be moved.
        let moved = dir.path().join("moved");
        fs::rename(&own, &moved).unwrap();
        let queue = schema.tables.open(&moved).unwrap();
        assert_eq!(queue.file("one", &file.id).unwrap().unwrap(), file);
        assert!(queue.bytes_of(&file.id).exists() && queue.said().len() == 1);
        places::is_of(&queue, &run);
        assert_eq!(queue.run("one", &run.id).unwrap(), Some(Run { process: None, ..run }));
        let known: String = schema.other.query_one("SELECT folder FROM gemma_tune_queue", &[]).unwrap().get(0);
        assert_eq!(Path::new(&known), moved);
    });
}

#[test]
fn tables_of_another_program_or_a_newer_one_are_refused_and_left_as_they_are() {
    in_postgresql("tables_of_another_program_or_a_newer_one_are_refused", |schema| {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        schema.other.batch_execute("CREATE TABLE runs (name TEXT); INSERT INTO runs VALUES ('theirs')").unwrap();
        refused(schema.tables.open(&own), "something else, as `runs`");
        let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace";
        assert_eq!(schema.other.query_one(tables, &[]).unwrap().get::<_, i64>(0), 1, "nothing was made");
        schema.other.batch_execute("DROP TABLE runs").unwrap();
        drop(schema.tables.open(&own).unwrap());
        schema.other.batch_execute("UPDATE gemma_tune_queue SET version = 99").unwrap();
        refused(schema.tables.open(&own), "of a newer version");
        schema.other.batch_execute("UPDATE gemma_tune_queue SET version = 3; DROP TABLE events").unwrap();
        refused(schema.tables.open(&own), "it has no `events`");
    });
}

/// What is asked until the database is there again.
fn again<T>(ask: impl Fn() -> Result<T>) -> T {
    for _ in 0..600 {
        match ask() {
            Ok(found) => return found,
            Err(error) => assert!(error.kind() == Kind::Unreachable && error.hint_text().is_some(), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it stayed away")
}

#[test]
fn a_session_that_broke_off_is_begun_anew_and_has_the_lock_again() {
    in_postgresql("a_session_that_broke_off_is_begun_anew", |schema| {
        let dir = tempfile::tempdir().unwrap();
        let [own, copied] = ["own", "copied"].map(|name| dir.path().join(name));
        let queue = schema.tables.open(&own).unwrap();
        let run = order(&queue, "");
        fs::create_dir(&copied).unwrap();
        fs::copy(own.join(BOND), copied.join(BOND)).unwrap();
        schema.break_off();
        assert_eq!(again(|| queue.run("one", &run.id)), Some(run.clone()));
        refused(schema.tables.open(&copied), "another server");

        // What was begun is whole, or is not there.
        let failed = queue.database().unwrap().together(|database| {
            database.change("UPDATE runs SET status = ?1 WHERE id = ?2", values!["paused", &run.id])?;
            schema.break_off();
            let mut change = || database.change("UPDATE runs SET model = ?1 WHERE id = ?2", values!["half", &run.id]);
            assert_eq!(change().unwrap_err().kind(), Kind::Unreachable);
            change() // in no other session
        });
        assert_eq!(failed.unwrap_err().kind(), Kind::Unreachable);
        assert_eq!(again(|| queue.run("one", &run.id)), Some(run.clone()));

        // Whoever has it meanwhile keeps it.
        let lock = "(1734700397::bigint << 32) | 'gemma_tune_queue'::regclass::oid::bigint";
        schema.break_off();
        let is_ours: bool =
            schema.other.query_one(&format!("SELECT pg_try_advisory_lock({lock})"), &[]).unwrap().get(0);
        assert!(is_ours);
        std::thread::sleep(Duration::from_millis(1100));
        let error = queue.run("one", &run.id).unwrap_err();
        assert!(error.kind() == Kind::Run && error.what().contains("another server"), "{error}");
        schema.other.batch_execute("SELECT pg_advisory_unlock_all()").unwrap();
        assert_eq!(again(|| queue.run("one", &run.id)), Some(run));
    });
}

#[test]
fn texts_that_postgresql_has_not_are_kept_as_what_is_shown_of_them() {
    in_postgresql("texts_that_postgresql_has_not_are_kept", |schema| {
        let dir = tempfile::tempdir().unwrap();
        let queue = schema.tables.open(dir.path()).unwrap();
        let run = order(&queue, "");
        assert!(queue.begin(&run.id, None, "half\0a word").unwrap());
        let said = queue.events(&run.id, None, all()).unwrap().items.remove(0);
        assert_eq!(said.message, "half\u{FFFD}a word");
        assert_eq!(queue.run("one\0", &run.id).unwrap(), None);
    });
}

#[cfg(unix)]
#[test]
fn training_goes_on_while_the_database_is_away_and_what_it_said_is_taken_down() {
    use super::running::{Bench, STEPS};

    in_postgresql("training_goes_on_while_the_database_is_away", |schema| {
        let bench = Bench::new(&schema.tables);
        let run = order(&bench.queue, STEPS);
        let runner = bench.start();
        let seen = |least: usize| {
            (0..6000).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                bench.queue.events(&run.id, None, all()).is_ok_and(|events| events.items.len() > least)
            })
        };
        assert!(seen(3));
        let begun = again(|| bench.queue.run("one", &run.id)).unwrap().process;
        for _ in 0..3 {
            // There is a session to break off.
            again(|| bench.queue.run("one", &run.id));
            schema.break_off();
            std::thread::sleep(Duration::from_millis(300));
        }
        let before = again(|| bench.queue.events(&run.id, None, Page::ALL)).items.len();
        assert!(seen(before.min(99)));
        fs::write(bench.queue.folder(&run.id).join("run/enough"), "").unwrap();
        let done = (0..6000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            bench.queue.run("one", &run.id).ok().flatten().filter(|run| run.status.is_over())
        });
        assert_eq!(done.unwrap().status, Status::Succeeded);
        assert!(begun.is_some_and(|process| !process.is_alive()));
        let steps = bench.steps(&run.id);
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>(), "each of them once");
        assert_eq!(
            bench.messages(&run.id).iter().filter(|said| said.starts_with("Training")).count(),
            1,
            "by one process"
        );
        let notes = bench.seen.1.lock().unwrap().clone();
        assert!(notes.iter().any(|note| note.starts_with("warning: ") && note.contains("postgres://")), "{notes:?}");
        assert!(notes.iter().any(|note| note == "What waits to be trained goes on."), "{notes:?}");
        runner.stop();
    });
}
