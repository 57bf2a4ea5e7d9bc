//! What is the same for all architectures where keys are written: linear scaling of positions, the names, and whether a
//! reader gets the rotations back.

use super::Rope;
use crate::weights::gguf::Value;

/// The `keys` under the names of an architecture, whose own comes first, with the scaling of positions that `global` has.
pub(in crate::model) fn named(
    prefix: &str,
    mut keys: Vec<(&'static str, Value)>,
    global: Rope,
) -> Vec<(String, Value)> {
    if global.factor != 1.0 {
        keys.push(("rope.scaling.type", Value::String("linear".into())));
        keys.push(("rope.scaling.factor", Value::F32(global.factor as f32)));
    }
    let architecture = Value::String(prefix.trim_end_matches('.').into());
    let keys = keys.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
    std::iter::once(("general.architecture".to_owned(), architecture)).chain(keys).collect()
}

/// Whether these are the same rotations, as far as f32 tells, which is what a file has.
pub(in crate::model) fn are_same(ropes: [Rope; 2], read: [Rope; 2]) -> bool {
    let narrow = |ropes: [Rope; 2]| ropes.map(|rope| [rope.theta, rope.factor].map(|value| value as f32));
    narrow(ropes) == narrow(read)
}
