//! Data files, paths and recipes as people and other programs leave them: read where they can be, else named.

use crate::bench::Bench;
use serde_json::{Value, json};
use std::process::Command;

const TEXT_RECIPE: &str =
    "model: {base: t}\ndata: {train: DATA, format: FORMAT, packing: false, max_length: 64}\noutput: {dir: out}\n";

/// A bench with a recipe for `data` of `format`.
fn with_data(name: &str, format: &str, content: impl AsRef<[u8]>) -> Bench {
    let bench = Bench::new().with_text();
    bench.write(name, content);
    recipe(&bench, name, format);
    bench
}

fn recipe(bench: &Bench, data: &str, format: &str) {
    bench.write("d.yaml", TEXT_RECIPE.replace("DATA", data).replace("FORMAT", format));
}

/// The texts of the rows as the model sees them, and what was said.
#[track_caller]
fn texts(bench: &Bench) -> (Vec<String>, String) {
    let said = bench.run("data preview d.yaml --rows 9 --json");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let ids = |line: &str| serde_json::from_str::<Value>(line).unwrap()["input_ids"].to_string();
    (said.stdout.lines().map(ids).collect(), said.stderr)
}

/// What `data stats` says is wrong; with exit code 2.
#[track_caller]
fn problem(bench: &Bench) -> String {
    let said = bench.run("data stats d.yaml");
    assert_eq!(said.code, Some(2), "{}{}", said.stdout, said.stderr);
    said.problem().to_owned()
}

const PLAIN: &str =
    "prompt,completion\nCapital of Chile?,Santiago\n\"Two, three\",\"Say \"\"five\"\"\"\nZürich?,Straße\n";

