//! A JSON Schema that stands in a recipe.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, mismatch};
use super::raw::{Node, Plain, Shape, brief, plain};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;

/// A JSON Schema, as a mapping.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct InlineSchema(pub Map<String, Value>);

impl FromNode for InlineSchema {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        if !matches!(node.shape, Shape::Map(_)) {
            let hint = match &node.shape {
                Shape::Scalar { text, .. } if text.ends_with(".json") => {
                    format!("the schema of a file is `schema_file: {}`", brief(text))
                }
                _ => "for example `{type: object, required: [name]}`".to_owned(),
            };
            return mismatch(node, path, "a JSON Schema", Some(hint), diagnosis);
        }
        let Some(Value::Object(schema)) = value(node, path, diagnosis) else { return None };
        let schema = InlineSchema(schema);
        match schema.validator() {
            Ok(_) => Some(schema),
            Err(Broken { what, at }) => {
                let at: Vec<&str> = at.split('/').skip(1).collect();
                let mark = within(node, &at).mark;
                diagnosis.wrong(path, &mark, format!("`{path}` is no JSON Schema: {what}"), None);
                None
            }
        }
    }
}

/// What is wrong with a schema, and where in it: a JSON pointer.
#[derive(Debug)]
pub struct Broken {
    /// What, as the end of a sentence.
    pub what: String,
    /// Where.
    pub at: String,
}

impl InlineSchema {
    /// What tells whether a value is valid under the schema.
    ///
    /// # Errors
    /// As [`validator`].
    pub fn validator(&self) -> Result<jsonschema::Validator, Broken> {
        validator(&Value::Object(self.0.clone()))
    }
}

/// What tells whether a value is valid under a schema. Nothing is read from a disk or a network for it.
///
/// # Errors
/// When it is no schema, or refers to something that does not stand in it.
pub fn validator(schema: &Value) -> Result<jsonschema::Validator, Broken> {
    if let Some((what, at)) = elsewhere(schema, "") {
        return Err(Broken { what, at });
    }
    jsonschema::options()
        .offline()
        .build(schema)
        .map_err(|error| Broken { what: brief_of(&error.to_string()), at: error.instance_path().to_string() })
}

/// The first thing that a schema refers to and that does not stand in it, and where.
fn elsewhere(schema: &Value, at: &str) -> Option<(String, String)> {
    let inside = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match schema {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| match value {
            Value::String(named) if matches!(key.as_str(), "$ref" | "$dynamicRef") && !named.starts_with('#') => {
                let what = format!("`{key}: {}` leads out of it, and nothing is fetched", brief(named));
                Some((what, inside(key)))
            }
            value => elsewhere(value, &inside(key)),
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| elsewhere(item, &format!("{at}/{i}"))),
        _ => None,
    }
}

/// A message on a line, and not all of a long one.
fn brief_of(message: &str) -> String {
    const MOST_CHARS: usize = 300;
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_CHARS).collect();
    line.trim().to_owned()
}

/// The innermost node on the way of these segments of a JSON pointer.
fn within<'n>(node: &'n Node, segments: &[&str]) -> &'n Node {
    let Some((first, rest)) = segments.split_first() else { return node };
    let name = first.replace("~1", "/").replace("~0", "~");
    let inner = match &node.shape {
        Shape::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value),
        Shape::List(items) => name.parse::<usize>().ok().and_then(|i| items.get(i)),
        Shape::Scalar { .. } => None,
    };
    inner.map_or(node, |inner| within(inner, rest))
}

/// A node as JSON; what has no form there is reported.
fn value(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Value> {
    match &node.shape {
        Shape::Map(entries) => {
            let entry = |entry: &super::raw::Entry| {
                Some((entry.key.clone(), value(&entry.value, &format!("{path}.{}", entry.key), diagnosis)?))
            };
            entries.iter().map(entry).collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Shape::List(items) => {
            let item = |(i, item): (usize, &Node)| value(item, &format!("{path}[{i}]"), diagnosis);
            items.iter().enumerate().map(item).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Shape::Scalar { text, plain: false } => Some(Value::from(text.as_str())),
        Shape::Scalar { text, plain: true } => match plain(text) {
            Plain::Null => Some(Value::Null),
            Plain::Bool(flag) => Some(Value::from(flag)),
            Plain::Text => Some(Value::from(text.as_str())),
            Plain::Integer(whole) => {
                let number = whole.and_then(Number::from_i128);
                number.map(Value::Number).or_else(|| mismatch(node, path, "a number of 64 bits", None, diagnosis))
            }
            Plain::Float(number) => Number::from_f64(number)
                .map(Value::Number)
                .or_else(|| mismatch(node, path, "a finite number", None, diagnosis)),
        },
    }
}

impl JsonSchema for InlineSchema {
    fn schema_name() -> Cow<'static, str> {
        "InlineSchema".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_tells_what_is_valid_and_fetches_nothing() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"enum": ["x"]}},
            "required": ["a"],
            "$defs": {"n": {"type": "integer", "minimum": 2}},
        });
        let validator = validator(&schema).unwrap();
        for (value, is_valid) in [
            (json!({"a": 2, "b": "x"}), true),
            (json!({"a": 1}), false),
            (json!({"a": 2, "b": "y"}), false),
            (json!({}), false),
            (json!([]), false),
        ] {
            assert_eq!(validator.is_valid(&value), is_valid, "{value}");
        }
        for (schema, what, at) in [
            (json!({"type": "strin"}), "strin", "/type"),
            (json!({"properties": {"a": {"minimum": "2"}}}), "\"2\"", "/properties/a/minimum"),
            (json!({"items": [{"$ref": "https://example.com/a.json"}]}), "nothing is fetched", "/items/0/$ref"),
            (json!({"$ref": "file:///etc/passwd"}), "leads out of it", "/$ref"),
            (json!({"$ref": "other.json"}), "leads out of it", "/$ref"),
        ] {
            let broken = super::validator(&schema).unwrap_err();
            assert!(broken.what.contains(what) && broken.at == at, "{broken:?}");
        }
        assert!(super::validator(&json!({"$ref": "#/$defs/nowhere"})).is_err());
    }
}
