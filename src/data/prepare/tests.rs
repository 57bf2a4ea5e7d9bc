use super::*;
use crate::data::options::{OnBadRow, OnLong, RowFormat};
use crate::data::spec::SourceSpec;
use crate::data::testing::{Bytes, spec, write};
use crate::data::{Binning, SkipReason, local_only};
use crate::progress::Silent;
use crate::progress::testing::Notes;
use crate::text::{Prefix, Tokenized};
use ::parquet::arrow::ArrowWriter;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts rows that were encoded, to tell the cache from work.
struct Counting(AtomicUsize);

impl Counting {
    fn new() -> Self {
        Counting(AtomicUsize::new(0))
    }

    fn taken(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Encode for Counting {
    fn encode(&self, row: &crate::data::Row, most: usize) -> Result<Prefix> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Bytes.encode(row, most)
    }
    fn each_of_text(&self, text: &str, each: &mut dyn FnMut(u32)) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Bytes.each_of_text(text, each)
    }
    fn fingerprint(&self) -> String {
        Bytes.fingerprint()
    }
    fn stop_tokens(&self) -> Vec<u32> {
        Bytes.stop_tokens()
    }
    fn bos(&self) -> Option<u32> {
        Bytes.bos()
    }
}

fn prepare_in(dir: &Path, spec: &DataSpec) -> Result<Dataset> {
    prepare(spec, &Bytes, &dir.join("cache"), &local_only, &Silent)
}

fn pair(prompt: &str, completion: &str) -> String {
    format!("{}\n", serde_json::json!({"prompt": prompt, "completion": completion}))
}

/// The error as shown, with the folder left out.
fn shown(dir: &Path, error: &Error) -> String {
    error.to_string().replace(&format!("{}/", dir.display()), "")
}

#[test]
fn rows_keep_their_order_and_origin_over_files_and_formats() {
    let dir = tempfile::tempdir().unwrap();
    let many: String = (0..5000).map(|i| pair(&format!("p{i}"), &format!("c{i}"))).collect();
    let first = write(dir.path(), "a.jsonl", many);
    write(dir.path(), "b.csv", "instruction,output,input\nx,y,\n");
    let mut spec = spec(&first, RowFormat::PromptCompletion);
    spec.sources.push(SourceSpec::new(dir.path().join("b*").to_str().unwrap(), RowFormat::Alpaca));
    let dataset = prepare_in(dir.path(), &spec).unwrap();

    assert_eq!(dataset.len(), 5001);
    for row in [0, 1, 2500, 4999] {
        let (prompt, completion) = (format!("p{row}"), format!("c{row}"));
        let tokens = Bytes::all_of(&crate::data::Row::PromptCompletion { prompt, completion });
        assert_eq!(dataset.lengths()[row] as usize, tokens.input_ids.len());
        assert_eq!(dataset.supervised()[row] as usize, tokens.supervised());
        assert_eq!(dataset.get(row).unwrap(), tokens);
        assert_eq!(dataset.origin(row).unwrap().row as usize, row + 1);
    }
    assert_eq!(dataset.origin(5000).unwrap().to_string(), format!("{}, row 2", dir.path().join("b.csv").display()));
    let stats = dataset.stats();
    assert_eq!(stats.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [5000, 1]);
    assert_eq!(stats.files[1].blake3, blake3::hash(b"instruction,output,input\nx,y,\n").to_hex().to_string());
}

#[test]
fn all_wrong_rows_are_shown_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let lines = format!("{}{{\"prompt\": \"a\"}}\n{}oops\n", pair("a", "b"), pair("a", ""));
    let path = write(dir.path(), "a.jsonl", lines);
    let error = prepare_in(dir.path(), &spec(&path, RowFormat::PromptCompletion)).unwrap_err();
    assert_eq!(
        shown(dir.path(), &error),
        "error: the row has no `completion`, which format `prompt_completion` needs\n  --> a.jsonl, row 2\n  \
         hint: columns found: `prompt`\n\n\
         error: the row has no supervised token: nothing in it has a loss\n  --> a.jsonl, row 3\n  \
         hint: `completion` is empty\n\n\
         error: the row is not valid JSON: expected value (column 1)\n  --> a.jsonl, row 4\n\n\
         error: 3 of 4 rows cannot be used\n  hint: set `data.on_bad_row: skip` to leave such rows out\n\n4 problems"
    );
    assert!(
        std::fs::read_dir(dir.path().join("cache")).unwrap().all(|e| e.unwrap().path().is_dir()),
        "nothing is kept"
    );
}

