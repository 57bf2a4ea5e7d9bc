//! A row as columns with values: what every source gives and every format reads.

use serde_json::{Map, Value};

/// A row as columns with values.
pub(super) type Object = Map<String, Value>;

/// What a value is called in messages.
pub(super) fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
