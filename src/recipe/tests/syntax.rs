//! Texts that are not YAML, or more of it than a recipe may be.

use super::*;

#[test]
fn empty() {
    assert_snapshot!(wrong(""), @r##"
error: the recipe is empty
  --> recipe.yaml
  hint: it needs at least `model`, `data` and `output`
"##);
    assert_eq!(wrong(""), wrong("# only a comment\n\n"));
    assert_eq!(wrong(""), wrong("---\n"));
}

#[test]
fn not_a_mapping() {
    assert_snapshot!(wrong("- model\n- data\n"), @r##"
error: a recipe must be sections with keys and values, found a list
  --> recipe.yaml:1:1
  1 | - model
    | ^
  hint: it starts with `model:` at the left margin
"##);
}

#[test]
fn tabs() {
    assert_snapshot!(wrong("model:\n\tbase: m\n"), @r##"
error: this is not valid YAML: tabs disallowed within this context (block indentation)
  --> recipe.yaml:2:2
  2 | 	base: m
    | 	^
  hint: YAML is indented with spaces; this line has a tab
"##);
}

#[test]
fn bad_indentation() {
    assert_snapshot!(wrong("model:\n  base: m\n dtype: bf16\n"), @r##"
error: this is not valid YAML: while parsing a block mapping, did not find expected key
  --> recipe.yaml:3:2
  3 |  dtype: bf16
    |  ^
  hint: keys of one section start in the same column
"##);
}

#[test]
fn no_space_after_a_key() {
    assert_snapshot!(wrong("model:\n  base:m\n  dtype: bf16\n"), @r##"
error: this is not valid YAML: mapping values are not allowed in this context
  --> recipe.yaml:2:3
  2 |   base:m
    |   ^^^^^^
  hint: each key needs `:` and a space after it
"##);
    assert_snapshot!(wrong_after("adapter:\n  r:16\n"), @r##"
error: `adapter` must be keys and values, found `r:16`
  --> recipe.yaml:5:3
  5 |   r:16
    |   ^^^^
  hint: each key needs `:` and a space after it
"##);
}

#[test]
fn unclosed_list() {
    assert_snapshot!(wrong_after("adapter:\n  target_modules: [q_proj, v_proj\n"), @r##"
error: this is not valid YAML: while parsing a flow sequence, expected ',' or ']'
  --> recipe.yaml:5:34
  5 |   target_modules: [q_proj, v_proj
    |                                  ^
  hint: a `[` or `{` is not closed, or a comma is missing
"##);
}

#[test]
fn unclosed_quote() {
    assert_snapshot!(wrong("model:\n  base: \"m\n"), @r##"
error: this is not valid YAML: while scanning a quoted scalar, found unexpected end of stream
  --> recipe.yaml:2:9
  2 |   base: "m
    |         ^
  hint: a quote is not closed
"##);
}

#[test]
fn colon_in_a_text() {
    assert_snapshot!(wrong("data:\n  system: Answer: briefly\n"), @r##"
error: this is not valid YAML: mapping values are not allowed in this context
  --> recipe.yaml:2:17
  2 |   system: Answer: briefly
    |                 ^
  hint: put quotes around a text that contains `: `
"##);
}

#[test]
fn several_documents() {
    assert_snapshot!(wrong(&format!("{MINIMAL}---\nadapter: {{r: 8}}\n")), @r##"
error: a recipe is one YAML document, and a second one starts here
  --> recipe.yaml:4:1
  4 | ---
    | ^^^
  hint: remove the `---` line
"##);
}

#[test]
fn alias_bomb() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, two) in ('a'..'y').zip('b'..'z') {
        text += &format!("{two}: &{two} [{}]\n", vec![format!("*{one}"); 8].join(", "));
    }
    assert_snapshot!(wrong(&text), @r##"
error: YAML anchors and aliases (`&`, `*`) are not part of recipes
  --> recipe.yaml:1:4
  1 | a: &a [x, x, x, x, x, x, x, x]
    |    ^^^^
  hint: share keys through `extends: file.yaml`, or put quotes around a text that starts with `&` or `*`
"##);
}

#[test]
fn tag() {
    assert_snapshot!(wrong_after("training:\n  seed: !!str 4\n"), @r##"
error: YAML tags (`!`) are not part of recipes
  --> recipe.yaml:5:9
  5 |   seed: !!str 4
    |         ^^^^^^^
  hint: remove the tag, or put quotes around a text with `!`
"##);
}

#[test]
fn deep_nesting() {
    assert_snapshot!(wrong(&format!("model: {}1{}\n", "[".repeat(200), "]".repeat(200))), @r##"
error: lists and mappings are nested too deeply
  --> recipe.yaml:1:39
  1 | model: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
    |                                       ^
  hint: a recipe is sections with keys and values
"##);
    for deep in ["[".repeat(400_000), "{a: ".repeat(200_000), "- ".repeat(400_000), "? ".repeat(400_000)] {
        assert!(!wrong(&deep).is_empty());
    }
    let staircase: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(wrong(&staircase).contains("nested too deeply"));
}

#[test]
fn control_character() {
    assert_snapshot!(wrong_after("adapter: {r: 8}\0\ntraining: {seed: x}\n"), @r##"
error: the file contains a control character, so it is not YAML
  --> recipe.yaml:4:16
  4 | adapter: {r: 8}�
    |                ^
"##);
}

#[test]
fn not_utf8() {
    let bytes = b"model:\n  base: caf\xe9\n".to_vec();
    assert_snapshot!(parse(Path::new("recipe.yaml"), bytes, &[]).unwrap_err(), @r##"
error: the file is not UTF-8 text
  --> recipe.yaml:2:12
  hint: save it as UTF-8
"##);
    let utf16 = "model:\n".encode_utf16().flat_map(u16::to_le_bytes);
    let bytes = [0xff, 0xfe].into_iter().chain(utf16).collect();
    assert_snapshot!(parse(Path::new("recipe.yaml"), bytes, &[]).unwrap_err(), @r##"
error: the file is not UTF-8 text
  --> recipe.yaml:1:1
  hint: save it as UTF-8
"##);
}

#[test]
fn very_long_words_and_very_many_problems() {
    let long = format!("{MINIMAL}{}: 1\n", "k".repeat(500));
    assert_snapshot!(wrong(&long), @r##"
error: unknown section or key `kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...`
  --> recipe.yaml:4:1
  4 | kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
    | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: a recipe has: task, rewards, model, adapter, data, training, preference, grpo, evaluation, output
"##);
    let many: String = (0..3000).map(|n| format!("key{n}: 1\n")).collect();
    let message = wrong(&format!("{MINIMAL}{many}"));
    assert!(message.contains("... and 2976 more") && message.ends_with("3000 problems"));
    // A program hears of all of them.
    let all = read(&format!("{MINIMAL}{many}"), &[]).unwrap_err().to_json();
    let all = all.as_array().unwrap();
    assert_eq!((all.len(), &all[2999]["key"], &all[2999]["line"]), (3000, &"key2999".into(), &3003.into()));
}

/// Where the first problem is, and its hint.
fn slip(text: &str) -> (String, String) {
    let error = super::parse(std::path::Path::new("r.yaml"), text.as_bytes().to_vec(), &[]).unwrap_err();
    (error.place().unwrap().to_string(), error.hint_text().unwrap_or_default().to_owned())
}

#[test]
fn the_line_with_the_slip_is_shown_and_not_the_next() {
    let rest = "data: {train: a.jsonl}\noutput: {dir: out}\n";
    for (text, place, hint) in [
        ("model:\n  base: x\n  dtype bf16\n  compute_dtype: f32\n", "r.yaml:3:3", "each key needs `:`"),
        ("model:\n  base:x\n  dtype: bf16\n", "r.yaml:2:3", "each key needs `:`"),
        ("model\n  base: x\n", "r.yaml:1:1", "each key needs `:`"),
        ("model: {base: x\ntraining:\n  seed: 1\n", "r.yaml:1:8", "is not closed"),
        ("adapter:\n  exclude_modules: [a, b\n  r: 3\n", "r.yaml:2:20", "is not closed"),
        ("model:\n  base: x\n\tdtype: bf16\n", "r.yaml:3:1", "this line has a tab"),
        ("model:\n  base: x\n   dtype: bf16\n", "r.yaml:3:9", "stands deeper"),
        ("model:\n  base: 'it's'\n", "r.yaml:2:13", "double it"),
    ] {
        let (found, said) = slip(&format!("{text}{rest}"));
        assert_eq!(found, place, "{text}: {said}");
        assert!(said.contains(hint), "{text}: {said}");
    }
}
