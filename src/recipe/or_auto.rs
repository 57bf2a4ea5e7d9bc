//! The values of keys that may say `auto`.

use super::auto::AUTO;
use super::diagnose::Diagnosis;
use super::kinds::{FromNode, mismatch};
use super::raw::{Node, Shape};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// A value, or what suits the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OrAuto<T> {
    /// What suits.
    Auto,
    /// This value.
    Value(T),
}

impl<T: FromNode> FromNode for OrAuto<T> {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, .. } if text == AUTO => Some(OrAuto::Auto),
            Shape::Scalar { text, .. } if text.eq_ignore_ascii_case(AUTO) => {
                mismatch(node, path, "a number or `auto`", Some("write `auto`".into()), diagnosis)
            }
            _ => T::from_node(node, path, diagnosis).map(OrAuto::Value),
        }
    }
}

impl<T: Serialize> Serialize for OrAuto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OrAuto::Auto => serializer.serialize_str(AUTO),
            OrAuto::Value(value) => value.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrAuto<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OrAuto{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": AUTO }, T::json_schema(generator)] })
    }
}
