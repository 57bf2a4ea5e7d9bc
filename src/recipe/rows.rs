//! Kinds of values that only `data` has: the names of columns, and how much is held back.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, mismatch};
use super::raw::{Node, Shape};
use super::rules::Verdict;
use super::suggest::closest;
use crate::data::options::RowFormat;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What people call the columns of `prompt_completion`.
const OTHER_NAMES: [(&str, &str); 4] =
    [("question", "prompt"), ("query", "prompt"), ("answer", "completion"), ("response", "completion")];

/// What columns are called, by what formats call them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Renames(pub BTreeMap<String, String>);

impl FromNode for Renames {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let Shape::Map(entries) = &node.shape else {
            let hint = Some("for example `{prompt: question, completion: answer}`".to_owned());
            return mismatch(node, path, "names of columns", hint, diagnosis);
        };
        let known = RowFormat::Auto.columns();
        let mut renames = BTreeMap::new();
        let mut good = true;
        for entry in entries {
            let own = format!("{path}.{}", entry.key);
            diagnosis.give(&own, entry.value.mark);
            if !known.contains(&entry.key.as_str()) {
                let other = closest(&entry.key, OTHER_NAMES.iter().map(|(other, _)| *other));
                let called = OTHER_NAMES.iter().find(|(name, _)| other == Some(*name));
                let called = called.map(|(_, own)| format!("formats call it `{own}`"));
                let close = closest(&entry.key, known.iter().copied()).map(|close| format!("did you mean `{close}`?"));
                // The names are easily written the wrong way round.
                let turned = match &entry.value.shape {
                    Shape::Scalar { text, .. } if known.contains(&text.as_str()) => {
                        Some(format!("the format's name comes first: `{text}: {}`", entry.key))
                    }
                    _ => None,
                };
                let all = || format!("formats have: {}", known.join(", "));
                let what = format!("`{path}`: no format has a column `{}`", entry.key);
                diagnosis.wrong(&own, &entry.mark, what, Some(turned.or(called).or(close).unwrap_or_else(all)));
                good = false;
            } else if entry.value.is_null() {
                diagnosis.wrong(&own, &entry.value.mark, format!("`{own}` names no column"), None);
                good = false;
            } else {
                match String::from_node(&entry.value, &own, diagnosis) {
                    Some(column) => drop(renames.insert(entry.key.clone(), column)),
                    None => good = false,
                }
            }
        }
        let mut columns: Vec<&String> = renames.values().collect();
        columns.sort();
        if let Some(twice) = columns.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("`{path}` gives column `{}` two meanings", twice[0]);
            diagnosis.wrong(path, &node.mark, what, None);
            good = false;
        }
        good.then_some(Renames(renames))
    }
}

impl JsonSchema for Renames {
    fn schema_name() -> Cow<'static, str> {
        "Renames".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "enum": RowFormat::Auto.columns() },
            "additionalProperties": { "type": "string" }
        })
    }
}

/// The share of the training rows that is held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EvalFraction {
    /// As many as suit the rows: none where there are few, or where `eval` has some.
    Auto,
    /// This share.
    Of(f64),
}

impl EvalFraction {
    /// Whether rows may be held back.
    pub fn holds_back(self) -> bool {
        self != EvalFraction::Of(0.0)
    }

    pub(super) fn wrong(&self) -> Verdict {
        match self {
            EvalFraction::Of(share) if !(0.0..1.0).contains(share) => {
                Some(("must be at least 0 and below 1".into(), None))
            }
            _ => None,
        }
    }
}

impl FromNode for EvalFraction {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Scalar { text, .. } if text == "auto" => Some(EvalFraction::Auto),
            _ => f64::from_node(node, path, diagnosis).map(EvalFraction::Of),
        }
    }
}

impl Serialize for EvalFraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EvalFraction::Auto => serializer.serialize_str("auto"),
            EvalFraction::Of(share) => serializer.serialize_f64(*share),
        }
    }
}

impl JsonSchema for EvalFraction {
    fn schema_name() -> Cow<'static, str> {
        "EvalFraction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 }] })
    }
}