#[test]
fn a_spreadsheets_table_is_read_whatever_it_writes() {
    let (expected, said) = texts(&with_data("rows.csv", "prompt_completion", PLAIN));
    assert_eq!(expected.len(), 3);
    assert!(!said.contains("is read"), "{said}");
    let semicolons = "prompt;completion\nCapital of Chile?;Santiago\nTwo, three;\"Say \"\"five\"\"\"\nZürich?;Straße\n";
    let tabs = semicolons.replace(';', "\t");
    let tail = "prompt,completion,,\r\nCapital of Chile?,Santiago,,\r\n\"Two, three\",\"Say \"\"five\"\"\",,\r\nZürich?,Straße,,\r\n,,,\r\n";
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(tabs.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let western: Vec<u8> = semicolons.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for (name, content, note) in [
        ("semicolons", semicolons.as_bytes().to_vec(), "semicolons between its 2 columns"),
        ("with a mark", format!("\u{feff}{semicolons}").into_bytes(), "semicolons"),
        ("declared", format!("sep=;\r\n{semicolons}").into_bytes(), "semicolons"),
        ("tabs", tabs.clone().into_bytes(), "tabs"),
        ("UTF-16", utf16, "is UTF-16"),
        ("Windows-1252", western, "Windows-1252: `Zürich?;Straße` in line 4"),
        ("empty columns at the end", tail.as_bytes().to_vec(), ""),
    ] {
        let (found, said) = texts(&with_data("rows.csv", "prompt_completion", content));
        assert_eq!(found, expected, "{name}");
        assert!(said.contains(note), "{name}: {said}");
    }
}

#[test]
fn a_quote_that_swallows_rows_is_named_by_its_line() {
    let mut rows = "prompt,completion\n".to_owned();
    (0..300).for_each(|i| rows.push_str(&if i == 7 { "\"q7,a7\n".into() } else { format!("q{i},a{i}\n") }));
    let bench = with_data("rows.csv", "prompt_completion", &rows);
    let said = problem(&bench);
    assert!(said.contains("the quote that opens a cell in line 9 is never closed"), "{said}");
    bench.write("d.yaml", bench.text("d.yaml").replace("packing", "on_bad_row: skip, packing"));
    assert!(problem(&bench).contains("line 9"), "rows that are lost are not skipped");

    let said = problem(&with_data("rows.csv", "prompt_completion", "prompt,completion\nq,\"It's \"late\" now\"\n"));
    assert!(said.contains("the quoted cell that begins in line 2 is followed by text after its quote"), "{said}");
    let said = problem(&with_data("rows.csv", "prompt_completion", "prompt,completion\nq,\"a\nb\"\nq,a,b\nq\n"));
    assert!(said.contains("the record has 3 fields, the header has 2 (line 4)"), "{said}");
    assert!(said.contains("the record has 1 field, the header has 2 (line 5)"), "{said}");
}

#[test]
fn files_of_other_kinds_are_named_whatever_they_are_called() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 4321\n";
    for name in ["a.csv", "a.json", "a.jsonl", "a.parquet", "a.arrow"] {
        let bench = with_data(name, "messages", pointer);
        let said = problem(&bench);
        assert!(said.contains("a Git LFS pointer: the file of 4321 bytes"), "{name}: {said}");
        assert_eq!(bench.run("recipe check d.yaml").code, Some(2), "{name}");
    }
    for (content, expected) in [
        (&b"PK\x03\x04....xl/workbook.xml"[..], "the file is a spreadsheet (Excel or LibreOffice)"),
        (b"SQLite format 3\0...", "the file is an SQLite database"),
        (b"%PDF-1.7", "the file is a PDF document"),
        (b"\xfd7zXZ\0...", "the file is xz data"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}.", "the file is a Python pickle"),
        (b"<!DOCTYPE html><html>", "the file is a web page"),
    ] {
        for name in ["a.csv", "a.jsonl", "a.parquet"] {
            let said = problem(&with_data(name, "messages", content));
            assert!(said.contains(expected), "{name}: {said}");
        }
    }
    let gzip = |content: &[u8]| {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    };
    for (name, content, expected) in [
        ("a.parquet", &b"PAR1...."[..], "the file is gzip data, with a Parquet file in it"),
        ("a.csv", b"PAR1....", "the file is gzip data, with a Parquet file in it"),
        ("a.parquet", PLAIN.as_bytes(), "the file is gzip data, and what is in it is neither Parquet nor Arrow"),
        ("a.json", b"PK\x03\x04....xl/workbook.xml", "the file is a spreadsheet (Excel or LibreOffice), compressed"),
        ("a.csv", &gzip(PLAIN.as_bytes()), "the file is gzip data, with gzip data in it"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd....", "the file is gzip data, with zstd data in it"),
    ] {
        let said = problem(&with_data(name, "messages", gzip(content)));
        assert!(said.contains(expected) && said.contains("unpack") || name == "a.json", "{name}: {said}");
    }
    let said = problem(&with_data("a.jsonl", "messages", PLAIN));
    assert!(said.contains("it begins with `prompt,completion`") && said.contains("name it `.csv`"), "{said}");
}

/// Three rows as JSON lines, each with an empty `data` as some exports have it.
fn chats() -> String {
    (0..3)
        .map(|i| {
            let messages = json!([{"role": "user", "content": format!("Q{i}")}, {"role": "assistant", "content": format!("A{i}")}]);
            format!("{}\n", json!({"messages": messages, "data": []}))
        })
        .collect()
}

#[test]
fn containers_are_known_by_what_is_in_them() {
    let lines = chats();
    let (expected, _) = texts(&with_data("a.jsonl", "messages", &lines));
    assert_eq!(expected.len(), 3);
    let rows: Vec<&str> = lines.lines().collect();
    let list = format!("[{}]", rows.join(",\n"));
    let gzip = {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let pretty: Vec<String> = rows
        .iter()
        .map(|row| serde_json::to_string_pretty(&serde_json::from_str::<Value>(row).unwrap()).unwrap())
        .collect();
    for (name, content) in [
        ("lines.json", lines.clone().into_bytes()),
        ("document.jsonl", list.clone().into_bytes()),
        ("pretty.jsonl", pretty.join("\n").into_bytes()),
        ("pretty.json", pretty.join("\n").into_bytes()),
        ("wrapped.json", format!("{{\"version\": 1, \"data\": {list}, \"more\": {{}}}}\n").into_bytes()),
        ("compressed.jsonl", gzip),
        ("lines.csv", lines.clone().into_bytes()),
    ] {
        assert_eq!(texts(&with_data(name, "messages", content)).0, expected, "{name}");
    }
    let one = rows[0].replace("\"data\":[]", "\"x\":1");
    let wrapped: String = rows.iter().map(|_| format!("{{\"data\": [{one}]}}\n")).collect();
    let said = problem(&with_data("each.json", "messages", wrapped));
    assert!(said.contains("each.json, row 3"), "each line is a row, and has no `messages`: {said}");
    let said = problem(&with_data("cut.json", "messages", format!("{{\"data\": {list}, \"more\": ")));
    assert!(said.contains("the document is not valid JSON"), "{said}");
}

#[test]
fn pythons_words_and_spelling_are_read() {
    let lines = chats();
    let with_nan = lines.replacen("\"data\":[]", "\"score\":NaN,\"x\":[-Infinity]", 1);
    assert_ne!(lines, with_nan);
    assert_eq!(
        texts(&with_data("a.jsonl", "messages", &with_nan)).0,
        texts(&with_data("a.jsonl", "messages", &lines)).0
    );
    let said = problem(&with_data("a.jsonl", "messages", lines.replacen("\"A0\"", "NaN", 1)));
    assert!(said.contains("`messages[1].content` must be a text or a list of parts, found NaN"), "{said}");

    let cell = "id,messages\r\n1,\"[{'role': 'user', 'content': \"\"It's late\"\"}, {'role': 'assistant', 'content': 'Then \"\"rest\"\".'}]\"\r\n";
    let json = r#"{"messages": [{"role": "user", "content": "It's late"}, {"role": "assistant", "content": "Then \"rest\"."}]}"#;
    assert_eq!(texts(&with_data("a.csv", "messages", cell)).0, texts(&with_data("a.jsonl", "messages", json)).0);
    let said = problem(&with_data("a.csv", "messages", cell.replace("}, {", "} {")));
    assert!(said.contains("a list that Python printed") && said.contains("json.dumps"), "{said}");
}

#[test]
fn a_row_above_the_limit_is_named_or_skipped() {
    let long = "x".repeat(3000);
    let jsonl = format!("{{\"text\": \"a\"}}\n{{\"text\": \"{long}\"}}\n{{\"text\": \"b\"}}\n");
    let json = format!("[{}]", jsonl.trim().replace('\n', ","));
    let csv = format!("id,text\n1,a\n2,{long}\n3,b\n");
    for (name, content, row) in [("a.jsonl", &jsonl, 2), ("a.json", &json, 2), ("a.csv", &csv, 3)] {
        let bench = with_data(name, "text", content);
        let limited = |more: &str| bench.run(&format!("data stats d.yaml --set data.max_row_bytes=1000 {more}"));
        let said = limited("");
        assert_eq!(said.code, Some(2), "{name}: {}", said.stderr);
        assert!(said.problem().contains("and at most 1000 "), "{name}: {}", said.stderr);
        assert!(said.problem().contains(&format!("{name}, row {row}")), "{name}: {}", said.stderr);
        let stats = limited("--set data.on_bad_row=skip --json").json();
        assert_eq!((&stats["rows"], &stats["skipped"]), (&json!(2), &json!({"unreadable": 1})), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_input_files() {
    let bench = Bench::new().with_text();
    let pipe = bench.path("pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::copy(bench.path("r.yaml"), bench.path("keep.yaml")).unwrap();
    recipe(&bench, "pipe.jsonl", "messages");
    std::os::unix::fs::symlink("/dev/zero", bench.path("zero.jsonl")).unwrap();
    let refused = |args: &str, what: &str| {
        let said = bench.run(args);
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        assert!(said.problem().contains(&format!("this is {what}, not a file")), "{args}: {}", said.stderr);
    };
    for (name, what) in [("pipe.jsonl", "a pipe"), ("zero.jsonl", "a device"), ("m", "a folder")] {
        refused(&format!("score --model m --input {name}"), what);
    }
    refused("data stats d.yaml", "a pipe");
    refused("data stats d.yaml --set data.train=zero.jsonl", "a device");
    refused("recipe check pipe.jsonl", "a pipe");
    for file in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        let bench = Bench::new().with_text();
        let _ = std::fs::remove_file(bench.path("t").join(file));
        assert!(Command::new("mkfifo").arg(bench.path("t").join(file)).status().unwrap().success());
        bench.write("text.jsonl", "{\"text\": \"a\"}\n");
        let said = bench.run("score --model t --input text.jsonl");
        assert_eq!(said.code, Some(2), "{file}: {}", said.stderr);
        assert!(said.problem().contains("this is a pipe, not a file"), "{file}: {}", said.stderr);
    }
}

#[test]
fn paths_are_expanded_alike_everywhere() {
    let bench = Bench::new();
    bench.write("home/rows.jsonl", bench.text("rows.jsonl"));
    let mut command =
        bench.command("train r.yaml --set data.train=~/rows.jsonl --set data.format=tokens --set output.dir=${RUNS}/x");
    let said = bench.said(command.env("HOME", bench.path("home")).env("RUNS", bench.path("runs")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(bench.path("runs/x/adapter/adapter_config.json").is_file());
    assert!(!bench.path("~").exists() && !bench.path("${RUNS}").exists());
    let mut command = bench.command("score --model $MODELS/m --adapter ${RUNS}/x/adapter --input ~/rows.jsonl");
    command.env("HOME", bench.path("home")).env("RUNS", bench.path("runs")).env("MODELS", bench.path(""));
    assert_eq!(bench.said(&mut command).code, Some(0));

    bench.write(
        "p.yaml",
        "model: {base: \"$NO_SUCH/m\"}\ndata: {train: \"${DATA\"}\noutput: {dir: \"${ALSO_NOT}/x\"}\n",
    );
    let said = bench.run("recipe check p.yaml");
    assert_eq!(said.code, Some(2));
    for (what, line) in
        [("`NO_SUCH`", "p.yaml:1:15"), ("`${` in the path", "p.yaml:2:15"), ("`ALSO_NOT`", "p.yaml:3:15")]
    {
        assert!(said.problem().contains(what) && said.problem().contains(line), "{}", said.stderr);
    }
    let said =
        bench.said(bench.command("recipe check r.yaml").env("HF_HOME", "$NO_SUCH/hf").env_remove("HF_HUB_CACHE"));
    assert_eq!((said.code, said.problem().contains("`NO_SUCH`")), (Some(2), true), "{}", said.stderr);
    // A dollar in a name survives the recipe that a run leaves behind.
    let shown = bench.run("recipe show r.yaml --set output.dir=a$$b").ok();
    bench.write("shown.yaml", &shown);
    assert_eq!(bench.run("recipe show shown.yaml --json").json()["output"]["dir"], "a$b");
}

#[test]
fn an_empty_file_is_refused_before_the_run() {
    let bench = with_data("a.jsonl", "messages", "\n \n");
    let said = bench.run("recipe check d.yaml");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.problem().contains("there are no rows in `a.jsonl`"), "{}", said.stderr);
}

#[test]
fn a_check_finds_what_reading_would() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let bench = with_data("a.jsonl", "prompt_completion", good.repeat(300) + "{\"prompt\": \"a\"}\n");
    for verb in ["recipe check", "data stats"] {
        let said = bench.run(&format!("{verb} d.yaml"));
        assert_eq!(said.code, Some(2), "{verb}: {}", said.stderr);
        assert!(said.problem().contains("--> a.jsonl, row 301"), "{verb}: {}", said.stderr);
        assert!(said.problem().contains("the row has no `completion`"), "{verb}: {}", said.stderr);
    }
    // Each source of a list by its own line, and what may be left out is.
    bench.write("b.jsonl", good);
    bench
        .write("s.yaml", bench.text("d.yaml").replace("train: a.jsonl", "train: [b.jsonl, a.jsonl], on_bad_row: skip"));
    let said = bench.run("recipe check s.yaml");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("301 rows of data"), "{}", said.stderr);
    bench.write("s.yaml", bench.text("s.yaml").replace("skip", "error, columns: {prompt: frage}"));
    let said = bench.run("recipe check s.yaml --set data.format=auto");
    assert!(said.problem().contains("s.yaml:2:") && said.problem().contains("no column `frage`"), "{}", said.stderr);
    // Where data is not what it seems from its beginning.
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..20_000).for_each(|i| writeln!(gzip, "{{\"prompt\": \"{i}\", \"completion\": \"{}\"}}", i * 7).unwrap());
    let whole = gzip.finish().unwrap();
    let mut damaged = whole.clone();
    damaged[10..40].fill(0xff);
    for (bytes, what) in [
        (&damaged[..], "the file's gzip data is damaged"),
        (&whole[..12], "the file ends in the middle of its gzip data"),
        (&whole[..whole.len() - 9], "the file ends in the middle of its gzip data"),
    ] {
        let bench = with_data("a.jsonl.gz", "prompt_completion", bytes);
        for verb in ["recipe check", "data stats"] {
            let said = bench.run(&format!("{verb} d.yaml"));
            assert_eq!(said.code, Some(2), "{verb}: {}", said.stderr);
            assert!(said.problem().contains(what) && !said.problem().contains("empty"), "{verb}: {}", said.stderr);
        }
    }
}

#[test]
fn numbers_that_would_lose_digits_are_named_where_they_are_used() {
    let call = |number: &str| {
        format!(
            "{{\"id\": {number}, \"messages\": [{{\"role\": \"user\", \"content\": \"a\"}}, {{\"role\": \"assistant\", \
             \"content\": \"\", \"tool_calls\": [{{\"name\": \"f\", \"arguments\": {{\"n\": {number}}}}}]}}]}}\n"
        )
    };
    let lost = "whose last digits would be lost";
    let said = problem(&with_data("a.jsonl", "messages", call("12345678901234567890123")));
    assert!(
        said.contains("tool_calls[0].arguments.n` is an integer of more than 64 bits") && said.contains(lost),
        "{said}"
    );
    let said = problem(&with_data("a.jsonl", "messages", call("1e400")));
    assert!(said.contains("arguments.n` is a number beyond 1.8e308"), "{said}");
    // In the text of a cell, and where the number is what is learnt.
    let messages = call("12345678901234567890123");
    let list = messages[messages.find('[').unwrap()..messages.rfind('}').unwrap()].replace('"', "\"\"");
    let said = problem(&with_data("a.csv", "messages", format!("messages,id\n\"{list}\",1\n")));
    assert!(said.contains(lost), "{said}");
    let pair = "{\"prompt\": \"a\", \"completion\": 12345678901234567890123}\n";
    assert!(problem(&with_data("a.jsonl", "prompt_completion", pair)).contains(lost));
    // A long list, and one that is not used.
    let ids = format!("[{}, 1e400]", vec!["12"; 40_000].join(", "));
    let said = problem(&with_data("a.jsonl", "tokens", format!("{{\"input_ids\": {ids}}}\n")));
    assert!(said.contains("`input_ids[40000]` must be a token id, found a number beyond 1.8e308"), "{said}");
    let bench = with_data(
        "a.jsonl",
        "prompt_completion",
        "{\"prompt\": \"a\", \"completion\": \"b\", \"id\": 12345678901234567890123, \"x\": 1e400}\n",
    );
    bench.run("data stats d.yaml").ok();
}

#[test]
fn what_is_mistyped_or_elsewhere_is_found() {
    let bench = with_data("data/faq.csv", "auto", "prompt,completion\na,b\n");
    let hint = |args: &str| {
        let said = bench.run(args);
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        said.problem().to_owned()
    };
    bench.write("models/gemma-3-270m-q4_k_m.gguf", "x");
    bench.write("in.jsonl", "{\"prompt\": \"a\"}\n");
    for (args, meant) in [
        ("train --model t --data data/fag.csv", "did you mean `data/faq.csv`?"),
        ("recipe check d.yaml --set data.train=dta/faq.csv", "did you mean `data/faq.csv`?"),
        ("recipe check d.yml", "did you mean `d.yaml`?"),
        ("train --model gemma-3-270m --data data/faq.csv", "did you mean `models/gemma-3-270m-q4_k_m.gguf`?"),
        (
            "train --model models/gemma-3-270m.gguf --data data/faq.csv",
            "did you mean `models/gemma-3-270m-q4_k_m.gguf`?",
        ),
        ("generate --model t --input im.jsonl", "did you mean `in.jsonl`?"),
        ("recipe check d.yaml --set model.quantization=off", "it is called `none` here"),
        ("recipe check d.yaml --set data.eval_fraction=20%", "write `0.2`"),
        ("recipe check d.yaml --set training.learning_rate=0,0002", "write `0.0002`"),
        ("generate --model t --prompt a --temperature 0,5", "write `0.5`"),
        (
            "train data/faq.csv",
            "name it with `--data`: `gemma-tune train --model M --data data/faq.csv` needs no recipe",
        ),
        ("data preview data/faq.csv", "this is a file of data, not a recipe"),
        ("train models/gemma-3-270m-q4_k_m.gguf", "name it with `--model`"),
        ("train t", "`gemma-tune train --model t --data FILE` trains it without a recipe"),
        ("train d.yaml --max_steps 5", "keys of a recipe are changed with `--set training.max_steps=5`"),
        ("data preview --data data/faq.csv", "`gemma-tune init --data data/faq.csv` writes one"),
    ] {
        let said = bench.run(args);
        assert_eq!(said.code, Some(2), "{args}: {}", said.stderr);
        assert!(said.stderr.contains(meant), "{args}: {}", said.stderr);
    }
    // Where nothing is near, where it was looked for.
    let said = hint("recipe check d.yaml --set data.train=gone.jsonl");
    assert!(
        said.contains("relative paths start at the folder in which the program runs: it would be `gone.jsonl`"),
        "{said}"
    );
}

#[test]
fn paths_that_lead_somewhere_from_the_recipe_alone_are_explained() {
    let bench = with_data("project/rows.csv", "auto", "prompt,completion\na,b\n");
    crate::bench::copy(&bench.path("t"), &bench.path("project/t"));
    std::fs::remove_dir_all(bench.path("t")).unwrap();
    recipe(&bench, "rows.csv", "auto");
    std::fs::rename(bench.path("d.yaml"), bench.path("project/d.yaml")).unwrap();
    for verb in ["recipe check", "data stats", "train --dry-run"] {
        let said = bench.run(&format!("{verb} project/d.yaml"));
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        let model = "not at that of the recipe: `project/t` is there; name it so, or run the program in `project`";
        assert!(said.problem().contains(model), "{verb}: {}", said.stderr);
    }
    let said = bench.run("data stats project/d.yaml --set model.base=project/t");
    assert!(said.problem().contains("`project/rows.csv` is there; name it so"), "{}", said.stderr);
    bench.run("data stats project/d.yaml --set model.base=project/t --set data.train=project/rows.csv").ok();
    let mut inside = bench.command("train d.yaml --set training.max_steps=1");
    bench.said(inside.current_dir(bench.path("project"))).ok();
    let sets = "--set model.base=project/t --set data.train=project/rows.csv";
    let said = bench.run(&format!("train project/d.yaml --resume {sets}"));
    assert!(said.problem().contains("`project/out` is there; name it so"), "{}", said.stderr);
}

#[test]
fn what_is_nested_deeply_is_an_error_and_no_crash() {
    let deep = "[".repeat(200_000);
    let bench = with_data("a.jsonl", "messages", format!("{{\"messages\": {deep}\n"));
    assert!(problem(&bench).contains("a.jsonl, row 1"));
    bench.write("a.jsonl", format!("{{\"messages\": \"{deep}\"}}\n"));
    assert!(problem(&bench).contains("a.jsonl, row 1"), "JSON in a text");
    bench.write("deep.yaml", format!("model: {deep}"));
    assert_eq!(bench.run("recipe check deep.yaml").code, Some(2));
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        let bench = Bench::new().with_text();
        bench.write("text.jsonl", "{\"text\": \"a\"}\n");
        bench.write(&format!("t/{file}"), format!("{{\"a\": {deep}"));
        let said = bench.run("score --model t --input text.jsonl");
        assert_eq!(said.code, Some(2), "{file}: {}", said.stderr);
    }
}

#[test]
fn expressions_and_reports_are_bounded() {
    let bench = Bench::new();
    let started = std::time::Instant::now();
    for pattern in ["(\\\\w{200}){200}", "((((.{50}){50}){50}){50})", &"(a|".repeat(5000)] {
        bench.write("x.yaml", bench.text("r.yaml").replace("all-linear", &format!("\"{pattern}\"")));
        let said = bench.run("recipe check x.yaml");
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.len() < 20_000, "{} bytes", said.stderr.len());
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());

    let sources: Vec<String> = (0..5000).map(|i| format!("gone{i}.jsonl")).collect();
    bench.write(
        "many.yaml",
        format!(
            "model: {{base: m}}\ndata: {{train: [{}], format: tokens}}\noutput: {{dir: out}}\n",
            sources.join(", ")
        ),
    );
    for command in ["recipe check many.yaml", "data stats many.yaml"] {
        let said = bench.run(command);
        assert_eq!(said.code, Some(2), "{command}");
        assert!(said.stderr.matches("error: ").count() <= 24, "{command}: {}", said.stderr.matches("error: ").count());
        assert!(said.stderr.contains("more"), "{command}");
    }
}
