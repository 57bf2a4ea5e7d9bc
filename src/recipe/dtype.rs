//! The number types of keys: a dtype, or `auto`.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, not_a_word};
use super::raw::{Node, Shape};
use crate::weights::HostDtype;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::json;

/// A dtype; `None` is `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoDtype(pub Option<HostDtype>);

impl AutoDtype {
    /// Left to the program.
    pub const AUTO: AutoDtype = AutoDtype(None);

    const ALL: [AutoDtype; 4] = [
        AutoDtype::AUTO,
        AutoDtype(Some(HostDtype::BF16)),
        AutoDtype(Some(HostDtype::F16)),
        AutoDtype(Some(HostDtype::F32)),
    ];

    fn word(self) -> &'static str {
        match self.0 {
            None => "auto",
            Some(HostDtype::BF16) => "bf16",
            Some(HostDtype::F16) => "f16",
            Some(HostDtype::F32) => "f32",
        }
    }
}

impl FromNode for AutoDtype {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let found = match &node.shape {
            Shape::Scalar { text, .. } => AutoDtype::ALL.into_iter().find(|dtype| dtype.word() == text),
            _ => None,
        };
        found.or_else(|| not_a_word(node, path, &AutoDtype::ALL.map(AutoDtype::word), diagnosis))
    }
}

impl Serialize for AutoDtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// The words of `model.dtype`, with what they mean there.
pub(super) fn held(_: &mut SchemaGenerator) -> Schema {
    words(["As stored; bf16 for a quantised file.", "bfloat16, 2 bytes.", "float16, 2 bytes.", "float32, 4 bytes."])
}

/// The words of `model.compute_dtype`, with what they mean there.
pub(super) fn computed(_: &mut SchemaGenerator) -> Schema {
    words([
        "What the device multiplies fastest: bf16 or f16 where it has matrix units or instructions for them, f32 elsewhere and for f32 weights.",
        "bfloat16.",
        "float16; rows are scaled, so that none overflows.",
        "float32.",
    ])
}

fn words(meanings: [&str; 4]) -> Schema {
    let words = AutoDtype::ALL.into_iter().zip(meanings);
    let words = words.map(|(dtype, is)| json!({ "type": "string", "const": dtype.word(), "description": is }));
    json_schema!({ "oneOf": words.collect::<Vec<_>>() })
}
