//! What rows mean: formats seen from columns, renamed columns, prompts as turns, long texts as several rows.

use crate::bench::{Bench, Said, lines};
use serde_json::{Value, json};

/// Trains text with a recipe of defaults; `keys` go below `data`.
fn recipe(keys: &str) -> String {
    format!(
        "model: {{base: t, dtype: f32}}\nadapter: {{r: 2, target_modules: [q_proj]}}\ndata:\n  {}\n\
         training: {{max_steps: 2}}\noutput: {{dir: out}}\n",
        keys.replace('\n', "\n  ")
    )
}

fn bench(keys: &str) -> Bench {
    let bench = Bench::new().with_text();
    bench.write("r.yaml", recipe(keys));
    bench
}

fn preview(bench: &Bench) -> Vec<Value> {
    let shown = bench.run("data preview r.yaml --rows 20 --json").ok();
    shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(bench: &Bench) -> Vec<(Value, Value)> {
    preview(bench).into_iter().map(|mut row| (row["input_ids"].take(), row["labels"].take())).collect()
}

const PAIRS: [(&str, &str); 2] = [("What is two and two?", "Four."), ("And a cat?", "An animal.")];

/// The rows of [`PAIRS`], each as `of` says.
fn pairs(of: impl Fn(&str, &str) -> Value) -> String {
    lines(&PAIRS.map(|(prompt, answer)| of(prompt, answer)))
}

#[test]
fn every_way_to_write_a_question_and_its_answer_is_the_same_conversation() {
    let bench = bench("{train: chats.jsonl}");
    let expected = ids(&bench);
    assert_eq!(expected.len(), 2);
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let from = |who: &str, value: &str| json!({"from": who, "value": value});
    for (text, note) in [
        (
            pairs(|p, a| json!({"prompt": p, "completion": a})),
            "prompt, completion -> prompt_completion, through the chat template",
        ),
        (
            pairs(|p, a| json!({"question": p, "answer": a, "id": 7})),
            "question, answer -> prompt_completion, through the chat template; unused: id",
        ),
        (
            pairs(|p, a| json!({"Query ": p, "RESPONSE": a})),
            "Query, RESPONSE -> prompt_completion, through the chat template",
        ),
        (
            pairs(|p, a| json!({"input": p, "output": a})),
            "input, output -> prompt_completion, through the chat template",
        ),
        (pairs(|p, a| json!({"instruction": p, "input": "", "output": a})), "instruction, input, output -> alpaca"),
        (pairs(|p, a| json!({"instruction": p, "response": a})), "instruction, response -> alpaca"),
        (pairs(|p, a| json!({"conversations": [from("human", p), from("gpt", a)]})), "conversations -> sharegpt"),
        (pairs(|p, a| json!({"conversations": [said("user", p), said("assistant", a)]})), "conversations -> sharegpt"),
        (pairs(|p, a| json!({"messages": [said("user", p), said("assistant", a)]})), "messages -> messages"),
        (
            pairs(|p, a| json!({"prompt": [said("user", p)], "completion": [said("assistant", a)]})),
            "prompt, completion -> prompt_completion",
        ),
    ] {
        bench.write("rows.jsonl", &text);
        bench.write("r.yaml", recipe("{train: rows.jsonl}"));
        assert_eq!(ids(&bench), expected, "{text}");
        let said = bench.run("data stats r.yaml").stderr;
        assert!(said.contains(&format!("rows.jsonl: {note}")), "{note}\n{said}");
    }
}

#[test]
fn a_spreadsheet_is_seen_too() {
    let bench = bench("{train: chats.jsonl}");
    let expected = ids(&bench);
    bench.write("faq.csv", "Question , ANSWER\n\"What is two and two?\",Four.\n\"And a cat?\",An animal.\n");
    bench.write("r.yaml", recipe("{train: faq.csv}"));
    assert_eq!(ids(&bench), expected);
}

#[test]
fn columns_are_called_what_the_recipe_says() {
    let bench = bench("{train: chats.jsonl}");
    let expected = ids(&bench);
    bench.write("rows.jsonl", pairs(|p, a| json!({"frage": p, "antwort": a, "prompt": "not this"})));
    bench.write("rows.csv", "antwort,frage\nFour.,What is two and two?\nAn animal.,And a cat?\n");
    for keys in [
        "{train: rows.jsonl, columns: {prompt: frage, completion: antwort}}",
        "{train: rows.csv, columns: {prompt: frage, completion: antwort}}",
        "{train: [{path: rows.csv, format: prompt_completion, columns: {prompt: frage, completion: antwort}}], columns: {prompt: id}}",
        "{train: rows.csv, format: alpaca, columns: {instruction: frage, output: antwort}}",
    ] {
        bench.write("r.yaml", recipe(keys));
        assert_eq!(ids(&bench), expected, "{keys}");
    }
    let problem = |keys: &str| {
        bench.write("r.yaml", recipe(keys));
        let said: Said = bench.run("data stats r.yaml");
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        said.problem().to_owned()
    };
    insta::assert_snapshot!(problem("{train: rows.csv, columns: {prompt: frege, completion: antwort}}"), @r#"
error: `rows.csv` has no column `frege`, which `data.columns` names for `prompt`
  --> r.yaml:4:39
  4 |   {train: rows.csv, columns: {prompt: frege, completion: antwort}}
    |                                       ^^^^^
  hint: columns found: `antwort`, `frage`; did you mean `frage`?
"#);
    insta::assert_snapshot!(problem("{train: rows.csv, columns: {prompt: frage, frage: prompt, anwser: x}}"), @r#"
error: `data.columns`: no format has a column `frage`
  --> r.yaml:4:46
  4 |   {train: rows.csv, columns: {prompt: frage, frage: prompt, anwser: x}}
    |                                              ^^^^^
  hint: the format's name comes first: `prompt: frage`

error: `data.columns`: no format has a column `anwser`
  --> r.yaml:4:61
  4 | ain: rows.csv, columns: {prompt: frage, frage: prompt, anwser: x}}
    |                                                        ^^^^^^
  hint: formats call it `completion`

2 problems
"#);
    insta::assert_snapshot!(problem("{train: rows.csv, format: text, columns: {prompt: frage}}"), @r#"
error: `data.columns.prompt`: format `text` has no such column
  --> r.yaml:4:53
  4 |   {train: rows.csv, format: text, columns: {prompt: frage}}
    |                                                     ^^^^^
  hint: it has: text, file_name
"#);
    insta::assert_snapshot!(problem("{train: rows.csv, columns: {prompt: frage, completion: frage}}"), @r#"
error: `data.columns` gives column `frage` two meanings
  --> r.yaml:4:30
  4 |   {train: rows.csv, columns: {prompt: frage, completion: frage}}
    |                              ^
"#);
}

#[test]
fn prompts_are_turns_unless_the_recipe_says_plain_text() {
    let bench = bench("{train: chats.jsonl}");
    let turns = ids(&bench);
    bench.write("rows.jsonl", pairs(|p, a| json!({"prompt": p, "completion": a})));
    let of = |keys: &str| {
        bench.write("r.yaml", recipe(keys));
        ids(&bench)
    };
    assert_eq!(of("{train: rows.jsonl, format: prompt_completion}"), turns);
    let plain = of("{train: rows.jsonl, template: false}");
    assert_eq!(of("{train: [{path: rows.jsonl, format: prompt_completion, template: false}]}"), plain);
    assert_eq!(of("{train: [{path: rows.jsonl, template: true}], template: false}"), turns);
    assert!(
        plain
            .iter()
            .zip(&turns)
            .all(|(plain, turns)| plain.0.as_array().unwrap().len() < turns.0.as_array().unwrap().len())
    );
    // Messages are messages, whatever is said of texts.
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    bench.write("rows.jsonl", pairs(|p, a| json!({"prompt": [said("user", p)], "completion": [said("assistant", a)]})));
    assert_eq!(of("{train: rows.jsonl, template: false}"), turns);
}

#[test]
fn what_fits_no_format_or_several_is_named_with_its_columns() {
    let bench = bench("{train: rows.jsonl}");
    let problem = |rows: &[Value]| {
        bench.write("rows.jsonl", lines(rows));
        let said = bench.run("data stats r.yaml");
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        said.problem().to_owned()
    };
    insta::assert_snapshot!(problem(&[json!({"a": "1", "b": "2"})]), @r#"
error: the columns fit no format that is known
  --> rows.jsonl
  hint: columns found: `a`, `b`; `data.columns: {prompt: a, completion: b}` reads them as question and answer
"#);
    insta::assert_snapshot!(problem(&[json!({"question": "1", "answer": "2", "completion": "3"})]), @r#"
error: the columns fit more than one format: `prompt_completion` (`question`, `completion`), or `prompt_completion` (`question`, `answer`)
  --> rows.jsonl
  hint: columns found: `question`, `answer`, `completion`; say which, for example `data.columns: {completion: answer}`
"#);
    insta::assert_snapshot!(problem(&[json!({"messages": [], "prompt": "", "completion": ""})]), @r#"
error: the columns fit more than one format: `messages` (`messages`), or `prompt_completion` (`prompt`, `completion`)
  --> rows.jsonl
  hint: columns found: `messages`, `prompt`, `completion`; say which: `data.format: messages` or `data.format: prompt_completion`
"#);
    insta::assert_snapshot!(problem(&[json!({"text": "1"}), json!({"prompt": "1", "completion": "2"})]), @r#"
error: row 1 is `text` (`text`), row 2 is `prompt_completion` (`prompt`, `completion`)
  --> rows.jsonl
  hint: give each kind of rows a file of its own, or say what they are in `data.format`
"#);
    insta::assert_snapshot!(problem(&[json!({"prompt": "1", "chosen": "2", "rejected": "3"})]), @r#"
error: the rows are preference rows (`chosen`, `rejected`), which `sft` does not train
  --> rows.jsonl
  hint: columns found: `prompt`, `chosen`, `rejected`; `task: dpo` learns which answer is preferred; to train on the chosen answers, set `data.columns: {completion: chosen}` and `data.format: prompt_completion`
"#);
    insta::assert_snapshot!(problem(&[json!({"prompt": "1", "completion": "2", "label": true})]), @r#"
error: the columns fit more than one format: `prompt_completion` (`prompt`, `completion`), or `unpaired` (`prompt`, `completion`, `label`)
  --> rows.jsonl
  hint: columns found: `prompt`, `completion`, `label`; say which: `data.format: prompt_completion`; `sft` does not train unpaired rows, `task: kto` does
"#);
    insta::assert_snapshot!(problem(&[json!({"prompt": "1", "label": false})]), @r#"
error: the rows are unpaired rows (`prompt`, `label`), which `sft` does not train
  --> rows.jsonl
  hint: columns found: `prompt`, `label`; `task: kto` learns from good and bad answers; `sft` learns every answer it is given: keep the rows whose answer is good, and leave `label` out
"#);
    let routed = problem(&[json!({"Prompt": "1", "Label": "Local"})]);
    assert!(
        routed.contains("`task: reward` with `data.format: unpaired` learns who is to answer a prompt; `sft` needs"),
        "{routed}"
    );
    insta::assert_snapshot!(problem(&[json!({"prompt": "1"})]), @r#"
error: the rows are prompt_only rows (`prompt`), which `sft` does not train
  --> rows.jsonl
  hint: columns found: `prompt`; `task: grpo` learns from its own answers to prompts; `sft` needs an answer to each prompt: name its column with `data.columns: {completion: ..}`
"#);
}

/// The keys with values that a hint names, as `--set` takes them.
fn advised(problem: &str) -> Vec<String> {
    let hint = problem.split("hint: ").nth(1).expect("a hint");
    let code = hint.split('`').skip(1).step_by(2);
    code.filter(|code| code.starts_with("data.") && code.contains(": "))
        .map(|code| code.replacen(": ", "=", 1))
        .collect()
}

#[test]
fn rows_are_read_once_the_hint_is_followed() {
    let bench = bench("{train: rows.jsonl}");
    let turns = |answer: &str| json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]);
    let (asked, answer) = (json!([{"role": "user", "content": "Hi"}]), json!([{"role": "assistant", "content": "Ho"}]));
    for row in [
        json!({"frage": "a b"}),
        json!({"frage": "a", "antwort": "b"}),
        json!({"question": "a", "prompt": "c", "answer": "b"}),
        json!({"question": "a", "answer": "b", "completion": "c"}),
        json!({"messages": turns("Ho"), "prompt": "a", "chosen": "b", "rejected": "c"}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
        json!({"prompt": "a", "chosen": turns("Ho"), "rejected": turns("No")}),
        json!({"prompt": asked, "chosen": answer, "rejected": answer}),
        json!({"chosen": turns("Ho"), "rejected": turns("No")}),
        json!({"chosen": "Human: Hi", "rejected": "Human: No"}),
        json!({"prompt": "a", "completion": "b", "label": true}),
    ] {
        bench.write("rows.jsonl", lines(&[row.clone(), row.clone()]));
        let said = bench.run("data stats r.yaml");
        assert_eq!(said.code, Some(2), "{row}: {}", said.stderr);
        let mut command = bench.command("data stats r.yaml");
        for advice in advised(said.problem()) {
            command.arg("--set").arg(advice);
        }
        let followed = bench.said(&mut command);
        assert_eq!(followed.code, Some(0), "{row}: {}\n{}", said.stderr, followed.stderr);
    }
}

#[test]
fn a_book_becomes_rows_and_no_word_is_lost_or_learnt_twice() {
    let bench = bench("{train: book.jsonl, max_length: 16}");
    let book: String = (0..200).map(|i| format!("The cat number {i} sat on a mat. ")).collect();
    bench.write("book.jsonl", lines(&[json!({"text": book}), json!({"text": "Short."})]));
    let rows = ids_of_all(&bench);
    bench.write("r.yaml", recipe("{train: book.jsonl, max_length: 100000}"));
    let whole = ids_of_all(&bench);
    assert_eq!((whole.len(), rows.last()), (2, whole.last()));
    let parts = &rows[..rows.len() - 1];
    assert!(parts.iter().all(|(ids, _)| ids.len() <= 16 && ids[0] == whole[0].0[0]), "each begins with <bos>");
    let joined: Vec<u64> = parts.iter().flat_map(|(ids, _)| ids[1..].to_vec()).collect();
    assert_eq!(joined, whole[0].0[1..]);
    let learnt: Vec<i64> = parts.iter().flat_map(|(_, labels)| labels[1..].to_vec()).collect();
    assert_eq!(learnt, whole[0].1[1..]);

    bench.write("r.yaml", recipe("{train: book.jsonl, max_length: 16, on_long: truncate}"));
    assert_eq!(ids_of_all(&bench).len(), 2);
    bench.write("r.yaml", recipe("{train: chats.jsonl, on_long: split}"));
    let said = bench.run("data stats r.yaml");
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!(said.problem(), @r#"
error: `on_long: split` is for plain text, and these rows are `messages`
  --> r.yaml:4:33
  4 |   {train: chats.jsonl, on_long: split}
    |                                 ^^^^^
  hint: leave `on_long` out: then text is split, and other rows are truncated
"#);
    bench.write("r.yaml", recipe("{train: chats.jsonl, format: messages, on_long: split}"));
    let said = bench.run("recipe check r.yaml");
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!(said.problem(), @r#"
error: `on_long: split` is for plain text, and these rows are `messages`
  --> r.yaml:4:51
  4 |   {train: chats.jsonl, format: messages, on_long: split}
    |                                                   ^^^^^
  hint: leave `on_long` out: then text is split, and other rows are truncated
"#);
}

fn ids_of_all(bench: &Bench) -> Vec<(Vec<u64>, Vec<i64>)> {
    let shown = bench.run("data preview r.yaml --rows 100000 --json").ok();
    let rows = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| {
        let ids = row["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        (ids, row["labels"].as_array().unwrap().iter().map(|label| label.as_i64().unwrap()).collect())
    })
    .collect()
}

#[test]
fn rows_are_held_back_where_there_are_enough() {
    let bench = bench("{train: rows.jsonl, eval_fraction: auto}");
    let rows = |count: usize| -> String {
        lines(&(0..count).map(|i| json!({"text": format!("Row {i} of them.")})).collect::<Vec<_>>())
    };
    let trained = |bench: &Bench| {
        let said = bench.run("data stats r.yaml --json");
        (said.stderr.clone(), said.json()["rows"].as_u64().unwrap())
    };
    bench.write("rows.jsonl", rows(99));
    let (said, count) = trained(&bench);
    assert_eq!(count, 99, "{said}");
    assert!(said.contains("No rows are held back for evaluation: there are 99, and `auto` asks for 100."), "{said}");
    bench.write("rows.jsonl", rows(400));
    let (said, count) = trained(&bench);
    assert!((300..400).contains(&count), "{count}");
    assert!(said.contains(&format!("{} of 400 rows are held back for evaluation.", 400 - count)), "{said}");
    assert_eq!(trained(&bench).1, count, "the seed decides");
    bench.write("rows.jsonl", "{\"text\": \"Always the same.\"}\n".repeat(200));
    assert_eq!(trained(&bench).1, 200);
}

#[test]
fn what_is_cut_left_out_or_not_used_is_said_everywhere() {
    let bench = bench("{train: [rows.jsonl, book.txt], max_length: 32, on_bad_row: skip}");
    let long = "a very long answer ".repeat(40);
    let rows = [
        json!({"question": "Two and two?", "answer": "Four.", "id": 1}),
        json!({"question": "Tell me all.", "answer": long}),
        json!({"question": "Nothing?", "answer": ""}),
        json!({"question": "And this?"}),
    ];
    bench.write("rows.jsonl", lines(&rows));
    bench.write("book.txt", "The cat sat on a mat. ".repeat(50));
    let expected = [
        "end cut off at max_length 32: 1 row (20.0 %), ",
        "; rows.jsonl, row 2",
        " rows of at most 32 tokens: 1 row (20.0 %), ",
        "; book.txt, row 1",
        "empty answers: 1 row (20.0 %)",
        "; rows.jsonl, row 3",
        "skipped, columns do not fit the format: 1 row (20.0 %); rows.jsonl, row 4",
    ];
    let stats = bench.run("data stats r.yaml").ok();
    let plan = bench.run("train r.yaml --dry-run").ok();
    let talk = bench.run("train r.yaml");
    assert_eq!(talk.code, Some(0), "{}", talk.stderr);
    for said in [&stats, &plan, &talk.stderr] {
        for words in expected {
            assert!(said.contains(words), "{words}\n{said}");
        }
    }
    assert!(stats.contains("not used                      1  rows have `id`"), "{stats}");
    assert!(stats.contains("rows.jsonl (prompt_completion, through the chat template): "), "{stats}");
    assert!(plan.contains("  book.txt: "), "{plan}");
    let summary: Value = serde_json::from_str(&bench.text("out/summary.json")).unwrap();
    let left_out = summary["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 4, "{summary}");
    assert_eq!((&left_out[0]["rows"], &left_out[0]["first"]), (&json!(1), &json!("rows.jsonl, row 2")));
    assert!(left_out[0]["tokens"].as_u64().unwrap() > 100, "{summary}");
    let stats = bench.run("data stats r.yaml --json").json();
    assert_eq!(stats["left_out"], summary["left_out"]);
    assert_eq!(stats["sources"][0]["left_out"].as_array().unwrap().len(), 3, "{stats}");
}

#[test]
fn a_preview_in_a_pipe_marks_what_is_learnt() {
    let bench = bench("{train: [chats.jsonl, book.txt], max_length: 32}");
    bench.write("book.txt", "The cat sat on a mat. ".repeat(50));
    let shown = bench.run("data preview r.yaml --rows 4").ok();
    assert!(shown.contains("--- chats.jsonl, row 1 · "), "{shown}");
    assert!(shown.contains("⟦Four.<end_of_turn>⟧") || shown.contains("⟦Four."), "{shown}");
    assert!(shown.contains(" · messages\n"), "{shown}");
    assert!(shown.contains("book.txt, row 1, part 2 of "), "{shown}");
}

#[test]
fn files_and_folders_of_text_are_text() {
    let bench = bench("{train: notes, max_length: 64}");
    bench.write("notes/a.txt", "First note.\n");
    bench.write("notes/b.md", "# Second\n\nnote with \"quotes\".\n");
    bench.write("notes/README.md", "about these notes");
    let said = bench.run("data stats r.yaml --json");
    assert!(said.stderr.contains("notes (2 files, from notes/a.txt): plain text -> text"), "{}", said.stderr);
    let stats = said.json();
    assert_eq!((&stats["rows"], &stats["sources"][0]["format"]), (&json!(2), &json!("text")));
    bench.write("notes/c.jsonl", "{\"text\": \"a\"}\n");
    assert_eq!(bench.run("data stats r.yaml").code, Some(2), "a mix is not guessed");
    bench.write("r.yaml", recipe("{train: [{path: notes/a.txt, format: messages}]}"));
    let said = bench.run("data stats r.yaml");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("the file is plain text, and its rows are to be `messages`"), "{}", said.stderr);
    bench.write("cp.txt", b"Caf\xe9 au lait.\n");
    bench.write("r.yaml", recipe("{train: cp.txt}"));
    assert!(bench.run("data stats r.yaml").stderr.contains("Windows-1252"));
}

#[test]
fn half_empty_rows_are_said_before_the_run_and_again_from_the_cache() {
    let bench = bench("{train: faq.csv, eval: held.csv, on_bad_row: skip}");
    bench.write("faq.csv", "prompt,completion,note\nTwo and two?,Four.,\n,Unasked.,\n ,Again.,\nNothing?,,x\n,,\n,,\n");
    bench.write("held.csv", "prompt,completion\nTwo and two?,Four.\n,Unasked.\n,\n");
    let expected = [
        "skipped, columns do not fit the format: 1 row (25.0 %)",
        "; faq.csv, row 5",
        "empty prompts: 2 rows (50.0 %); the first is faq.csv, row 3",
        "empty prompts: 1 row (50.0 %); held.csv, row 3",
        "faq.csv: 2 rows of empty cells only, left out",
        "held.csv: 1 row of empty cells only, left out",
    ];
    // The second time the rows come from the cache, and the third from files of other names.
    for (train, eval) in [("faq.csv", "held.csv"), ("faq.csv", "held.csv"), ("b.csv", "c.csv")] {
        bench.write("b.csv", bench.text("faq.csv"));
        bench.write("c.csv", bench.text("held.csv"));
        let sets = format!("--set data.train={train} --set data.eval={eval}");
        for args in ["data preview r.yaml", "train r.yaml --dry-run"] {
            let said = bench.run(&format!("{args} {sets}"));
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            let said = said.stderr + &said.stdout;
            for words in expected {
                let words = words.replace("faq.csv", train).replace("held.csv", eval);
                assert!(said.contains(&words), "{args}: {words}\n{said}");
            }
        }
    }
    let said = bench.run("data stats r.yaml --set data.on_bad_row=error");
    assert_eq!(said.code, Some(2));
    for words in ["the cell of `completion` is empty", "faq.csv, row 5", "`data.on_bad_row: skip` leaves such rows out"]
    {
        assert!(said.stderr.contains(words), "{words}\n{}", said.stderr);
    }
    let said = bench.run("init --model t --data faq.csv --output mine.yaml --set data.on_bad_row=skip");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for words in [&expected[..3], &expected[4..5]].concat() {
        assert!(said.stderr.contains(words), "{words}\n{}", said.stderr);
    }
}

#[test]
fn warnings_of_a_run_are_in_its_summary() {
    let bench = bench("{train: chats.jsonl}");
    bench.run("train r.yaml").ok();
    let summary: Value = serde_json::from_str(&bench.text("out/summary.json")).unwrap();
    let warnings = summary["warnings"].to_string();
    assert!(warnings.contains("warning: this run has 2 steps, and fewer than about 30 teach little"), "{warnings}");
}
