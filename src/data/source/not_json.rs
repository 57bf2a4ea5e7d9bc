//! `NaN`, `Infinity` and `-Infinity`, which Python writes into JSON and JSON does not have.

use crate::data::object::not_a_number;
use crate::data::outside_texts::replaced;
use serde_json::Value;
use std::borrow::Cow;

/// The words, the longer first.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// `json` with an object in place of each of the words, which [`crate::data::object::kind_name`] knows again.
pub(super) fn without_not_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let marked = replaced(json, |rest| {
        let word = WORDS.iter().find(|word| rest.starts_with(word))?;
        Some((word.len(), Some(Value::Object(not_a_number()).to_string())))
    });
    marked.map_or(Cow::Borrowed(json), Cow::Owned)
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
