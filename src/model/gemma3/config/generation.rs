//! The part of `generation_config.json` that decides how a model is sampled and when it stops.

use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::path::Path;

/// Generation defaults as the checkpoint's publisher set them; `None` where the file is silent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationConfig {
    /// Tokens that end generation.
    pub eos_token_ids: Option<Vec<u32>>,
    /// Whether to sample; greedy otherwise.
    pub do_sample: Option<bool>,
    /// Divisor of the logits.
    pub temperature: Option<f64>,
    /// Sample among this many most likely tokens.
    pub top_k: Option<u32>,
    /// Sample among the most likely tokens that together reach this probability.
    pub top_p: Option<f64>,
}

impl GenerationConfig {
    /// Reads `dir/generation_config.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Config`] when the file is not a JSON object or a key above has a wrong type.
    pub fn from_folder(dir: &Path) -> Result<Option<GenerationConfig>> {
        let path = dir.join("generation_config.json");
        let bytes = match crate::input::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::input(Kind::Config, "reading", &path, e)),
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(Kind::Config, format!("not valid JSON: {e}")).at_path(&path))?;
        let wrong = |key: &str, expected: &str| {
            let found = value.get(key).map(ToString::to_string).unwrap_or_default();
            Error::new(Kind::Config, format!("`{key}` is {found}; expected {expected}")).at_path(&path)
        };
        if !value.is_object() {
            return Err(Error::new(Kind::Config, "expected a JSON object").at_path(&path));
        }
        // A present, non-null key must convert; the rest of the file is none of our business.
        let given = |key: &str| value.get(key).filter(|v| !v.is_null());
        let number = |key: &str| given(key).map(|v| v.as_f64().ok_or_else(|| wrong(key, "a number"))).transpose();
        Ok(Some(GenerationConfig {
            eos_token_ids: given("eos_token_id")
                .map(|v| token_ids(v).ok_or_else(|| wrong("eos_token_id", "a token id or a list of them")))
                .transpose()?,
            do_sample: given("do_sample")
                .map(|v| v.as_bool().ok_or_else(|| wrong("do_sample", "true or false")))
                .transpose()?,
            temperature: number("temperature")?,
            top_k: given("top_k").map(|v| token_id(v).ok_or_else(|| wrong("top_k", "a whole number"))).transpose()?,
            top_p: number("top_p")?,
        }))
    }
}

/// A whole number that fits a token id.
pub(super) fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Hugging Face's `eos_token_id`: one id or a list of ids.
pub(super) fn token_ids(value: &Value) -> Option<Vec<u32>> {
    match value {
        Value::Array(ids) => ids.iter().map(token_id).collect(),
        one => token_id(one).map(|id| vec![id]),
    }
}
