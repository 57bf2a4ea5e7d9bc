//! The calls of tools in what a model says, in the form that [`super::tools`] teaches.

use super::conversation::ToolCall;
use serde_json::Value;

/// What a model said beside its calls, and these.
#[derive(Debug, PartialEq)]
pub struct Called {
    /// The words before them.
    pub words: String,
    /// The calls, at least one.
    pub calls: Vec<ToolCall>,
}

/// The calls with which `said` ends: an object with a `name` of `known` and `parameters` (or `arguments`), or a list of these; alone,
/// on lines of their own after some words, or fenced. `None` where there are none.
pub fn calls(said: &str, known: &[String]) -> Option<Called> {
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
        let found = |said: &str| calls(said, &known).map(|Called { words, calls }| (words, calls));
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
}
