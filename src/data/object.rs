//! A row as columns with values: what every source gives and every format reads.

use crate::error::{Error, Kind, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::{Map, Value};

/// A row as columns with values.
pub(super) type Object = Map<String, Value>;

/// The key of an object that stands for what has no form in JSON: no text of a person has a NUL in its keys.
const MARK: &str = "\0";
const NOT_A_NUMBER: &str = "NaN or Infinity, which JSON does not have";
const BYTES: &str = "bytes that are no UTF-8 text";
const INTEGER: &str = "an integer of more than 64 bits, whose last digits would be lost";
const RANGE: &str = "a number beyond 1.8e308, the largest that there is";
/// The key under which a long list has its text.
const LIST: &str = "list";
/// The key under which bytes are, in base64.
const BASE64: &str = "base64";
/// The key under which a number is as it was written.
const DIGITS: &str = "digits";

/// What a value is called in messages.
pub(super) fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(object) => match object.get(MARK).and_then(Value::as_str) {
            Some("bytes") => BYTES,
            Some("list") => "a list",
            Some("integer") => INTEGER,
            Some("range") => RANGE,
            Some(_) => NOT_A_NUMBER,
            None => "an object",
        },
    }
}

/// Whether a value holds something: no null, no blank text, no list or object of nothing but null.
pub(super) fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(|item| !item.is_null()),
        Value::Object(fields) => fields.values().any(|field| !field.is_null()),
    }
}

/// Which of the columns `names` a row has, of which it may have one alone: it is what is `done`. One that holds nothing
/// counts where no other is there.
///
/// # Errors
/// Two that hold something.
pub fn one_column<'n>(row: &Object, names: &[&'n str], done: &str) -> Result<Option<&'n str>> {
    let holding: Vec<&str> = names.iter().copied().filter(|name| row.get(*name).is_some_and(holds)).collect();
    match holding[..] {
        [first, second, ..] => {
            let what = format!("the row has both `{first}` and `{second}`, of which one is {done}");
            Err(Error::new(Kind::Data, what).hint("keep the one that is meant"))
        }
        [only] => Ok(Some(only)),
        [] => Ok(names.iter().copied().find(|name| row.contains_key(*name))),
    }
}

/// Stands for a number that JSON does not have: of no kind that a format wants, so that it is named where it is used.
pub(super) fn not_a_number() -> Object {
    Object::from_iter([(MARK.to_owned(), Value::from("number"))])
}

/// Stands for an integer that 64 bits do not hold, and keeps its digits.
pub(super) fn too_long_integer(digits: &str) -> Object {
    as_written("integer", digits)
}

/// Stands for a number that a float does not hold, and keeps its digits.
pub(super) fn too_large_number(digits: &str) -> Object {
    as_written("range", digits)
}

fn as_written(mark: &str, digits: &str) -> Object {
    Object::from_iter([(MARK.to_owned(), Value::from(mark)), (DIGITS.to_owned(), Value::from(digits))])
}

/// The digits of a number that no type holds, as they were written.
pub fn digits(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.contains_key(MARK))?;
    object.get(DIGITS)?.as_str()
}

