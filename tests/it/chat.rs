//! `chat`, by what stands on stdout and stderr after a conversation.

use crate::bench::{Bench, Said, lines};
use serde_json::json;
use std::io::Write;
use std::process::Stdio;

/// A chat with the model `t` in which `lines` are said.
fn chat(bench: &Bench, args: &str, lines: &str) -> Said {
    let mut command = bench.command(&format!("chat --model t --max-tokens 6 --temperature 2 --seed 32 {args}"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a chat");
    child.stdin.take().expect("stdin").write_all(lines.as_bytes()).expect("lines");
    let output = child.wait_with_output().expect("the chat ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_chat_says_what_generate_says_with_the_adapter_and_without() {
    let bench = Bench::new().with_text();
    bench.run("train r.yaml --set model.base=t --set training.max_steps=6 --set training.learning_rate=0.5").ok();
    let generate = |args: &str| {
        // A chat draws other numbers in each turn: by the first answer, one message has been said.
        let mut command = bench.command("generate --model t --max-tokens 6 --temperature 2 --seed 33 --prompt");
        bench.said(command.arg("Two and two?").args(args.split_whitespace())).ok()
    };
    let (tuned, base) = (generate("--adapter out/adapter"), generate(""));
    assert_ne!(tuned, base, "the adapter says something else");

    let said =
        chat(&bench, "--adapter out/adapter", "Two and two?\n/clear\n/adapter off\nTwo and two?\n/quit\nnever read\n");
    assert_eq!(said.stderr.matches("tuned> ").count(), 3, "{}", said.stderr);
    assert_eq!(said.stderr.matches("base> ").count(), 2, "{}", said.stderr);
    assert_eq!(said.ok(), tuned.clone() + &base);

    // What was said before is part of the next prompt, until it is cleared; the end of the input ends the chat.
    let later = chat(&bench, "", "And a cat?\nTwo and two?\n").ok();
    let cleared = chat(&bench, "", "And a cat?\n/clear\n/nonsense\nTwo and two?\n").ok();
    assert!(cleared.ends_with(&base) && later != cleared, "{later:?}, {cleared:?}");
}

#[test]
fn a_line_that_is_wrong_ends_no_chat_through_a_pipe() {
    let bench = Bench::new().with_text();
    let expected = chat(&bench, "", "Two and two?\n").ok();
    for wrong in ["/image nope.png", "/audio nope.wav", "/save m"] {
        let said = chat(&bench, "", &format!("{wrong}\nTwo and two?\n"));
        // `/save` answers for itself, in words that are no error, or in an error.
        assert!(said.stderr.lines().count() > 2, "{wrong}: {}", said.stderr);
        assert_eq!(said.ok(), expected, "{wrong}");
    }
    let seeing = crate::multimodal::bench();
    seeing.write("cut.png", &seeing.read("pictures/red.png")[..60]);
    for wrong in ["/image nope.png", "/image cut.png", "/audio pictures/red.png"] {
        let mut command = seeing.command("chat --model v --max-tokens 2");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a chat");
        let lines = format!("{wrong}\nWhat?\n/clear\nWhat?\n");
        child.stdin.take().expect("stdin").write_all(lines.as_bytes()).expect("lines");
        let output = child.wait_with_output().expect("the chat ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{wrong}: {said}");
        assert!(said.contains("error: "), "{wrong}: {said}");
        assert!(!output.stdout.is_empty(), "{wrong}: nothing was answered: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_pasted_into_a_terminal_is_all_said() {
    let bench = Bench::new().with_text();
    let typed = "Two and \\\ntwo?\nAnd a cat?\n/save talks.jsonl\n/quit\n";
    let said = bench.on_a_terminal("chat --model t --max-tokens 3 --temperature 2 --seed 32", typed);
    assert_eq!(said.code, Some(0), "{}", said.stdout);
    assert_eq!(said.stdout.matches("(cut off after 3 tokens, `--max-tokens`)").count(), 2, "{}", said.stdout);
    let saved = "Saved as a row of `talks.jsonl`. In it 2 answers were cut off";
    assert!(said.stdout.contains(saved), "{}", said.stdout);
    let row: serde_json::Value = serde_json::from_str(&bench.text("talks.jsonl")).unwrap();
    assert_eq!(
        (&row["messages"][0]["content"], &row["messages"][2]["content"]),
        (&"Two and \ntwo?".into(), &"And a cat?".into())
    );
}

/// A right row.
const FIRST: &str = r#"{"messages": [{"role": "user", "content": "a"}]}"#;

#[test]
fn wrong_rows_of_prompts_are_shown_where_they_are() {
    let bench = Bench::new().with_text();
    let problem = |verb: &str, text: &str| {
        bench.write("in.jsonl", text);
        let said = bench.run(&format!("{verb} --model t --input in.jsonl"));
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        said.problem().to_owned()
    };
    for verb in ["generate", "score"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(problem(verb, &format!("{FIRST}\n\n{{\"messages\": 1,}}\n")), @r##"
error: the row is not valid JSON: trailing comma (column 16)
  --> in.jsonl, row 3
"##);
        }
    }
    insta::assert_snapshot!(problem("generate", "\n{\"prompt\": 3}\n"), @r##"
error: `prompt` must be a text
  --> in.jsonl, row 2
"##);
    insta::assert_snapshot!(problem("generate", &FIRST.replacen('{', "{\"prompt\": \"a\", ", 1)), @r##"
error: the row has both `prompt` and `messages`, of which one is answered
  --> in.jsonl, row 1
  hint: keep the one that is meant
"##);
    insta::assert_snapshot!(problem("score", &format!("{FIRST}\n{{\"text\": \"a\", \"input_ids\": [2]}}")), @r##"
error: the row has both `input_ids` and `text`, of which one is scored
  --> in.jsonl, row 2
  hint: keep the one that is meant
"##);
    // Who has no recipe is told of no keys.
    let shown = |part: &str| format!("{{\"messages\": [{{\"role\": \"user\", \"content\": [{part}]}}]}}\n");
    for verb in ["generate", "score"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(problem(verb, &shown("{\"type\": \"video\", \"video\": \"a.mp4\"}")), @r##"
error: `messages[0].content[0]` is a video, which no Gemma that is known here sees
  --> in.jsonl, row 1
  hint: leave such rows out, or give its frames as pictures
"##);
            insta::assert_snapshot!(problem(verb, &shown("{\"type\": \"image\", \"image\": \"a.png\"}")), @r##"
error: the row holds a picture, and the model does not see
  --> in.jsonl, row 1
  hint: set `--model` to one that does, or leave such rows out
"##);
        }
    }
    // A column that holds nothing is none, and one of media is read or refused.
    bench.write("in.jsonl", lines(&[json!({"text": "a", "input_ids": null, "messages": []})]));
    bench.run("score --model t --input in.jsonl").ok();
    for row in [
        json!({"text": "a", "Image": "b.png"}),
        json!({"messages": [{"role": "user", "content": "a"}], "video": "b.mp4"}),
    ] {
        let said = problem("score", &lines(&[row]));
        assert!(said.contains("rows of this form read no media"), "{said}");
    }
}
