//! The calls of tools in what a model says: in the form that [`super::tools`] teaches, or in FunctionGemma's.
//!
//! # Source
//! FunctionGemma formatting and best practices: between [`BEGIN`] and [`END`] stand `call:`, a name and `{key:value,..}`; texts are
//! enclosed in [`QUOTE`], numbers, `true` and `false` are written as they are, and lists and objects have `[..]` and `{..}`.

use super::conversation::ToolCall;
use serde_json::{Map, Value};

/// Begins a call of FunctionGemma's.
pub const BEGIN: &str = "<start_function_call>";
/// Ends it.
pub const END: &str = "<end_function_call>";
/// Stands around each text in it.
pub const QUOTE: &str = "<escape>";
/// Begins what a tool answered: where the model says it, it waits for that.
pub const ANSWER: &str = "<start_function_response>";

/// Whether a word of the vocabulary is one of those.
pub fn is_word(word: &str) -> bool {
    [BEGIN, END, QUOTE, ANSWER].contains(&word)
}

/// How a model calls tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallForm {
    /// As JSON, as Gemma 3 is taught to.
    Json,
    /// In words of control, as FunctionGemma.
    Words,
}

/// What a model said beside its calls, and these.
#[derive(Debug, PartialEq)]
pub struct Called {
    /// The words before them.
    pub words: String,
    /// The calls, at least one.
    pub calls: Vec<ToolCall>,
}

/// The calls with which `said` ends, of tools that are `known`. `None` where there are none.
pub fn calls(said: &str, known: &[String], form: CallForm) -> Option<Called> {
    match form {
        CallForm::Json => in_json(said, known),
        CallForm::Words => in_words(said, known),
    }
}

/// Those between words of control, one after the other.
fn in_words(said: &str, known: &[String]) -> Option<Called> {
    let (words, mut rest) = said.split_at(said.find(BEGIN)?);
    let mut calls = Vec::new();
    while let Some(after) = rest.trim_start().strip_prefix(BEGIN) {
        let after = after.trim_start().strip_prefix("call:")?;
        let (name, after) = after.split_at(after.find('{')?);
        let name = name.trim();
        let mut reader = Reader(after, DEEPEST);
        let arguments = reader.value()?;
        rest = reader.0.trim_start().strip_prefix(END)?;
        known.iter().any(|known| known == name).then_some(())?;
        calls.push(ToolCall { name: name.to_owned(), arguments });
    }
    rest.trim().trim_end_matches(ANSWER).trim().is_empty().then(|| Called { words: words.trim().to_owned(), calls })
}

/// Lists and objects in one another, at most.
const DEEPEST: usize = 100;

/// Reads values of a call, of what is left, as deep as is left.
struct Reader<'t>(&'t str, usize);

impl<'t> Reader<'t> {
    /// Takes `mark`, if it comes next.
    fn takes(&mut self, mark: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(mark);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// All before `mark`, and that too.
    fn until(&mut self, mark: &str) -> Option<&'t str> {
        let (before, rest) = self.0.split_once(mark)?;
        self.0 = rest;
        Some(before)
    }

    fn value(&mut self) -> Option<Value> {
        if self.takes(QUOTE) {
            return Some(self.until(QUOTE)?.into());
        }
        self.1 = self.1.checked_sub(1)?;
        let value = self.within();
        self.1 += 1;
        value
    }

    /// A value that is no text in quotes.
    fn within(&mut self) -> Option<Value> {
        if self.takes("{") {
            let mut object = Map::new();
            while !self.takes("}") {
                let key = if self.takes(QUOTE) { self.until(QUOTE)? } else { "" };
                let key = if self.takes(":") { key } else { self.until(":")?.trim() };
                let value = self.value()?;
                object.insert(key.to_owned(), value);
                if !self.takes(",") && !self.0.trim_start().starts_with('}') {
                    return None;
                }
            }
            return Some(object.into());
        }
        if self.takes("[") {
            let mut list = Vec::new();
            while !self.takes("]") {
                list.push(self.value()?);
                if !self.takes(",") && !self.0.trim_start().starts_with(']') {
                    return None;
                }
            }
            return Some(list.into());
        }
        let (word, rest) = self.0.split_at(self.0.find([',', '}', ']'])?);
        self.0 = rest;
        let word = word.trim();
        // What is neither a number nor a truth is a text that was not enclosed.
        (!word.is_empty()).then(|| serde_json::from_str(word).unwrap_or_else(|_| word.into()))
    }
}

/// The calls with which `said` ends: an object with a `name` of `known` and `parameters` (or `arguments`), or a list of these; alone,
/// on lines of their own after some words, or fenced. `None` where there are none.
fn in_json(said: &str, known: &[String]) -> Option<Called> {
    let said = said.trim();
    let starts = said.char_indices().filter(|(at, _)| *at == 0 || said[..*at].ends_with('\n'));
    starts.map(|(at, _)| (&said[..at], &said[at..])).find_map(|(words, rest)| {
        let calls = list(unfenced(rest)?, known)?;
        Some(Called { words: words.trim().to_owned(), calls })
    })
}

