//! JSON of which no number loses anything unnoticed: integers of more than 64 bits would become floats, and lose their last
//! digits.

use super::object::{too_large_number, too_long_integer};
use super::outside_texts::replaced;
use serde_json::Value;

/// The value of a JSON text. A number that no type holds is a mark in its place, which
/// `kind_name` of objects knows: where it is used it is named, and elsewhere it does no harm.
///
/// # Errors
/// When the text is no JSON.
pub fn from_str(text: &str) -> serde_json::Result<Value> {
    let parsed = serde_json::from_str(text);
    let is_in_doubt = match &parsed {
        Ok(value) => has_huge(value),
        Err(error) => error.to_string().starts_with("number out of range"),
    };
    match marked(text.as_bytes()).filter(|_| is_in_doubt) {
        Some(marked) => serde_json::from_slice(&marked).or(parsed),
        None => parsed,
    }
}

/// Whether a float is so large that it may have been an integer.
fn has_huge(value: &Value) -> bool {
    const BEYOND: f64 = 9.2e18; // about 2^63
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= BEYOND),
        Value::Array(items) => items.iter().any(has_huge),
        Value::Object(object) => object.values().any(has_huge),
        _ => false,
    }
}

/// The text with marks in the place of numbers that no type holds; `None` without such numbers.
fn marked(json: &[u8]) -> Option<Vec<u8>> {
    replaced(json, |rest| {
        let begins = matches!(rest.first(), Some(b'-' | b'0'..=b'9'));
        let length = || rest.iter().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b)).count();
        begins.then(length).map(|length| (length, str::from_utf8(&rest[..length]).ok().and_then(mark)))
    })
}

/// What stands for a number that no type holds.
fn mark(number: &str) -> Option<String> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_whole = digits.bytes().all(|b| b.is_ascii_digit());
    let mark = match is_whole {
        true if number.parse::<i64>().is_err() && number.parse::<u64>().is_err() => too_long_integer(number),
        false if number.parse::<f64>().is_ok_and(f64::is_infinite) => too_large_number(number),
        _ => return None,
    };
    Some(Value::Object(mark).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::object::kind_name;
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_no_type_holds_are_marked_and_others_stay() {
        let long = "12345678901234567890123";
        let value =
            from_str(&format!(r#"{{"a": {long}, "b": [-{long}, 1e400, 18446744073709551615], "c": "\"{long}"}}"#))
                .unwrap();
        assert_eq!(kind_name(&value["a"]), "an integer of more than 64 bits, whose last digits would be lost");
        assert_eq!(kind_name(&value["b"][0]), kind_name(&value["a"]));
        assert_eq!(kind_name(&value["b"][1]), "a number beyond 1.8e308, the largest that there is");
        assert_eq!((&value["b"][2], &value["c"]), (&json!(u64::MAX), &json!(format!("\"{long}"))));
        for same in ["1e20", "-0.5", "-9223372036854775808", "{\"a\": [1.0E5, 2]}", "123456789012345678901.5", "null"] {
            assert_eq!(from_str(same).unwrap(), serde_json::from_str::<Value>(same).unwrap(), "{same}");
        }
        for wrong in ["{", &format!("{{\"a\": {long}"), "[1e400", "01"] {
            let message = |result: serde_json::Result<Value>| result.unwrap_err().to_string();
            assert_eq!(message(from_str(wrong)), message(serde_json::from_str(wrong)), "{wrong}");
        }
    }
}
