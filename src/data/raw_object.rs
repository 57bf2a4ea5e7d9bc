//! The text of a JSON object, of which most is passed on as it was written: numbers that no type holds, the order of
//! keys, escapes.

use super::exact;
use super::object::{Object, long_list, one_line};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;

/// The object in `text`, in one line, with `fields` set: in their old places where it has them, else at its end. Every
/// other field keeps its bytes. Of a text that is no object, what is not understood is left out.
pub fn with_fields(text: &str, fields: &[(&str, Value)]) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    let mut written = vec![false; fields.len()];
    let mut push = |key: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(key);
        out.push(':');
        out.push_str(value);
    };
    for (key, value) in entries(text) {
        let name: Option<String> = serde_json::from_str(key).ok();
        match fields.iter().position(|(field, _)| name.as_deref() == Some(*field)) {
            None => push(key, &one_line(value)),
            Some(i) if !std::mem::replace(&mut written[i], true) => push(key, &fields[i].1.to_string()),
            Some(_) => {} // a key that comes twice
        }
    }
    for ((name, value), _) in fields.iter().zip(written).filter(|(_, written)| !written) {
        push(&Value::from(*name).to_string(), &value.to_string());
    }
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    out
}

/// An object with a value that no type holds, such as `1e400`: that one reads as null. `None` if `text` is none.
pub(super) fn with_unreadable_values(text: &str) -> Option<Object> {
    serde_json::from_str::<IgnoredAny>(text).ok().filter(|_| text.trim_start().starts_with('{'))?;
    let read = |(key, value): (&str, &str)| {
        Some((serde_json::from_str(key).ok()?, serde_json::from_str(value).unwrap_or(Value::Null)))
    };
    Some(entries(text).into_iter().filter_map(read).collect())
}

/// An object whose long lists of numbers stay what they are written as (see [`long_list`]): values take many times the
/// memory of their digits. `None` if `text` has no such list, or is no object.
pub(super) fn with_long_lists(text: &str) -> Option<Object> {
    if text.len() < LONG_LIST_BYTES {
        return None;
    }
    let entries = entries(text);
    entries.iter().any(|(_, value)| is_long_list(value)).then_some(())?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let read = |(key, value): (&str, &str)| {
        let value = match is_long_list(value) {
            true => serde_json::from_str::<Numbers>(value).ok().map(|_| long_list(value))?,
            false => exact::from_str(value).ok()?,
        };
        Some((serde_json::from_str(key).ok()?, value))
    };
    entries.into_iter().map(read).collect()
}

/// A list of numbers, of which none is kept.
struct Numbers;

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Numbers)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Self, A::Error> {
        while numbers.next_element::<f64>()?.is_some() {}
        Ok(self)
    }
}

/// From here on a list of numbers stays a text.
const LONG_LIST_BYTES: usize = 64 << 10;

fn is_long_list(value: &str) -> bool {
    let is_of_numbers = |byte: u8| byte.is_ascii_digit() || b"[], \t\r\n-+.eE".contains(&byte);
    value.len() >= LONG_LIST_BYTES && value.starts_with('[') && value.bytes().all(is_of_numbers)
}

/// The keys, in their quotes, and values of an object.
fn entries(text: &str) -> Vec<(&str, &str)> {
    let mut entries = Vec::new();
    let mut rest = text.trim_start().strip_prefix('{').unwrap_or_default();
    loop {
        rest = rest.trim_start();
        let (key, after) = rest.split_at(value_end(rest, b':'));
        let Some(after) = after.strip_prefix(':') else { return entries };
        let after = after.trim_start();
        let (value, after) = after.split_at(value_end(after, b','));
        entries.push((key.trim_end(), value.trim_end()));
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return entries,
        }
    }
}

/// Where `end`, or the end of the object around, comes after the value that begins `text`.
fn value_end(text: &str, end: u8) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b'}' => return at,
            _ if byte == end && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::super::object::{as_long_list, kind_name, too_large_number};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn long_lists_of_numbers_stay_texts() {
        let list = format!("[{}]", vec!["12"; LONG_LIST_BYTES / 3].join(","));
        let text = format!("{{\"a\\u0062\": {list} , \"n\": [1], \"t\": \"{}\"}}", "x".repeat(LONG_LIST_BYTES));
        let object = with_long_lists(&text).unwrap();
        assert_eq!((as_long_list(&object["ab"]), &object["n"]), (Some(&*list), &json!([1])));
        assert_eq!(kind_name(&object["ab"]), "a list");
        for other in [
            format!("{{\"a\": [\"{list}\"]}}"),
            format!("{{\"a\": {list}"),
            format!("{{\"a\": {list}]}}"),
            format!("{{\"a\": [{list}]}}"),
            format!("{{\"a\": {}}}", list.replacen("12", "1e400", 1)),
        ] {
            assert_eq!(with_long_lists(&other), None);
        }
        let beside = with_long_lists(&format!("{{\"a\": {list}, \"b\": 1e400}}")).unwrap();
        assert_eq!(beside["b"], Value::Object(too_large_number("1e400")), "as in a row without such a list");
    }

    #[test]
    fn what_is_not_set_keeps_its_bytes() {
        let set = |text: &str| with_fields(text, &[("completion", json!("é\"")), ("tokens", json!(2))]);
        assert_eq!(
            set(
                r#" { "id" : 12345678901234567890123, "x": 1e400,"y":1.10 ,"\u00e9": "\u00E9\/,}", "z": [1, {"}": 2}] } "#
            ),
            r#"{"id":12345678901234567890123,"x":1e400,"y":1.10,"\u00e9":"\u00E9\/,}","z":[1, {"}": 2}],"completion":"é\"","tokens":2}"#
        );
        let read = with_unreadable_values(r#"{"x": 1e400, "prompt": "a"}"#).unwrap();
        assert_eq!(Value::Object(read), json!({"x": null, "prompt": "a"}));
        for no_object in ["[1e400]", "{\"a\": 1e400", "{\"a\": 1e400,}"] {
            assert_eq!(with_unreadable_values(no_object), None);
        }
        assert_eq!(set("{}"), r#"{"completion":"é\"","tokens":2}"#);
        assert_eq!(
            set("{\"c\\u006fmpletion\": \"old\",\n\"a\": {\n}, \"completion\": 1}"),
            r#"{"c\u006fmpletion":"é\"","a":{ },"tokens":2}"#
        );
    }

    proptest! {
        #[test]
        fn what_comes_out_says_what_went_in(keys in proptest::collection::vec(".*", 0..5), text in ".*") {
            let object: Value = keys.iter().map(|key| (key.clone(), json!([text, {key: 1.5}]))).collect();
            for written in [object.to_string(), format!("{object:#}")] {
                let out = with_fields(&written, &[("completion", json!(text))]);
                let mut expected = object.clone();
                expected["completion"] = json!(text);
                prop_assert!(!out.contains('\n'));
                prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
            }
        }

        #[test]
        fn any_text_is_survived(text in ".*") {
            with_fields(&text, &[("completion", json!(1))]);
        }
    }
}