/// What lines of three backticks stand around, or the text itself where none do.
fn unfenced(text: &str) -> Option<&str> {
    match text.strip_prefix("```") {
        Some(fenced) => fenced.split_once('\n')?.1.strip_suffix("```").map(str::trim),
        None => Some(text),
    }
}

fn list(text: &str, known: &[String]) -> Option<Vec<ToolCall>> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let calls = match serde_json::from_str(text).ok()? {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    let call = |call: &Value| {
        let name = call.get("name")?.as_str().filter(|name| known.iter().any(|known| known == name))?;
        let arguments = call.get("parameters").or_else(|| call.get("arguments")).cloned();
        let arguments = arguments.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        arguments.is_object().then(|| ToolCall { name: name.to_owned(), arguments })
    };
    calls.iter().map(call).collect::<Option<Vec<_>>>().filter(|calls| !calls.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_are_found_where_the_answer_ends_with_them() {
        let known = ["add".to_owned(), "now".to_owned()];
        let found = |said: &str| calls(said, &known, CallForm::Json).map(|Called { words, calls }| (words, calls));
        let add = || ToolCall { name: "add".into(), arguments: json!({"a": 1}) };
        let now = || ToolCall { name: "now".into(), arguments: json!({}) };
        let one = "{\"name\": \"add\", \"parameters\": {\"a\": 1}}";
        let alone = Some((String::new(), vec![add()]));
        assert_eq!(found(one), alone);
        assert_eq!(found(&format!("\n```json\n{one}\n```\n")), alone);
        assert_eq!(found("{\"name\": \"add\",\n \"arguments\": {\"a\": 1}}"), alone);
        assert_eq!(found(&format!("[{one}, {{\"name\": \"now\"}}]")), Some((String::new(), vec![add(), now()])));
        assert_eq!(found(&format!("I look.\n{one}")), Some(("I look.".to_owned(), vec![add()])));
        for said in [
            "",
            "Four.",
            "[]",
            "{\"name\": \"sub\", \"parameters\": {}}",
            "{\"name\": \"add\", \"parameters\": [1]}",
            "{\"name\": \"add\", \"parameters\": {\"a\": 1}} is what I call",
            "{\"name\": \"add\", \"parameters\": {\"a\"",
            "I call {\"name\": \"add\", \"parameters\": {}}",
            "``",
            "```{",
        ] {
            assert_eq!(found(said), None, "{said}");
        }
    }

    #[test]
    fn calls_of_functiongemma_are_read() {
        let known = ["get_current_temperature".to_owned(), "plan".to_owned()];
        let found = |said: &str| calls(said, &known, CallForm::Words);
        // The model card's own example.
        let london =
            "<start_function_call>call:get_current_temperature{location:<escape>London<escape>}<end_function_call>";
        let of = |name: &str, arguments: Value| ToolCall { name: name.into(), arguments };
        let temperature = |place: &str| of("get_current_temperature", json!({"location": place}));
        let alone = Some(Called { words: String::new(), calls: vec![temperature("London")] });
        assert_eq!(found(london), alone);
        assert_eq!(found(&format!("{london}{ANSWER}\n")), alone);
        // Several at once, with words before them; what is enclosed is a text, whatever it holds.
        let paris = london.replace("London", "Paris, {France}: \"[la]\"");
        let two = found(&format!("I look. {london}{paris}")).unwrap();
        assert_eq!((two.words.as_str(), two.calls[1].clone()), ("I look.", temperature("Paris, {France}: \"[la]\"")));
        let plan = format!(
            "{BEGIN}call:plan{{days:3,dry:true,note:<escape><escape>,rest:null,stops:[{{at:1.5,<escape>by:x<escape>:-2}},\
             <escape>é<escape>,[]],where:{{}}}}{END}"
        );
        let arguments = json!({"days": 3, "dry": true, "note": "", "rest": null,
            "stops": [{"at": 1.5, "by:x": -2}, "é", []], "where": {}});
        assert_eq!(found(&plan).unwrap().calls, [of("plan", arguments)]);
        assert_eq!(found(&format!("{BEGIN}call:plan{{}}{END}")).unwrap().calls, [of("plan", json!({}))]);
        let deep = format!("{BEGIN}call:plan{{x:{}{}}}{END}", "[".repeat(5_000), "]".repeat(5_000));
        for said in [
            &deep,
            "",
            "Four.",
            "call:plan{}",
            "<start_function_call>call:plan{days:3",
            "<start_function_call>call:plan{days:3}",
            "<start_function_call>call:plan{days:<escape>3}<end_function_call>",
            "<start_function_call>call:plan{days:}<end_function_call>",
            "<start_function_call>call:other{}<end_function_call>",
            "<start_function_call>plan{}<end_function_call>",
            "<start_function_call>call:plan{}<end_function_call> is what I call",
        ] {
            assert_eq!(found(said), None, "{said}");
        }
        assert_eq!(calls(london, &known, CallForm::Json), None);
    }
}