#[test]
fn an_answer_that_is_not_there_is_a_bad_row_from_every_source() {
    let dir = tempfile::tempdir().unwrap();
    let answers = |all: [Option<&str>; 2]| Arc::new(StringArray::from(all.to_vec())) as ArrayRef;
    let columns = [("prompt", answers([Some("a"), Some("c")])), ("completion", answers([Some("b"), None]))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let lines = format!("{}{{\"prompt\": \"c\", \"completion\": null}}\n", pair("a", "b"));
    for (name, content, row, what) in [
        ("a.csv", b"prompt,completion\na,b\nc,\n".to_vec(), 3, "the cell of `completion` is empty"),
        ("a.tsv", b"Prompt\tCompletion\na\tb\nc\t  \n".to_vec(), 3, "the cell of `Completion` is empty"),
        ("a.jsonl", lines.into_bytes(), 2, "`completion` is null"),
        ("a.parquet", writer.into_inner().unwrap(), 2, "`completion` is null"),
    ] {
        let path = write(dir.path(), name, content);
        for format in [RowFormat::Auto, RowFormat::PromptCompletion] {
            let mut spec = spec(&path, format);
            let error = prepare_in(dir.path(), &spec).unwrap_err();
            assert_eq!(error.what(), what, "{name}");
            assert_eq!(error.place(), Some(&Place::Row { path: path.clone(), row }), "{name}");
            spec.on_bad_row = OnBadRow::Skip;
            let dataset = prepare_in(dir.path(), &spec).unwrap();
            let skipped: Vec<_> = dataset.stats().skipped.into_iter().collect();
            assert_eq!((dataset.len(), skipped), (1, vec![(SkipReason::WrongLayout, 1)]), "{name}");
        }
    }
}

#[test]
fn what_programs_write_for_nothing_and_what_excel_cuts_off_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let full = "x".repeat(32_767);
    let rows = format!("prompt,completion\na,b\nc,nan\n#REF!,d\na,b\ne,none\nf,{full}\n");
    let path = write(dir.path(), "a.csv", rows);
    for from_cache in [false, true] {
        let notes = Notes::default();
        let spec = spec(&path, RowFormat::PromptCompletion);
        let dataset = prepare(&spec, &Bytes, &dir.path().join("cache"), &local_only, &notes).unwrap();
        assert_eq!((dataset.len(), dataset.from_cache()), (6, from_cache));
        assert_eq!(dataset.stats().repeated, 1);
        let left_out = dataset.stats().left_out.into_iter().map(|left_out| left_out.to_string()).collect::<Vec<_>>();
        let said = format!(
            "a word for a missing value (`nan`, `NULL`, `#N/A`), taken as text: 2 rows (33.3 %); the first is {}, row 3",
            path.display()
        );
        assert!(left_out.contains(&said), "{left_out:?}");
        let notes = notes.take().concat();
        assert!(notes.contains("1 row with a cell of 32,767 characters, which is all that Excel keeps"), "{notes}");
    }
}

#[test]
fn a_hopeless_file_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", "{\"conversations\": []}\n".repeat(200_000));
    let error = prepare_in(dir.path(), &spec(&path, RowFormat::Messages)).unwrap_err();
    assert_eq!(error.iter().count(), 21);
    let last = error.iter().last().unwrap().what();
    assert!(last.ends_with("that cannot be used, and the rest was not read; the first 20 are shown"), "{last}");
    assert!(error.hint_text().unwrap().ends_with("looks like sharegpt: set `data.format: sharegpt`"));
}

#[test]
fn skipped_rows_are_counted_by_reason_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [pair("a", "b"), pair(&"x".repeat(80), "b"), "[]\n".into(), "{}\n".into(), pair("a", "")].concat();
    let path = write(dir.path(), "a.jsonl", lines);
    let mut spec = spec(&path, RowFormat::PromptCompletion);
    spec.on_bad_row = OnBadRow::Skip;
    spec.on_long = Some(OnLong::Skip);
    for from_cache in [false, true] {
        let dataset = prepare_in(dir.path(), &spec).unwrap();
        assert_eq!((dataset.len(), dataset.from_cache()), (1, from_cache));
        let stats = dataset.stats();
        let reasons: Vec<_> = stats.skipped.into_iter().collect();
        let each_once =
            [SkipReason::TooLong, SkipReason::Unreadable, SkipReason::WrongLayout, SkipReason::NothingSupervised];
        assert_eq!(reasons, each_once.map(|reason| (reason, 1)));
        assert_eq!(stats.skipped_rows.iter().map(|row| row.row).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(stats.skipped_rows[0].why, "the row has 83 tokens, `max_length` is 64");
    }
}

