//! `NaN`, `Infinity` and `-Infinity`, which Python writes into JSON and JSON does not have.

use std::borrow::Cow;

/// The words, the longer first.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// `json` with an object in place of each of the words, which [`crate::data::object::kind_name`] knows again.
pub(super) fn without_not_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let mut replaced: Option<Vec<u8>> = None;
    let (mut in_text, mut escaped, mut at, mut copied) = (false, false, 0, 0);
    while at < json.len() {
        match json[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                if let Some(word) = WORDS.iter().find(|word| json[at..].starts_with(word)) {
                    let bytes = replaced.get_or_insert_with(Vec::new);
                    bytes.extend_from_slice(&json[copied..at]);
                    let marker = serde_json::Value::Object(crate::data::object::not_a_number());
                    bytes.extend_from_slice(marker.to_string().as_bytes());
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    match replaced {
        Some(mut bytes) => {
            bytes.extend_from_slice(&json[copied..]);
            Cow::Owned(bytes)
        }
        None => Cow::Borrowed(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::object::kind_name;

    #[test]
    fn words_outside_of_texts_are_replaced() {
        let text = br#"{"a": NaN, "b": [-Infinity, "NaN \" NaN"], "c": Infinity}"#;
        let value: serde_json::Value = serde_json::from_slice(&without_not_numbers(text)).unwrap();
        assert_eq!(kind_name(&value["a"]), "NaN or Infinity, which JSON does not have");
        assert_eq!(value["b"][1], "NaN \" NaN");
        assert_eq!(kind_name(&value["c"]), kind_name(&value["b"][0]));
        let plain = br#"{"a": "NaN", "b": -1}"#;
        assert!(matches!(without_not_numbers(plain), Cow::Borrowed(_)));
    }
}
