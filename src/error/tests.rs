//! What errors say.

use super::*;

#[test]
fn a_file_that_grows_no_more_has_a_hint_and_a_temporary_name_is_not_shown() {
    let error = Error::io("writing", "/a/.tmp-b/c", std::io::Error::from_raw_os_error(27));
    assert!(error.what().starts_with("writing failed: File too large"), "{}", error.what());
    assert!(error.hint_text().unwrap().contains("`ulimit -f`"));
    let moved = error.moved(Path::new("/a/.tmp-b"), Path::new("/a/b"));
    assert_eq!((moved.place().unwrap().to_string().as_str(), moved.exit_code()), ("/a/b/c", 1));
}

#[test]
fn several_problems_are_shown_together_and_counted() {
    let error = Error::many(vec![
        Error::new(Kind::Recipe, "unknown key `lora_aplha`")
            .at(Place::Text { path: "a.yaml".into(), line: 3, column: 5 })
            .excerpt("3 |   lora_aplha: 3\n  |   ^^^^^^^^^^")
            .hint("did you mean `lora_alpha`?"),
        Error::new(Kind::Recipe, "`r` must be at least 1"),
    ])
    .unwrap();
    assert_eq!(
        error.to_string(),
        "error: unknown key `lora_aplha`\n  --> a.yaml:3:5\n  3 |   lora_aplha: 3\n    |   ^^^^^^^^^^\n  \
         hint: did you mean `lora_alpha`?\n\nerror: `r` must be at least 1\n\n2 problems"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn hints_about_files_are_not_for_clients() {
    let wrong = || Error::new(Kind::Data, "wrong");
    let both = Error::many(vec![wrong().hint("write a number"), wrong().hint_of_files("change `config.json`")]);
    let said = |error: &Error| error.iter().map(|one| one.hint_text().map(str::to_owned)).collect::<Vec<_>>();
    let (number, file) = (Some("write a number".to_owned()), Some("change `config.json`".to_owned()));
    let both = both.unwrap();
    assert_eq!(said(&both), [number.clone(), file]);
    assert_eq!(said(&both.for_clients()), [number, None]);
    let again = wrong().hint_of_files("a").hint("b").for_clients();
    assert_eq!(again.hint_text(), Some("b"), "it is another hint");
}

#[test]
fn words_of_files_cannot_control_the_terminal() {
    let evil = "\x1b]0;owned\x07\u{9b}2J\u{202e}";
    let error = Error::new(Kind::Data, evil).at_path(evil).excerpt(evil).hint(evil).to_string();
    let shown = "␛]0;owned␇\u{FFFD}2J<U+202E>";
    assert_eq!(error, format!("error: {shown}\n  --> {shown}\n  {shown}\n  hint: {shown}"));
}

#[test]
fn suggestions_are_close_or_absent() {
    let keys = ["lora_alpha", "lora_dropout", "r"];
    assert_eq!(did_you_mean("lora_aplha", keys), Some("lora_alpha"));
    assert_eq!(did_you_mean("LoRA-Alpha", keys), Some("lora_alpha"));
    assert_eq!(did_you_mean("completely_else", keys), None);
    assert_eq!(did_you_mean("lora_alpha", ["lora_alpha"]), None);
}

#[test]
fn what_many_problems_say_is_said_once() {
    let at = |row| Place::Row { path: "a.jsonl".into(), row };
    let mut errors: Vec<Error> =
        (1..=30).map(|row| Error::new(Kind::Data, "no `messages`").at(at(row)).hint("rename it")).collect();
    errors.insert(1, Error::new(Kind::Data, "another").at(at(99)));
    let text = Error::many(errors).unwrap().to_string();
    let start =
        "error: no `messages`\n  --> a.jsonl, row 1\n  hint: rename it\n  the same at: a.jsonl, row 2; a.jsonl, row 3";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("row 25; and 5 more\n\nerror: another\n  --> a.jsonl, row 99\n\n31 problems"), "{text}");
}

#[test]
fn names_that_cannot_be_read_are_wrong_input() {
    let error = |doing, kind: std::io::ErrorKind| Error::io(doing, "a", kind.into()).exit_code();
    assert_eq!(error("reading the recipe", std::io::ErrorKind::PermissionDenied), 2);
    assert_eq!(error("opening", std::io::ErrorKind::IsADirectory), 2);
    assert_eq!(error("writing", std::io::ErrorKind::PermissionDenied), 1);
    assert_eq!(error("reading", std::io::ErrorKind::Other), 1);
}

#[test]
fn thousands_of_problems_are_counted_and_not_shown() {
    let error = Error::many((0..20_000).map(|i| Error::new(Kind::Data, format!("wrong {i}"))).collect()).unwrap();
    let text = error.to_string();
    assert_eq!(text.matches("error: ").count(), SHOWN);
    assert!(text.contains("error: wrong 22\n\n... and 19976 more\n\nerror: wrong 19999"), "{text}");
    assert!(text.ends_with("\n\n20000 problems"), "{text}");
}

#[test]
fn an_input_that_is_not_there_is_wrong_input() {
    let code = |kind: std::io::ErrorKind| Error::input(Kind::Config, "reading", "x", kind.into()).exit_code();
    use std::io::ErrorKind;
    for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::IsADirectory] {
        assert_eq!(code(kind), 2, "{kind}");
    }
    assert_eq!(code(ErrorKind::UnexpectedEof), 1);
}

#[test]
fn a_full_disk_is_told_apart() {
    let full = std::io::Error::from_raw_os_error(28);
    assert_eq!(Error::io("writing", "x", full).kind(), Kind::NoSpace);
}