#[test]
fn the_two_policies_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", format!("{}{}", pair("a", "b"), pair(&"x".repeat(80), "b")));
    let mut spec = spec(&path, RowFormat::PromptCompletion);
    spec.on_long = Some(OnLong::Error);
    spec.on_bad_row = OnBadRow::Skip;
    let error = prepare_in(dir.path(), &spec).unwrap_err();
    assert_eq!(error.what(), "the row has 83 tokens, `max_length` is 64");
    spec.on_long = Some(OnLong::Truncate);
    let dataset = prepare_in(dir.path(), &spec).unwrap();
    assert_eq!(dataset.stats().skipped_rows[0].reason, SkipReason::NothingSupervised, "truncation left nothing");
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", "\n");
    let mut spec = spec(&path, RowFormat::PromptCompletion);
    let error = prepare_in(dir.path(), &spec).unwrap_err();
    assert_eq!(shown(dir.path(), &error), "error: there are no rows in `a.jsonl`\n  --> data.train[0].path");

    write(dir.path(), "a.jsonl", "{}\n1\n2\n");
    spec.on_bad_row = OnBadRow::Skip;
    let error = prepare_in(dir.path(), &spec).unwrap_err();
    assert_eq!(
        shown(dir.path(), &error),
        "error: all 3 rows were skipped: 2 unreadable, 1 columns do not fit the format\n  --> a.jsonl, row 1\n  \
         hint: the first of them: the row has no `prompt`, which format `prompt_completion` needs"
    );

    write(dir.path(), "a.jsonl", pair("a", &"long answer".repeat(10)));
    let error = prepare_in(dir.path(), &spec).unwrap_err();
    assert_eq!(error.what(), "no stop token is supervised in any row: the tuned model would never stop its answers");
    assert!(error.hint_text().unwrap().contains("`max_length` 64"));
    spec.sources[0].format = RowFormat::Text;
    write(dir.path(), "a.jsonl", "{\"text\": \"no end is meant\"}");
    assert_eq!(prepare_in(dir.path(), &spec).unwrap().len(), 1);
}

#[test]
fn equal_content_is_found_again_and_other_content_or_options_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let path = write(dir.path(), "a.jsonl", pair("a", "b"));
    let encoder = Counting::new();
    let run = |spec: &DataSpec| {
        let dataset = prepare(spec, &encoder, &cache, &local_only, &Silent).unwrap();
        assert_eq!(dataset.from_cache(), encoder.taken() == 0);
        (dataset.from_cache(), dataset.content_hash(), dataset.origin(0).unwrap().file)
    };
    let mut spec = spec(&path, RowFormat::PromptCompletion);
    let (cached, hash, _) = run(&spec);
    assert!(!cached);
    assert!(run(&spec).0);

    let moved = write(dir.path(), "moved.jsonl", pair("a", "b"));
    spec.sources[0].path = moved.to_str().unwrap().into();
    assert_eq!(run(&spec), (true, hash.clone(), moved.into()), "the same rows under another name");

    spec.max_length = 32;
    assert!(!run(&spec).0);
    write(dir.path(), "moved.jsonl", pair("a", "c"));
    let (cached, other_hash, _) = run(&spec);
    assert!(!cached && other_hash != hash);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let path = write(dir.path(), "a.jsonl", (0..50).map(|i| pair("a", &format!("b{i}"))).collect::<String>());
    let spec = spec(&path, RowFormat::PromptCompletion);
    let hash = prepare_in(dir.path(), &spec).unwrap().content_hash();
    let rows = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_file()).unwrap();
    let sound = std::fs::read(&rows).unwrap();
    let mut broken = vec![Vec::new(), sound[..sound.len() - 1].to_vec(), [&sound[..], b"x"].concat()];
    broken.extend((0..sound.len()).step_by(7).map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        bytes
    }));
    for (i, bytes) in broken.into_iter().enumerate() {
        std::fs::write(&rows, bytes).unwrap();
        let dataset = prepare_in(dir.path(), &spec).unwrap();
        assert!(!dataset.from_cache(), "damage {i} was not noticed");
        assert_eq!(dataset.content_hash(), hash);
    }
    assert_eq!(std::fs::read(&rows).unwrap(), sound);
}

