//! Fields of a request, each of which is known, wrong, or unknown, and never passed over.

use crate::error::did_you_mean;
use crate::serve::refusal::Refusal;
use crate::terminal::excerpt;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

type Result<T> = std::result::Result<T, Refusal>;

/// The body of a request as an object.
///
/// # Errors
/// What is no JSON, or no object.
pub fn object(body: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::bad("the body is JSON, and not an object")),
        Err(error) => Err(Refusal::bad(format!("the body is no JSON: {error}")).code("invalid_json")),
    }
}

/// The fields of an object, read by name.
pub struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number within bounds.
    pub fn number(&self, name: &str, bounds: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (low, high) = bounds.into_inner();
                Err(Refusal::param(name, format!("`{name}` is a number from {low} to {high}, not {}", shown(value))))
            }
        }
    }

    /// A whole number within bounds.
    pub fn count(&self, name: &str, bounds: RangeInclusive<u64>) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| bounds.contains(number));
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => {
                let (low, high) = bounds.into_inner();
                let most = if high == u64::MAX { "or more".to_owned() } else { format!("to {high}") };
                Err(Refusal::param(name, format!("`{name}` is a whole number, {low} {most}, not {}", shown(value))))
            }
        }
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Refusal::param(name, format!("`{name}` is true or false, not {}", shown(other)))),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::param(name, format!("`{name}` is a text, not {}", shown(other)))),
        }
    }

    /// A text, or several.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let wrong =
            |found: &Value| Refusal::param(name, format!("`{name}` is a text or a list of them, not {}", shown(found)));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(|| wrong(text))).collect()
            }
            Some(other) => Err(wrong(other)),
        }
    }

    /// Refuses fields that are not `known`. Of `without_effect` nothing here depends.
    pub fn check(&self, known: &[&str], without_effect: &[&str]) -> Result<()> {
        let is_known = |name: &str| known.contains(&name) || without_effect.contains(&name);
        let Some((name, _)) = self.0.iter().find(|(name, value)| !is_known(name) && !value.is_null()) else {
            return Ok(());
        };
        let hint = did_you_mean(name, known.iter().copied()).map(|close| format!("; did you mean `{close}`?"));
        let what = format!("`{name}` is not known here{}", hint.unwrap_or_default());
        Err(Refusal::param(name, what).code("unknown_parameter"))
    }
}

/// Refuses so many items of a field where only `most` are taken at once.
pub fn few(name: &str, found: usize, most: usize, what: &str) -> Result<()> {
    match found <= most {
        true => Ok(()),
        false => {
            let message = format!("`{name}` has {found} {what}: at most {most} are taken at once");
            Err(Refusal::param(name, message).code("array_above_max_length"))
        }
    }
}

/// A value in a few words.
fn shown(value: &Value) -> String {
    excerpt(&value.to_string(), 40)
}