/// A value as JSON, with what has no form of its own there as near to what was written as JSON comes: numbers that no type holds with
/// all their digits, long lists as they were, bytes in base64, and what is no number (`NaN`) as null.
pub fn to_json(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    out.push(if i == 0 { '[' } else { ',' });
                    write(item, out);
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Value::Object(object) if object.contains_key(MARK) => {
                let (written, base64) = (digits(value).or(as_long_list(value)), object.get(BASE64));
                out.push_str(&written.map_or_else(|| base64.unwrap_or(&Value::Null).to_string(), one_line));
            }
            Value::Object(object) => {
                for (i, (key, value)) in object.iter().enumerate() {
                    out.push(if i == 0 { '{' } else { ',' });
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(value, out);
                }
                out.push_str(if object.is_empty() { "{}" } else { "}" });
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// JSON that was written over several lines; inside of a text no line ends.
pub(super) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

/// Stands for bytes that are no text.
pub(super) fn not_text(bytes: &[u8]) -> Object {
    let encoded = STANDARD.encode(bytes);
    Object::from_iter([(MARK.to_owned(), Value::from("bytes")), (BASE64.to_owned(), Value::from(encoded))])
}

/// The bytes that [`not_text`] stands for.
pub(super) fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    let object = value.as_object().filter(|object| object.get(MARK).is_some_and(|mark| mark == "bytes"))?;
    STANDARD.decode(object.get(BASE64)?.as_str()?).ok()
}

/// Stands for a long list of numbers, by its text.
pub(super) fn long_list(text: &str) -> Value {
    Value::Object(Object::from_iter([(MARK.to_owned(), Value::from("list")), (LIST.to_owned(), Value::from(text))]))
}

/// The text of a list that [`long_list`] stands for.
pub(super) fn as_long_list(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.get(MARK).is_some_and(|mark| mark == "list"))?;
    object.get(LIST)?.as_str()
}

/// A value as a message shows it: not all of it, where it is long.
pub(super) fn shown(value: &Value) -> String {
    const MOST_CHARS: usize = 60;
    if value.as_object().is_some_and(|object| object.contains_key(MARK)) {
        return kind_name(value).to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("`{}..`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Makes sure that nothing inside of `value`, found at `path`, has no form in JSON.
///
/// # Errors
/// When something has none.
pub(super) fn check_is_json(value: &Value, path: &str) -> Result<()> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, v)| check_is_json(v, &format!("{path}[{i}]")))
        }
        Value::Object(object) if object.contains_key(MARK) => {
            Err(Error::new(Kind::Data, format!("`{path}` is {}", kind_name(value))))
        }
        Value::Object(object) => {
            object.iter().try_for_each(|(key, value)| check_is_json(value, &format!("{path}.{key}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_no_form_in_json_is_written_as_near_to_it_as_json_comes() {
        let plain = json!({"a\"\n": [1, "é\\", {}, [], {"b": null}], "c": 1.5e300, "d": u64::MAX});
        assert_eq!(to_json(&plain), plain.to_string());
        let long = "-12345678901234567890123";
        let marked = json!({
            "i": too_long_integer(long),
            "l": [too_large_number("1e400"), not_a_number()],
            "b": not_text(b"\xff"),
            "n": long_list("[1,\n2]"),
        });
        assert_eq!(to_json(&marked), format!(r#"{{"i":{long},"l":[1e400,null],"b":"/w==","n":[1, 2]}}"#));
        assert_eq!((digits(&marked["i"]), digits(&marked["n"]), digits(&plain["d"])), (Some(long), None, None));
    }

    #[test]
    fn one_column_holds_what_is_meant() {
        let one = |row: Value| {
            let found = one_column(row.as_object().unwrap(), &["input_ids", "text"], "scored");
            found.map(|name| name.map(str::to_owned)).map_err(|error| error.what().to_owned())
        };
        assert_eq!(one(json!({"text": "a", "id": 7})), Ok(Some("text".to_owned())));
        for nothing in [json!(null), json!([]), json!([null]), json!(" ")] {
            assert_eq!(one(json!({"text": "a", "input_ids": nothing})), Ok(Some("text".to_owned())));
            assert_eq!(one(json!({"input_ids": nothing})), Ok(Some("input_ids".to_owned())));
        }
        assert_eq!(one(json!({"messages": []})), Ok(None));
        let both = "the row has both `input_ids` and `text`, of which one is scored";
        assert_eq!(one(json!({"text": "a", "input_ids": [1]})), Err(both.to_owned()));
        assert_eq!(one(json!({"text": "a", "input_ids": long_list("[1]")})), Err(both.to_owned()));
    }
}