#[test]
fn runs_at_the_same_time_share_the_work_or_repeat_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.jsonl", (0..2000).map(|i| pair("a", &format!("b{i}"))).collect::<String>());
    let spec = spec(&path, RowFormat::PromptCompletion);
    let hashes: Vec<String> = std::thread::scope(|scope| {
        let run = || prepare_in(dir.path(), &spec).unwrap().content_hash();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    let kept: Vec<_> = std::fs::read_dir(dir.path().join("cache")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.iter().filter(|path| path.is_file()).count(), 1, "{kept:?}");
}

#[test]
fn a_broken_file_among_good_ones_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", pair("a", "b"));
    write(dir.path(), "b.parquet", "PAR1");
    let glob = dir.path().join("*.*");
    let error = prepare_in(dir.path(), &spec(&glob, RowFormat::PromptCompletion)).unwrap_err();
    assert!(error.what().starts_with("the file is damaged or no Parquet file"), "{error}");
    assert_eq!(error.place().unwrap().to_string(), format!("{}, row 1", dir.path().join("b.parquet").display()));
}

#[test]
fn prompts_with_assistant_turns_are_not_learnt() {
    let dir = tempfile::tempdir().unwrap();
    let row = serde_json::json!({
        "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        "completion": [{"role": "assistant", "content": "d"}],
    });
    let path = write(dir.path(), "a.jsonl", row.to_string());
    let dataset = prepare_in(dir.path(), &spec(&path, RowFormat::PromptCompletion)).unwrap();
    let stop = Bytes::STOP as i32;
    assert_eq!(dataset.get(0).unwrap().labels, [-100, -100, -100, -100, -100, -100, -100, 100, stop]);
}

/// Measures by hand: `GT_MEASURE=2000 cargo test --lib prepare_two_gigabytes -- --ignored --nocapture` prepares that
/// many megabytes of generated jsonl.
#[test]
#[ignore = "writes gigabytes"]
fn prepare_two_gigabytes() {
    let megabytes: usize = std::env::var("GT_MEASURE").map_or(100, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.jsonl");
    let mut writer = io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let (mut written, mut i) = (0, 0_usize);
    while written < megabytes << 20 {
        let words = |n: usize| (0..n).map(|w| format!("w{} ", (i * 31 + w * 7) % 5000)).collect::<String>();
        let line = format!(
            "{}\n",
            serde_json::json!({"messages": [
                {"role": "user", "content": words(20 + i % 40)}, {"role": "assistant", "content": words(40 + i % 100)},
            ]})
        );
        writer.write_all(line.as_bytes()).unwrap();
        written += line.len();
        i += 1;
    }
    writer.flush().unwrap();
    drop(writer);

    struct Words;
    impl Encode for Words {
        fn each_of_text(&self, _: &str, _: &mut dyn FnMut(u32)) -> Result<()> {
            Ok(())
        }
        fn encode(&self, row: &crate::data::Row, most: usize) -> Result<Prefix> {
            let crate::data::Row::Conversation(conversation) = row else { panic!() };
            let mut tokens = Tokenized { input_ids: vec![2], labels: vec![-100], ..Tokenized::default() };
            for message in &conversation.messages {
                for text in message.content.iter().filter_map(crate::text::Part::text) {
                    for word in text.split_whitespace() {
                        let id = word[1..].parse::<u32>().unwrap() + 10;
                        tokens.input_ids.push(id);
                        tokens.labels.push(if message.role == crate::text::Role::Assistant { id as i32 } else { -100 });
                    }
                }
            }
            tokens.input_ids.push(1);
            tokens.labels.push(1);
            Ok(Prefix::of(&tokens, most, &[]))
        }
        fn fingerprint(&self) -> String {
            "words".into()
        }
        fn bos(&self) -> Option<u32> {
            None
        }
        fn stop_tokens(&self) -> Vec<u32> {
            vec![1]
        }
    }
    let memory = |field: &str| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
    };
    let before = memory("VmRSS");
    let spec = spec(&path, RowFormat::Messages);
    for _ in 0..2 {
        let start = std::time::Instant::now();
        let dataset = prepare(
            &DataSpec { max_length: 2048, ..spec.clone() },
            &Words,
            &dir.path().join("cache"),
            &local_only,
            &Silent,
        )
        .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let (peak, tokens) = (memory("VmHWM"), dataset.stats().tokens);
        println!(
            "{megabytes} MB, {i} rows, {tokens} tokens, cached: {}, {seconds:.1} s, {:.0} MB/s, RSS before {before} MB, peak {peak} MB",
            dataset.from_cache(),
            megabytes as f64 / seconds
        );
        let start = std::time::Instant::now();
        let binning = Binning { packing: true, max_length: 2048, shuffle: true, seed: 1, together: 1 };
        let epoch = binning.epoch(&dataset, 0).unwrap();
        println!(
            "packed into {} bins, fill {:.4}, {:.1} s",
            epoch.len(),
            epoch.fill_rate().unwrap(),
            start.elapsed().as_secs_f64()
        );
    }
}
