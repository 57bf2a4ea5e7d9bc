//! JSON and calls of functions in answers.

use serde_json::{Map, Value};

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
}

/// The JSON that a text is: all of it, in a fence of three backticks, or on the lines after some words.
pub fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    let fenced = || {
        let (_, rest) = text.split_once("```")?;
        let (inside, _) = rest.split_once("```")?;
        let inside = inside.strip_prefix("json").or_else(|| inside.strip_prefix("tool_code")).unwrap_or(inside);
        serde_json::from_str(inside.trim()).ok()
    };
    let behind_words = || {
        let starts = text.match_indices('\n').map(|(at, _)| text[at..].trim_start());
        starts.filter(|rest| rest.starts_with(['{', '['])).find_map(|rest| serde_json::from_str(rest).ok())
    };
    let parsed = serde_json::from_str(text).ok().or_else(fenced).or_else(behind_words);
    parsed.filter(|value: &Value| value.is_object() || value.is_array())
}

/// The calls in a text: an object with a name and its parameters, or a list of them, as [`json`] finds it. Data sets call the
/// parameters `parameters` or `arguments`, and put both inside a `function`; arguments may be JSON in a text.
pub fn calls(text: &str) -> Option<Vec<Call>> {
    let items = match json(text)? {
        Value::Array(items) => items,
        one => vec![one],
    };
    let calls: Option<Vec<Call>> = items.iter().map(call).collect();
    calls.filter(|calls| !calls.is_empty())
}

fn call(value: &Value) -> Option<Call> {
    let object = value.get("function").filter(|inner| inner.is_object()).unwrap_or(value).as_object()?;
    let name = object.get("name")?.as_str()?.to_owned();
    let arguments = match object.get("parameters").or_else(|| object.get("arguments")) {
        None => Value::Object(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(arguments) => arguments.clone(),
    };
    arguments.is_object().then_some(Call { name, arguments })
}

/// Whether a text is JSON, where the reference is.
pub fn json_counts(text: &str, reference: &str) -> Option<Vec<f64>> {
    json(reference).map(|_| vec![f64::from(json(text).is_some()), 1.0])
}

/// Whether a text calls the functions of the reference, in its order, where that calls any.
pub fn name_counts(text: &str, reference: &str) -> Option<Vec<f64>> {
    let wanted = calls(reference)?;
    let names = |calls: &[Call]| calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>();
    let right = calls(text).is_some_and(|found| names(&found) == names(&wanted));
    Some(vec![f64::from(right), 1.0])
}

/// Whether a text calls them with the same arguments, whatever their order in it; 1 and 1.0 are the same number.
pub fn argument_counts(text: &str, reference: &str) -> Option<Vec<f64>> {
    let wanted = calls(reference)?;
    let same = |(one, other): (&Call, &Call)| one.name == other.name && is_same(&one.arguments, &other.arguments);
    let right = calls(text).is_some_and(|found| found.len() == wanted.len() && found.iter().zip(&wanted).all(same));
    Some(vec![f64::from(right), 1.0])
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let in_other = |(key, value): (&String, &Value)| other.get(key).is_some_and(|other| is_same(value, other));
            one.len() == other.len() && one.iter().all(in_other)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_however_they_are_dressed() {
        let plain = r#"{"name": "weather", "parameters": {"city": "Bern", "days": 2}}"#;
        let wanted = calls(plain).unwrap();
        for text in [
            plain.to_owned(),
            format!("[{plain}]"),
            format!("I look it up.\n{plain}"),
            format!("Sure:\n```json\n{plain}\n```\nDone."),
            r#"{"function": {"name": "weather", "arguments": "{\"days\": 2, \"city\": \"Bern\"}"}}"#.to_owned(),
        ] {
            assert_eq!(calls(&text).unwrap(), wanted, "{text}");
        }
        for text in ["", "Hello.", "{\"name\": 3}", "[]", "3", "{\"name\": \"f\", \"parameters\": 3}", "{\"name\": "] {
            assert_eq!(calls(text), None, "{text}");
        }
        assert_eq!(calls(r#"{"name": "now"}"#).unwrap()[0].arguments, serde_json::json!({}));
    }

    #[test]
    fn names_and_arguments_are_counted_apart_where_the_reference_calls() {
        let reference = r#"{"name": "f", "parameters": {"a": 1, "b": [2.0, "x"]}}"#;
        let of = |text: &str| {
            let counts = [json_counts, name_counts, argument_counts].map(|count| count(text, reference).unwrap()[0]);
            counts.map(|count| count as i32)
        };
        assert_eq!(of(r#"{"name": "f", "arguments": {"b": [2, "x"], "a": 1.0}}"#), [1, 1, 1]);
        assert_eq!(of(r#"{"name": "f", "arguments": {"b": [2, "y"], "a": 1}}"#), [1, 1, 0]);
        assert_eq!(of(r#"{"name": "f", "arguments": {"b": [2, "x"]}}"#), [1, 1, 0]);
        assert_eq!(of(r#"{"name": "g", "arguments": {"b": [2, "x"], "a": 1}}"#), [1, 0, 0]);
        assert_eq!(of(&format!("[{reference}, {reference}]")), [1, 0, 0]);
        assert_eq!(of("{\"name\": \"f\", "), [0, 0, 0]);
        assert_eq!(name_counts(reference, "Hello."), None, "nothing to call");
        assert_eq!(json_counts(reference, "{\"a\": 1}"), Some(vec![1.0, 1.0]));
        assert_eq!(name_counts(reference, "{\"a\": 1}"), None);
    }
}
