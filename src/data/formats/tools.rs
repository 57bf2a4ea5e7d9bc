//! Tool definitions and calls, as objects or as the JSON text that many data sets hold instead.

use super::columns::{Columns, as_list, as_object, as_text, wrong_kind};
use crate::data::exact;
use crate::data::object::{Object, check_is_json};
use crate::error::{Error, Kind, Result};
use crate::text::ToolCall;
use serde_json::Value;

/// The definitions in column `tools`: none, a list of objects, or such a list as JSON text.
pub(super) fn definitions(row: &Columns) -> Result<Vec<Value>> {
    let Some(value) = row.filled("tools") else { return Ok(Vec::new()) };
    let mut list = as_list(value, "tools")?.into_owned();
    for (i, tool) in list.iter_mut().enumerate() {
        let path = format!("tools[{i}]");
        as_object(tool, &path)?;
        check_is_json(tool, &path)?;
        drop_padding(tool);
    }
    Ok(list)
}

/// Takes the members that are null from all objects in `value`. Arrow gives every object of a column the members of all
/// others, and what was read from it and written again as JSON still has them.
fn drop_padding(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, member| !member.is_null());
            object.values_mut().for_each(drop_padding);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_padding),
        _ => {}
    }
}

/// The calls of a list found at `path`.
pub(super) fn calls(value: &Value, path: &str) -> Result<Vec<ToolCall>> {
    as_list(value, path)?.iter().enumerate().map(|(i, value)| call(value, &format!("{path}[{i}]"))).collect()
}

/// A call found at `path`: `{"name", "arguments"}`, bare or under `function`.
pub(super) fn call(value: &Value, path: &str) -> Result<ToolCall> {
    let outer = as_object(value, path)?;
    let function = match outer.get("function").filter(|f| !f.is_null()) {
        Some(function) => as_object(function, &format!("{path}.function"))?,
        None => outer,
    };
    let Some(name) = function.get("name").filter(|name| !name.is_null()) else {
        return Err(Error::new(Kind::Data, format!("`{path}` has no function name")));
    };
    let name = as_text(name, &format!("{path}.name"))?.to_owned();
    let path = format!("{path}.arguments");
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Value::Object(Object::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Object::new()),
        Some(Value::String(text)) => match exact::from_str(text) {
            Ok(object @ Value::Object(_)) => {
                check_is_json(&object, &path)?;
                object
            }
            Ok(other) => return Err(wrong_kind(&path, "an object", &other)),
            Err(e) => return Err(Error::new(Kind::Data, format!("`{path}` is text that is no valid JSON: {e}"))),
        },
        Some(object @ Value::Object(_)) => {
            check_is_json(object, &path)?;
            let mut arguments = object.clone();
            drop_padding(&mut arguments);
            arguments
        }
        Some(other) => return Err(wrong_kind(&path, "an object or its JSON text", other)),
    };
    Ok(ToolCall { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_come_as_object_text_or_not_at_all() {
        let arguments =
            |call_json: Value| call(&call_json, "c").map(|call| call.arguments).map_err(|e| e.what().to_owned());
        assert_eq!(arguments(json!({"name": "f", "arguments": {"a": 1}})).unwrap(), json!({"a": 1}));
        assert_eq!(arguments(json!({"function": {"name": "f", "arguments": "{\"a\":1}"}})).unwrap(), json!({"a": 1}));
        assert_eq!(arguments(json!({"name": "f", "arguments": null})).unwrap(), json!({}));
        let padded =
            json!({"name": "f", "arguments": {"a": "180", "b": null, "c": {"d": null}, "e": [null, {"f": null}]}});
        assert_eq!(arguments(padded).unwrap(), json!({"a": "180", "c": {}, "e": [null, {}]}));
        assert_eq!(arguments(json!({"name": "f", "arguments": ""})).unwrap(), json!({}));
        assert_eq!(
            arguments(json!({"name": "f", "arguments": "[1]"})),
            Err("`c.arguments` must be an object, found a list".into())
        );
        assert_eq!(
            arguments(json!({"name": "f", "arguments": 3})),
            Err("`c.arguments` must be an object or its JSON text, found a number".into())
        );
        // Text in a cell, or in a list that is text itself.
        let long = "{\"n\": 12345678901234567890123}";
        let lost = "`c.arguments.n` is an integer of more than 64 bits, whose last digits would be lost";
        assert_eq!(arguments(json!({"name": "f", "arguments": long})), Err(lost.into()));
        let list = Value::from(format!("[{{\"name\": \"f\", \"arguments\": {long}}}]"));
        assert_eq!(calls(&list, "c").unwrap_err().what(), lost.replace("c.", "c[0]."));
        assert_eq!(arguments(json!({"arguments": {}})), Err("`c` has no function name".into()));
        assert!(
            arguments(json!({"name": "f", "arguments": "{a"}))
                .unwrap_err()
                .starts_with("`c.arguments` is text that is no valid JSON")
        );
    }
}
