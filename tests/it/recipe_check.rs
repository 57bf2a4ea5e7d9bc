//! `recipe check`: every mistake at once, of keys and of files.

use crate::bench::{Bench, copy, golden};
use serde_json::{Value, json};

/// What is said of a recipe, which must be wrong.
fn problem(bench: &Bench, command: &str) -> String {
    let said = bench.run(command);
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
    said.problem().to_owned()
}

#[test]
fn wrong_values_and_missing_files_are_found_together() {
    let bench = Bench::new();
    bench.write(
        "wrong.yaml",
        "\
model: {base: models/gemma.gguf}
adapter:
  target_modules: [q_proj, v_porj]
data:
  train: data/no_rows.jsonl
training:
  learning_rate: 5
output: {dir: out}
",
    );
    insta::assert_snapshot!(problem(&bench, "recipe check wrong.yaml"), @r##"
error: there is no model at `models/gemma.gguf`
  --> wrong.yaml:1:15
  1 | model: {base: models/gemma.gguf}
    |               ^^^^^^^^^^^^^^^^^
  hint: nothing is at that path: `models` does not exist; a Hub id is `owner/name[@revision]`

error: `target_modules` entry `v_porj` matches no module
  --> wrong.yaml:3:28
  3 |   target_modules: [q_proj, v_porj]
    |                            ^^^^^^
  hint: did you mean `v_proj`?

error: data file `data/no_rows.jsonl` does not exist
  --> wrong.yaml:5:10
  5 |   train: data/no_rows.jsonl
    |          ^^^^^^^^^^^^^^^^^^
  hint: relative paths start at the folder in which the program runs: it would be `data/no_rows.jsonl`

error: `training.learning_rate` must be below 1 with `optimizer: adamw`, which moves each weight that far in a step
  --> wrong.yaml:7:18
  7 |   learning_rate: 5
    |                  ^
  hint: adapters learn at 1.0e-5 to 1.0e-3; the default is 2.0e-4

4 problems
"##);

    // Without files only what is written counts, and so it does for every verb that reads the recipe.
    let values = problem(&bench, "recipe check wrong.yaml --no-files");
    insta::assert_snapshot!(values, @r##"
error: `target_modules` entry `v_porj` matches no module
  --> wrong.yaml:3:28
  3 |   target_modules: [q_proj, v_porj]
    |                            ^^^^^^
  hint: did you mean `v_proj`?

error: `training.learning_rate` must be below 1 with `optimizer: adamw`, which moves each weight that far in a step
  --> wrong.yaml:7:18
  7 |   learning_rate: 5
    |                  ^
  hint: adapters learn at 1.0e-5 to 1.0e-3; the default is 2.0e-4

2 problems
"##);
    for verb in ["train", "estimate", "data stats", "recipe show"] {
        assert_eq!(problem(&bench, &format!("{verb} wrong.yaml")), values, "{verb}");
    }
}

#[test]
fn programs_read_what_is_wrong() {
    let bench = Bench::new();
    let problems = |text: &str, more: &str, code: i32| {
        bench.write("c.yaml", text);
        let said = bench.run(&format!("recipe check c.yaml --json {more}"));
        assert_eq!(said.code, Some(code), "{}", said.stderr);
        let list: Vec<Value> = serde_json::from_str(&said.stdout).expect("a JSON list");
        list
    };
    let wrong = "model: {base: m}\ndata:\n  train: gone.jsonl\n  colour: red\noutput: {dir: out}\n";
    let found = problems(wrong, "--set training.seed=-1", 2);
    let place = |problem: &Value| {
        ["file", "line", "column", "key"].map(|field| problem[field].to_string()).join(" ").replace('"', "")
    };
    let places: Vec<String> = found.iter().map(place).collect();
    assert_eq!(
        places,
        ["c.yaml 3 10 data.train[0].path", "c.yaml 4 3 data.colour", "null null null training.seed"],
        "{found:?}"
    );
    assert_eq!((&found[0]["severity"], &found[0]["row"]), (&json!("error"), &json!(null)));
    assert_eq!(found[0]["what"], "data file `gone.jsonl` does not exist");
    assert!(found[0]["hint"].as_str().is_some_and(|hint| hint.starts_with("relative paths")), "{found:?}");
    assert_eq!((&found[1]["place"], &found[2]["place"]), (&json!("c.yaml:4:3"), &json!("--set training.seed=-1")));

    let right = "model: {base: m}\ndata: {train: rows.jsonl, format: tokens}\noutput: {dir: out}\n";
    assert_eq!(problems(right, "", 0), Vec::<Value>::new());
    bench.write("rows.jsonl", "{\"input_ids\": []}\n");
    let rows = problems(right, "", 2);
    assert_eq!((&rows[0]["file"], &rows[0]["row"]), (&json!("rows.jsonl"), &json!(1)), "{rows:?}");
    assert_eq!(problems(right, "--no-files", 0), Vec::<Value>::new());
    let gone = bench.run("recipe check nowhere.yaml --json");
    assert_eq!(gone.code, Some(2), "{}", gone.stderr);
    let list: Vec<Value> = serde_json::from_str(&gone.stdout).expect("a JSON list");
    assert_eq!((list.len(), &list[0]["file"]), (1, &json!("nowhere.yaml")));
    // What is only warned of is in the list, too.
    copy(&bench.path("m"), &bench.path("models/gemma-tiny"));
    let near = right.replace("base: m", "base: models/gemma-tny");
    let warned = problems(&near, "--set data.train=chats.jsonl", 2);
    let severities: Vec<&Value> = warned.iter().map(|problem| &problem["severity"]).collect();
    assert_eq!(severities, ["error", "warning"], "{warned:?}");
}

#[test]
fn every_file_that_a_recipe_names_is_looked_for() {
    let bench = Bench::new();
    copy(&golden("model/lora/adapter"), &bench.path("old"));
    bench.write("notes.doc", "");
    bench.write("folder/a.doc", "");
    bench.write(
        "wrong.yaml",
        "\
model: {base: old}
adapter: {init_from: older}
data:
  train:
    - rows.jsonl
    - data/part-*.jsonl
    - {path: notes.doc, fromat: text}
    - {path: gone.csv, format: alpca}
    - 7
    - folder
    - {path: rows.jsonl, split: test}
    - hf://datasets/owner
    - hf://datasets/owner/name
  eval: gone.jsonl
output: {dir: out}
",
    );
    insta::assert_snapshot!(problem(&bench, "recipe check wrong.yaml"), @r##"
error: the folder holds no model: there is no `config.json`
  --> wrong.yaml:1:15
  1 | model: {base: old}
    |               ^^^
  hint: this is an adapter's folder: name its base model here, and `old` under `adapter.init_from`

error: no such folder
  --> wrong.yaml:2:22
  2 | adapter: {init_from: older}
    |                      ^^^^^
  hint: did you mean `old`?

error: `data/part-*.jsonl` matches no file
  --> wrong.yaml:6:7
  6 |     - data/part-*.jsonl
    |       ^^^^^^^^^^^^^^^^^
  hint: relative paths start at the folder in which the program runs: it would be `data/part-*.jsonl`

error: `notes.doc` is of no kind that can be read
  --> wrong.yaml:7:14
  7 |     - {path: notes.doc, fromat: text}
    |              ^^^^^^^^^
  hint: data files end in .jsonl, .json, .csv, .tsv, .txt, .md (also with .gz or .zst), .parquet or .arrow

error: unknown key `fromat` in `data.train[]`
  --> wrong.yaml:7:25
  7 |     - {path: notes.doc, fromat: text}
    |                         ^^^^^^
  hint: did you mean `format`?

error: data file `gone.csv` does not exist
  --> wrong.yaml:8:14
  8 |     - {path: gone.csv, format: alpca}
    |              ^^^^^^^^
  hint: relative paths start at the folder in which the program runs: it would be `gone.csv`

error: `data.train[3].format` must be one of `auto`, `messages`, `prompt_completion`, `alpaca`, `sharegpt`, `text`, `tokens`, `preference`, `unpaired`, `prompt_only`, found `alpca`
  --> wrong.yaml:8:32
  8 |     - {path: gone.csv, format: alpca}
    |                                ^^^^^
  hint: did you mean `alpaca`?

error: `data.train[4]` must be text, found the number `7`
  --> wrong.yaml:9:7
  9 |     - 7
    |       ^
  hint: put quotes around it: `"7"`

error: `folder` is a folder without data files
  --> wrong.yaml:10:7
  10 |     - folder
     |       ^^^^^^
  hint: name files with a glob, such as `folder/*.jsonl`

error: `rows.jsonl` has no split `test`: it is a local file
  --> wrong.yaml:11:14
  11 |     - {path: rows.jsonl, split: test}
     |              ^^^^^^^^^^
  hint: `split` chooses among the splits of an `hf://` data set; name another file instead

error: `hf://datasets/owner` names no repository
  --> wrong.yaml:12:7
  12 |     - hf://datasets/owner
     |       ^^^^^^^^^^^^^^^^^^^
  hint: a data set of the Hub is `hf://datasets/owner/name`, with `@revision` and `/path/inside` if need be

error: data file `gone.jsonl` does not exist
  --> wrong.yaml:14:9
  14 |   eval: gone.jsonl
     |         ^^^^^^^^^^
  hint: relative paths start at the folder in which the program runs: it would be `gone.jsonl`

12 problems
"##);
}

#[test]
fn what_is_there_or_may_be_on_the_hub_is_no_problem() {
    let bench = Bench::new();
    copy(&golden("model/lora/adapter"), &bench.path("old"));
    bench.write("part-1.jsonl", "{\"input_ids\": [1, 2, 3]}\n");
    for sets in [
        "",
        "--set model.base=google/gemma-3-1b-it@main --set data.train=hf://datasets/owner/name",
        "--set data.train=part-*.jsonl --set adapter.init_from=old",
        "--set model.base=nowhere/at/all.gguf --set data.train=gone.jsonl --set adapter.init_from=gone --no-files",
    ] {
        let said = bench.run(&format!("recipe check r.yaml {sets}"));
        let lines: Vec<&str> = said.stderr.lines().filter(|line| !line.contains(" -> ")).collect();
        assert_eq!((said.code, lines[0]), (Some(0), "r.yaml: no problems"), "{sets}: {}", said.stderr);
        let looked = match sets {
            "" => vec![
                "Looked at: its keys, the files that it names, 40 rows of data. Not looked at: whether rows fit the model",
            ],
            _ if sets.contains("--no-files") => Vec::new(),
            _ if sets.contains("hf://") => vec![
                "0 rows of data",
                "`hf://datasets/owner/name`, which is on the Hub",
                "the model `google/gemma-3-1b-it@main`, which is not on this machine",
            ],
            _ => vec!["1 row of data"],
        };
        assert_eq!(lines.len(), 1 + usize::from(!looked.is_empty()), "{sets}: {}", said.stderr);
        assert!(looked.iter().all(|words| lines[1].contains(words)), "{sets}: {}", said.stderr);
    }
    // What the command line names is shown there.
    let sets = "--set model.base=./n --set data.eval=gone.jsonl --set data.eval_fraction=0 --set output.dir=rows.jsonl";
    insta::assert_snapshot!(problem(&bench, &format!("recipe check r.yaml {sets}")), @r##"
error: there is no model at `./n`
  --> --set model.base=./n
  hint: nothing is at that path: `./n` does not exist; a Hub id is `owner/name[@revision]`

error: data file `gone.jsonl` does not exist
  --> --set data.eval=gone.jsonl
  hint: relative paths start at the folder in which the program runs: it would be `gone.jsonl`

error: `output.dir` needs a folder, and `rows.jsonl` is a file
  --> --set output.dir=rows.jsonl
  hint: choose another `output.dir`

3 problems
"##);
}

#[test]
fn a_model_whose_files_cannot_be_read_is_named() {
    let bench = Bench::new();
    bench.write("bad.gguf", "xx");
    copy(&golden("model/lora/model"), &bench.path("empty"));
    std::fs::remove_file(bench.path("empty/model.safetensors")).expect("weights to take away");
    for (base, what) in [("bad.gguf", "the magic number needs 4 bytes"), ("empty", "`model.safetensors`")] {
        let problem = problem(&bench, &format!("recipe check r.yaml --set model.base={base}"));
        assert!(problem.contains(what) && problem.contains(&format!("--> --set model.base={base}")), "{problem}");
    }
}
