//! Nothing that is written destroys what was there: names that are more than files, folders that are in use, runs that
//! are ended in the middle.

use crate::bench::{Bench, Said, lines, rows, wait_until};
use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::{Child, Stdio};

const SCORE: &str = "score --model m --input rows.jsonl";

/// What is said of a command that is refused before it does anything.
#[track_caller]
fn refused(bench: &Bench, command: &str) -> String {
    let said = bench.run(command);
    assert_eq!(said.code, Some(2), "{command}: {}", said.stderr);
    assert_eq!(said.problem(), said.stderr.trim_end(), "{command} is refused before any work");
    said.problem().to_owned()
}

/// Runs a command while something reads the pipe `pipe`, and returns what came through it.
#[cfg(unix)]
fn through_pipe(bench: &Bench, command: &str) -> (Said, Vec<u8>) {
    let pipe = bench.path("pipe");
    if !pipe.exists() {
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    }
    let reader = pipe.clone();
    let reader = std::thread::spawn(move || fs::read(reader).expect("a pipe to read"));
    let said = bench.run(command);
    assert!(fs::symlink_metadata(&pipe).expect("the pipe is still there").file_type().is_fifo(), "{command}");
    (said, reader.join().expect("a reader"))
}

#[cfg(unix)]
#[test]
fn results_go_into_pipes_and_devices_not_in_their_place() {
    let bench = Bench::new().with_text();
    bench.write("rows.jsonl", lines(&rows(2)));
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    symlink("pipe", bench.path("to-pipe")).unwrap();
    symlink("/dev/null", bench.path("nothing")).unwrap();

    let generate = "generate --model t --input prompts.jsonl --max-tokens 3";
    let expected = bench.run(generate).ok();
    for name in ["pipe", "to-pipe"] {
        let (said, through) = through_pipe(&bench, &format!("{generate} --output {name}"));
        said.ok();
        assert_eq!(String::from_utf8(through).unwrap(), expected);
    }
    assert_eq!(bench.run(&format!("{generate} --output /dev/stdout")).ok(), expected);
    bench.run(&format!("{generate} --output nothing")).ok();

    let expected = bench.run(SCORE).ok();
    let (said, through) = through_pipe(&bench, &format!("{SCORE} --output pipe"));
    said.ok();
    assert_eq!(String::from_utf8(through).unwrap(), expected);
    bench.run(&format!("{SCORE} --output scores.jsonl --logits logits.safetensors")).ok();
    let (said, through) = through_pipe(&bench, &format!("{SCORE} --logits to-pipe --output nothing"));
    said.ok();
    assert!(through == bench.read("logits.safetensors"), "the logits differ");

    assert!(bench.path("to-pipe").is_symlink() && bench.path("nothing").is_symlink());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[cfg(unix)]
#[test]
fn links_stay_and_what_they_lead_to_is_replaced() {
    let bench = Bench::new();
    bench.write("far/scores.jsonl", "old");
    fs::set_permissions(bench.path("far/scores.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("far/scores.jsonl", bench.path("scores.jsonl")).unwrap();
    symlink("far/logits.safetensors", bench.path("logits.safetensors")).unwrap();
    bench.run(&format!("{SCORE} --output scores.jsonl --logits logits.safetensors")).ok();
    assert!(bench.path("scores.jsonl").is_symlink() && bench.path("logits.safetensors").is_symlink());
    assert_eq!(bench.files("far"), ["far/logits.safetensors", "far/scores.jsonl"]);
    assert_eq!(bench.text("far/scores.jsonl").lines().count(), 40);
    let mode = fs::metadata(bench.path("far/scores.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "what was private stays private");
}

#[test]
fn nothing_that_is_read_is_written() {
    let bench = Bench::new().with_text();
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    fs::hard_link(bench.path("rows.jsonl"), bench.path("same.jsonl")).unwrap();
    fs::hard_link(bench.path("m/config.json"), bench.path("config.json")).unwrap();
    #[cfg(unix)]
    symlink("rows.jsonl", bench.path("link.jsonl")).unwrap();
    #[cfg(not(unix))]
    fs::hard_link(bench.path("rows.jsonl"), bench.path("link.jsonl")).unwrap();
    let before = bench.files(".");
    let (input, weights) = (bench.read("rows.jsonl"), bench.read("m/model.safetensors"));

    for name in ["rows.jsonl", "./rows.jsonl", "same.jsonl", "link.jsonl", "m/../rows.jsonl"] {
        for option in ["output", "logits"] {
            let said = refused(&bench, &format!("{SCORE} --{option} {name}"));
            assert!(said.starts_with(&format!("error: `--{option}` is a file that is read: `rows.jsonl`")), "{said}");
        }
    }
    for name in ["m/model.safetensors", "config.json"] {
        let said = refused(&bench, &format!("{SCORE} --logits {name}"));
        assert!(said.starts_with("error: `--logits` is a file that is read: `m/"), "{said}");
    }
    let said = refused(&bench, "generate --model t --input prompts.jsonl --output prompts.jsonl");
    assert!(said.starts_with("error: `--output` is a file that is read"), "{said}");
    let said = refused(&bench, &format!("{SCORE} --output new --logits ./new"));
    assert!(said.starts_with("error: `--output` and `--logits` name the same file"), "{said}");

    assert_eq!(bench.files("."), before);
    assert!(bench.read("rows.jsonl") == input && bench.read("m/model.safetensors") == weights);
}

#[test]
fn a_name_that_cannot_be_written_is_refused_before_any_work() {
    let bench = Bench::new().with_text();
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    let before = bench.files(".");
    let commands = [
        ("--output", format!("{SCORE} --output")),
        ("--logits", format!("{SCORE} --logits")),
        ("--output", "generate --model t --input prompts.jsonl --output".to_owned()),
    ];
    for (option, command) in commands {
        for (name, what) in [
            ("m", "names a folder"),
            ("new/", "names a folder"),
            (".", "names a folder"),
            ("none/new", "names a file in `none`, which does not exist"),
            ("r.yaml/new", "cannot be written"),
        ] {
            let said = refused(&bench, &format!("{command} {name}"));
            let (start, end) = (format!("error: `{option}` {what}"), format!("error: `{option}` needs a folder"));
            assert!(said.starts_with(&start) || said.starts_with(&end), "{name}: {said}");
        }
    }
    assert_eq!(bench.files("."), before);
}

/// Starts a command; stderr goes into the file `said`.
fn start(bench: &Bench, args: &str) -> Child {
    let said = fs::File::create(bench.path("said")).expect("a file");
    bench.command(args).stdout(Stdio::null()).stderr(said).spawn().expect("the program starts")
}

fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// Prompts whose fields have what a parser would change.
fn prompts(bench: &Bench, count: usize) {
    let row = |i| format!("{{\"id\": 1234567890123456789012{i}, \"x\":1e400, \"prompt\": \"Say {i}\", \"y\": 1.10}}\n");
    bench.write("prompts.jsonl", (0..count).map(row).collect::<String>());
}

const ANSWER: &str = "generate --model t --input prompts.jsonl --max-tokens 40 --temperature 2 --batch-size 2 --output";

#[cfg(unix)]
#[test]
fn answers_are_kept_when_generation_is_ended_and_continued_to_the_same_bytes() {
    let bench = Bench::new().with_text();
    prompts(&bench, 9);
    bench.run(&format!("{ANSWER} whole.jsonl")).ok();
    let whole = bench.read("whole.jsonl");
    let answers = |name: &str| fs::read_to_string(bench.path(name)).map_or(0, |t| t.lines().count().saturating_sub(1));

    for name in ["INT", "TERM", "KILL"] {
        let mut child = start(&bench, &format!("{ANSWER} out.jsonl"));
        let ended = wait_until(&mut child, || answers("out.jsonl.partial") >= 2);
        assert_eq!(ended, None, "{name}: the run is too quick to be ended");
        signal(&child, name);
        let code = child.wait().unwrap().code();
        assert!(!bench.path("out.jsonl").exists(), "{name}: half an output");
        let kept = answers("out.jsonl.partial");
        assert!((2..9).contains(&kept), "{name}: {kept} answers");
        if name == "KILL" {
            bench.edit("out.jsonl.partial", |bytes| bytes.extend(b"{\"completion\": \"torn"));
        } else {
            assert_eq!(code, Some(3), "{name}");
            let said = bench.text("said");
            assert!(said.contains(&format!("Interrupted after {kept} of 9 answers; `--resume` continues.")), "{said}");
        }

        let lost = refused(&bench, &format!("{ANSWER} out.jsonl"));
        let is_named = lost.starts_with("error: answers of an interrupted run are here")
            && lost.contains("--> out.jsonl.partial\n");
        assert!(is_named && lost.contains("remove `out.jsonl.partial` to begin anew"), "{lost}");
        bench.run(&format!("{ANSWER} out.jsonl --resume")).ok();
        assert!(bench.read("out.jsonl") == whole, "{name}: the answers differ");
        let said = bench.run(&format!("{ANSWER} out.jsonl --resume"));
        assert!(said.code == Some(0) && said.stderr.contains("`out.jsonl` is finished"), "{}", said.stderr);
        fs::remove_file(bench.path("out.jsonl")).unwrap();
        assert!(bench.files(".").iter().all(|file| !file.contains("partial") && !file.contains(".tmp-")));
    }
}

#[cfg(unix)]
#[test]
fn answers_of_another_run_are_not_continued() {
    let bench = Bench::new().with_text();
    prompts(&bench, 6);
    let journal = bench.path("pipe.jsonl.partial");
    assert!(std::process::Command::new("mkfifo").arg(journal).status().expect("mkfifo").success());
    assert!(refused(&bench, &format!("{ANSWER} pipe.jsonl --resume")).contains("no regular file"));
    let mut child = start(&bench, &format!("{ANSWER} out.jsonl"));
    let lines = || fs::read_to_string(bench.path("out.jsonl.partial")).map_or(0, |text| text.lines().count());
    assert_eq!(wait_until(&mut child, || lines() >= 3), None, "the run is too quick to be ended");
    signal(&child, "KILL");
    child.wait().unwrap();
    let kept = bench.read("out.jsonl.partial");
    for (change, option) in [
        ("--temperature 1.5", "--temperature"),
        ("--top-k 3", "--top-k"),
        ("--top-p 0.5", "--top-p"),
        ("--seed 1", "--seed"),
        ("--max-tokens 41", "--max-tokens"),
        ("--batch-size 3", "--batch-size"),
        ("--dtype bf16", "--dtype"),
        ("--model t2", "--model"),
        ("--input others.jsonl", "--input"),
    ] {
        crate::bench::copy(&bench.path("t"), &bench.path("t2"));
        bench.edit("t2/model.safetensors", |bytes| *bytes.last_mut().unwrap() ^= 1);
        bench.edit("t2/model.safetensors", |bytes| {
            let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[start] ^= 1;
        });
        bench.write("others.jsonl", bench.text("prompts.jsonl").replace("1.10", "1.11"));
        let name = change.split(' ').next().unwrap();
        let rest: Vec<&str> = ANSWER.split(" --").filter(|part| !format!("--{part}").starts_with(name)).collect();
        let said =
            bench.run(&format!("{} {change} --output out.jsonl --resume", rest.join(" --").replace(" --output", "")));
        assert_eq!(said.code, Some(2), "{change}: {}", said.stderr);
        assert!(said.problem().contains(&format!("belong to another run: `{option}` differs")), "{}", said.stderr);
        assert!(bench.read("out.jsonl.partial") == kept, "{change} changed the answers so far");
    }
    bench.run(&format!("{ANSWER} out.jsonl --resume")).ok();
}

#[test]
fn rows_are_passed_on_as_they_are_written() {
    let bench = Bench::new().with_text();
    let fields =
        r#""id":12345678901234567890123,"big":1e400,"price":1.10,"\u00e9":"\u00E9\/","nested":{"b":[1, 2],"a":1E5}"#;
    bench.write("prompts.jsonl", format!("{{{fields},\"prompt\":\"Hi\",\"completion\":\"old\"}}\n"));
    let out = bench.run("generate --model t --input prompts.jsonl --max-tokens 2").ok();
    assert!(out.starts_with(&format!("{{{fields},\"prompt\":\"Hi\",\"completion\":\"")), "{out}");
    assert!(out.ends_with("\"tokens\":2,\"finish_reason\":\"length\"}\n"), "{out}");

    // A document and standard input give the same rows.
    bench.write("prompts.json", format!("[\n  {{{fields},\n  \"prompt\": \"Hi\",\n \"completion\": \"old\"}}\n]\n"));
    assert_eq!(bench.run("generate --model t --input prompts.json --max-tokens 2").ok(), out);
    let mut command = bench.command("generate --model t --input - --max-tokens 2");
    let stdin = fs::File::open(bench.path("prompts.jsonl")).unwrap();
    assert_eq!(bench.said(command.stdin(stdin)).ok(), out);
}

#[test]
fn wrong_options_and_inputs_are_refused_before_the_model_is_read() {
    let bench = Bench::new().with_text();
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    for (options, words) in [
        ("--temperature -1", "the temperature must be 0 or more"),
        ("--temperature nan", "the temperature must be 0 or more"),
        ("--temperature inf", "the temperature must be 0 or more"),
        ("--top-p -0.5", "top-p must be above 0 and at most 1"),
        ("--top-p 1.5", "top-p must be above 0 and at most 1"),
        ("--top-k -1", "top-k must be a whole number, 0 or more"),
        ("--drafts -1", "it must be a whole number, 0 or more"),
        ("--drafts 4294967296", "it is too large"),
        ("--seed -1", "it must be a whole number, 0 or more"),
        ("--batch-size 0", "it must be a whole number, 1 or more"),
        ("--batch-size -1", "it must be a whole number, 1 or more"),
        ("--max-tokens -1", "it must be a whole number, 0 or more"),
        ("--resume", "--output"),
    ] {
        let said = bench.run(&format!("generate --model t --input prompts.jsonl {options}"));
        assert_eq!(said.code, Some(2), "{options}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{options}: {}", said.stderr);
        assert!(!said.stderr.contains("Loading"), "{options}: {}", said.stderr);
    }
    for verb in ["generate", "score"] {
        let said = refused(&bench, &format!("{verb} --model t --input none.jsonl"));
        assert!(said.starts_with("error: ") && said.contains("none.jsonl"), "{said}");
    }
    bench.write("unanswered.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n");
    let scored = bench.run("score --model t --input unanswered.jsonl").json();
    assert!(scored["nll"].is_number() && scored["supervised_nll"].is_null(), "{scored}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_takes_nothing_is_an_error_and_one_that_is_closed_is_none() {
    let bench = Bench::new().with_text();
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    for command in [
        "data preview r.yaml",
        "data preview r.yaml --json",
        "data stats r.yaml",
        "train r.yaml --dry-run",
        "recipe show r.yaml",
        "inspect t",
        "generate --model t --input prompts.jsonl --max-tokens 1",
        "score --model m --input rows.jsonl",
        "completions bash",
        "--help",
        "--version",
    ] {
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let said = bench.said(bench.command(command).stdout(full));
        assert_eq!(said.code, Some(1), "{command}: {}", said.stderr);
        assert!(said.problem().starts_with("error: no space left while writing\n  --> stdout"), "{}", said.stderr);
        assert!(said.problem().ends_with("hint: it takes no more; name a file, or something else"), "{}", said.stderr);

        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let said = bench.said(bench.command(command).stdout(closed));
        assert_eq!((said.code, said.problem()), (Some(0), ""), "{command}: {}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{command}: {}", said.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_merge_that_is_ended_leaves_nothing_and_two_do_not_write_one_folder() {
    let bench = Bench::new().trained();
    fs::create_dir(bench.path("into")).unwrap();
    let merge = "merge --model m --adapter out/adapter --output into/merged --dtype f32";
    bench.run(&merge.replace("into/merged", "reference")).ok();
    let entries = || fs::read_dir(bench.path("into")).unwrap().count();
    for name in ["INT", "TERM", "KILL"] {
        // Ended at whatever moment, also while it writes.
        for _ in 0..4 {
            let mut child = start(&bench, merge);
            if wait_until(&mut child, || entries() > 0).is_none() {
                signal(&child, name);
                let code = child.wait().unwrap().code();
                assert!(code.is_none_or(|code| code < 2), "{code:?}");
            }
            if name != "KILL" {
                let left: Vec<_> = bench.files("into").into_iter().filter(|file| file.contains(".tmp-")).collect();
                assert_eq!(left, Vec::<String>::new(), "{name}");
            }
            let _ = fs::remove_dir_all(bench.path("into/merged"));
        }
    }
    // What kill -9 left is cleared by the next one.
    bench.write("into/.tmp-gemma-tune-merged/model.safetensors", "half");
    let (mut one, mut two) = (start(&bench, merge), start(&bench, merge));
    let codes = [one.wait().unwrap().code(), two.wait().unwrap().code()];
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.contains(&Some(1)) || codes.contains(&Some(2)), "both succeeded: {codes:?}");
    assert_eq!(entries(), 1);
    assert!(bench.read("into/merged/model.safetensors") == bench.read("reference/model.safetensors"));
}

#[cfg(unix)]
#[test]
fn what_a_run_writes_is_no_pipe_and_no_file_in_a_folders_place() {
    let bench = Bench::new();
    for name in [".lock", "recipe.yaml", "metrics.jsonl", "summary.json"] {
        let _ = fs::remove_dir_all(bench.path("out"));
        fs::create_dir(bench.path("out")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(bench.path("out").join(name)).status().unwrap().success());
        for command in ["train r.yaml --resume", "train r.yaml --dry-run"] {
            let said = refused(&bench, command);
            assert!(
                said.contains("no regular file") && said.contains(&format!("--> out/{name}")) || name == "summary.json",
                "{name}: {said}"
            );
        }
        if name == ".lock" {
            bench.write("out/recipe.yaml", "");
            assert!(refused(&bench, "train r.yaml").contains("already holds a run"));
        }
    }
    for name in ["tensorboard", "checkpoints", "adapter"] {
        let _ = fs::remove_dir_all(bench.path("out"));
        bench.write(&format!("out/{name}"), "a file");
        let said = refused(&bench, "train r.yaml --dry-run");
        assert!(said.contains("no folder") && said.contains(&format!("--> out/{name}")), "{name}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_place_for_a_file_is_refused_before_any_work() {
    let bench = Bench::new().with_text();
    bench.write("prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    for target in ["/proc/self/nope", "/proc/nope/x", "/proc/version", "/dev/fd/99", "/proc/self/fd"] {
        for command in [
            format!("generate --model t --input prompts.jsonl --output {target}"),
            format!("score --model m --input rows.jsonl --output {target}"),
            format!("score --model m --input rows.jsonl --output scores.jsonl --logits {target}"),
            format!("init --model t --data chats.jsonl --output {target}"),
        ] {
            // Root may write what others may not: whoever says no does so before the work.
            let said = refused(&bench, &command);
            assert!(said.contains(target) && said.contains("hint: "), "{command}: {said}");
        }
    }
    for command in ["train r.yaml --set output.dir=/proc/self/nope", "merge --model m --adapter a --output /proc/nope"]
    {
        let said = bench.run(command);
        assert_eq!(said.code, Some(2), "{command}: {}", said.stderr);
        assert!(!said.stderr.contains("Loading"), "{command}: {}", said.stderr);
    }
}

#[test]
fn a_failed_start_leaves_nothing() {
    let bench = Bench::new();
    let failed = bench.run("train r.yaml --set data.train=none.jsonl --set output.dir=deep/out");
    assert_eq!(failed.code, Some(2), "{}", failed.stderr);
    assert!(!bench.path("deep").exists());
    bench.write("mine/notes.txt", "");
    bench.run("train r.yaml --set data.train=none.jsonl --set output.dir=mine");
    assert_eq!(bench.files("mine"), ["mine/notes.txt"]);

    let bench = bench.trained();
    let before = bench.files("out");
    let occupied = bench.run("train r.yaml");
    assert_eq!(occupied.code, Some(2), "{}", occupied.stderr);
    assert!(occupied.problem().starts_with("error: `out` already holds a run"), "{}", occupied.stderr);
    let planned = bench.run("train r.yaml --dry-run").stderr;
    assert!(planned.contains("Warning: `out` already holds a run, and this run would be refused"), "{planned}");
    let resumed = bench.run("train r.yaml --dry-run --resume").stderr;
    assert!(!resumed.contains("already holds a run"), "{resumed}");
    assert_eq!(bench.files("out"), before);
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_pruned_is_a_warning() {
    let bench = Bench::new();
    bench.run("train r.yaml --set training.max_steps=4 --set output.save_total_limit=9").ok();
    fs::remove_dir_all(bench.path("out/adapter")).unwrap();
    fs::remove_file(bench.path("out/summary.json")).unwrap();
    fs::rename(bench.path("out/checkpoints/step-2"), bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), bench.path("out/checkpoints/step-2")).unwrap();
    bench.write("more.yaml", bench.text("r.yaml").replace("max_steps: 12", "max_steps: 4"));
    fs::remove_dir_all(bench.path("out/checkpoints/step-4")).ok();
    let said = bench.run("train more.yaml --resume --set output.save_steps=1 --set output.save_total_limit=1");
    assert!(said.stderr.contains("warning: checkpoint `step-2` cannot be deleted, and stays"), "{}", said.stderr);
    assert_eq!(said.stderr.matches("cannot be deleted").count(), 1, "{}", said.stderr);
    said.ok();
    assert!(bench.path("out/adapter/adapter_model.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn a_base_that_changes_while_it_is_trained_costs_nothing_that_was_trained() {
    let reference = Bench::new().trained();
    let recorded = |bench: &Bench| -> serde_json::Value {
        serde_json::from_slice(&bench.read("out/adapter/gemma_tune.json")).expect("JSON")
    };
    type Change = fn(&Bench, &std::path::Path);
    let changes: [(&str, Change); 4] = [
        ("cut", |_, path| fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("empty", |_, path| fs::write(path, "").unwrap()),
        ("written over", |bench, path| {
            let mut bytes = bench.read("m/model.safetensors");
            bytes.iter_mut().rev().take(100_000).for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).unwrap();
        }),
        ("gone", |_, path| fs::remove_file(path).unwrap()),
    ];
    for (name, change) in changes {
        let bench = Bench::new();
        let mut child = start(&bench, "train r.yaml");
        let ended = wait_until(&mut child, || bench.path("out/checkpoints/step-2").exists());
        assert_eq!(ended, None, "{name}");
        change(&bench, &bench.path("m/model.safetensors"));
        let code = child.wait().unwrap().code();
        let said = bench.text("said");
        assert_eq!(code, Some(0), "{name}: {said}");
        let adapter = "out/adapter/adapter_model.safetensors";
        assert!(bench.read(adapter) == reference.read(adapter), "{name}: the adapters differ");
        assert_eq!(recorded(&bench)["base_fingerprint"], recorded(&reference)["base_fingerprint"], "{name}");
        assert!(said.contains("model.safetensors` changed after it was loaded"), "{name}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn data_is_prepared_without_a_cache_where_there_can_be_none() {
    let bench = Bench::new();
    let expected = bench.run("data stats r.yaml --json").ok();
    let without = |name: &str, set: &dyn Fn(&mut std::process::Command)| {
        let mut command = bench.command("data stats r.yaml --json");
        command.env("TMPDIR", bench.path("tmp"));
        set(&mut command);
        let said = bench.said(&mut command);
        assert_eq!(said.code, Some(0), "{name}: {}", said.stderr);
        assert_eq!(said.stderr.matches("`GEMMA_TUNE_CACHE` names a folder").count(), 1, "{name}: {}", said.stderr);
        assert_eq!(said.stdout, expected, "{name}");
        assert_eq!(bench.files("tmp"), Vec::<String>::new(), "{name}");
    };
    fs::create_dir(bench.path("tmp")).unwrap();
    without("a folder that cannot be made", &|command| {
        command.env("GEMMA_TUNE_CACHE", "/proc/none");
    });
    without("a file in its place", &|command| {
        command.env("GEMMA_TUNE_CACHE", bench.path("r.yaml"));
    });
    without("no home", &|command| {
        command.env_remove("GEMMA_TUNE_CACHE").env_remove("HOME").env_remove("XDG_CACHE_HOME");
    });
    without("a home that is not there", &|command| {
        command.env_remove("GEMMA_TUNE_CACHE").env_remove("XDG_CACHE_HOME").env("HOME", "/proc/nobody");
    });
}

#[cfg(unix)]
#[test]
fn threads_are_counted_and_bounded() {
    let bench = Bench::new();
    let doctor = |limits: &str, threads: &str| {
        let mut command = std::process::Command::new("sh");
        let script = format!("{limits} exec \"$0\" recipe show r.yaml --json");
        bench.settle(&mut command).args(["-c", &script, env!("CARGO_BIN_EXE_gemma-tune")]);
        bench.said(command.env("RAYON_NUM_THREADS", threads))
    };
    let many = doctor("", "100000");
    assert!(many.stderr.contains("RAYON_NUM_THREADS=100000 is more than 1024"), "{}", many.stderr);
    many.ok();
    let wrong = doctor("", "many");
    assert!(wrong.stderr.contains("RAYON_NUM_THREADS is no number"), "{}", wrong.stderr);
    wrong.ok();
    let refused = doctor("ulimit -v 2000000;", "1000");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.problem().starts_with("error: 1000 threads cannot be started: "), "{}", refused.stderr);
    assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);

    bench.run("train r.yaml").ok();
    let mut command = bench.command("train r.yaml --set output.dir=three --set training.max_steps=1");
    bench.said(command.env("RAYON_NUM_THREADS", "3")).ok();
    let threads = |name: &str| -> serde_json::Value { serde_json::from_slice(&bench.read(name)).expect("JSON") };
    assert_eq!(threads("out/summary.json")["threads"], 2);
    assert_eq!(threads("three/summary.json")["threads"], 3);
}

/// A disk that is full after so many blocks of 512 bytes in a file, at whatever moment that comes.
#[cfg(unix)]
#[test]
fn a_run_that_can_write_no_more_says_what_and_keeps_its_checkpoints() {
    let reference = Bench::new();
    let train = "train r.yaml --set output.report_to=[jsonl,tensorboard] --set output.save_total_limit=3";
    reference.run(train).ok();
    for blocks in [1, 3, 20, 130, 300, 700] {
        let bench = Bench::new();
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -f {blocks}; exec \"$0\" {train}");
        bench.settle(&mut command).args(["-c", &script, env!("CARGO_BIN_EXE_gemma-tune")]);
        let full = bench.said(&mut command);
        assert!(matches!(full.code, Some(0 | 1)), "{blocks}: {:?} {}", full.code, full.stderr);
        assert!(!full.stderr.contains("panicked"), "{blocks}: {}", full.stderr);
        if full.code == Some(1) {
            assert!(full.problem().contains("File too large"), "{blocks}: {}", full.stderr);
            assert!(full.problem().contains("\n  --> "), "{blocks}: {}", full.stderr);
            let half: Vec<_> = bench.files("out").into_iter().filter(|file| file.contains(".tmp-")).collect();
            assert_eq!(half, Vec::<String>::new(), "{blocks}");
            let checkpoints = fs::read_dir(bench.path("out/checkpoints")).map_or(0, Iterator::count);
            if checkpoints == 0 {
                let _ = fs::remove_dir_all(bench.path("out"));
            }
            bench.run(&format!("{train}{}", if checkpoints == 0 { "" } else { " --resume" })).ok();
        }
        let adapter = "out/adapter/adapter_model.safetensors";
        assert!(bench.read(adapter) == reference.read(adapter), "{blocks}: the adapters differ");
    }
}

#[test]
fn what_a_killed_writer_left_is_cleared_by_the_next() {
    let bench = Bench::new();
    for name in [".tmp-gemma-tune-aB3xYz", ".tmp-mine"] {
        bench.write(&format!("into/{name}"), "half");
    }
    bench.run(&format!("{SCORE} --output into/scores.jsonl")).ok();
    assert_eq!(bench.files("into"), ["into/.tmp-mine", "into/scores.jsonl"]);
}
