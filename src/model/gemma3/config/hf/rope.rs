//! The rotary embedding's keys: per layer type (`rope_parameters`, transformers 5) or the older flat three.

use super::super::{Rope, limit};
use super::table::{Table, brief};
use serde_json::{Map, Value};

const TYPES: &str = "`default` or `linear`";

/// Reads both ropes as transformers does: nested values first, then the older keys, then the defaults; `rope_scaling`
/// applies to full layers only. Returns (sliding, full).
pub(in crate::model) fn read(t: &mut Table) -> (Rope, Rope) {
    let nested = match t.take("rope_parameters") {
        Some(Value::Object(nested)) => Some(nested),
        None | Some(Value::Null) => None,
        Some(other) => {
            t.problem("rope_parameters", &format!("it is {}", brief(other)), "an object per layer type");
            None
        }
    };
    for key in nested.into_iter().flat_map(Map::keys) {
        if key != "full_attention" && key != "sliding_attention" {
            // Gemma 3 in transformers drops a flat form silently and takes its defaults.
            let supported = "an object under `full_attention` and one under `sliding_attention`";
            t.problem(
                &format!("rope_parameters.{key}"),
                "it stands outside a layer type, where it has no effect",
                supported,
            );
        }
    }
    let scaling = match t.take("rope_scaling") {
        Some(Value::Object(scaling)) => Some(scaling),
        None | Some(Value::Null) => None,
        Some(other) => {
            t.problem("rope_scaling", &format!("it is {}", brief(other)), "null or an object");
            None
        }
    };
    let local = layer(t, nested, "sliding_attention", None, "rope_local_base_freq", 10_000.0);
    let global = layer(t, nested, "full_attention", scaling, "rope_theta", 1_000_000.0);
    (local, global)
}

fn layer(
    t: &mut Table,
    nested: Option<&Map<String, Value>>,
    name: &str,
    scaling: Option<&Map<String, Value>>,
    theta_key: &str,
    default_theta: f64,
) -> Rope {
    let flat_theta = t.take(theta_key).filter(|v| !v.is_null());
    let parameters = match nested.and_then(|n| n.get(name)) {
        Some(Value::Object(parameters)) => Some(parameters),
        None | Some(Value::Null) => None,
        Some(other) => {
            t.problem(&format!("rope_parameters.{name}"), &format!("it is {}", brief(other)), "an object");
            None
        }
    };
    let nested_path = format!("rope_parameters.{name}");
    let (nested_theta, nested_factor) = parameters.map(|p| one(t, p, &nested_path, true)).unwrap_or_default();
    let (_, scaling_factor) = scaling.map(|p| one(t, p, "rope_scaling", false)).unwrap_or_default();
    let theta = match (nested_theta, flat_theta) {
        (Some(theta), flat) => {
            if flat.is_some_and(|f| f.as_f64() != Some(theta)) {
                t.problem(theta_key, &format!("`{nested_path}.rope_theta` says otherwise"), "one value");
            }
            theta
        }
        (None, Some(flat)) => t.positive_value(theta_key, flat, default_theta, limit::THETA),
        (None, None) => default_theta,
    };
    Rope { theta, factor: scaling_factor.or(nested_factor).unwrap_or(1.0) }
}

/// Reads one object of rope keys: (`rope_theta`, divisor of the frequencies).
fn one(t: &mut Table, object: &Map<String, Value>, path: &str, with_theta: bool) -> (Option<f64>, Option<f64>) {
    let (mut theta, mut factor, mut kind) = (None, None, "default");
    for (key, value) in object.iter().filter(|(_, v)| !v.is_null()) {
        let full = format!("{path}.{key}");
        match key.as_str() {
            "rope_type" => match value.as_str() {
                Some("default") => kind = "default",
                Some("linear") => kind = "linear",
                _ => {
                    t.problem(&full, &format!("it is {}", brief(value)), TYPES);
                    kind = "unknown";
                }
            },
            "rope_theta" if with_theta => theta = Some(t.positive_value(&full, value, 1.0, limit::THETA)),
            "factor" => factor = Some(t.positive_value(&full, value, 1.0, limit::ROPE_FACTOR)),
            // transformers 4 took this spelling for `rope_type`, transformers 5 leaves it without effect.
            "type" if object.get("rope_type").is_none_or(|r| r != value) => {
                t.problem(&full, "transformers versions read it differently", &format!("`rope_type`: {TYPES}"));
                kind = "unknown";
            }
            "type" => {}
            "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
            _ => t.problem(&full, &format!("it is {}", brief(value)), "`rope_type`, `rope_theta` and `factor`"),
        }
    }
    match (kind, factor) {
        ("linear", None) => {
            t.problem(&format!("{path}.factor"), "it is missing", "a number above 0 beside `rope_type` `linear`");
            (theta, None)
        }
        ("default", Some(factor)) if factor != 1.0 => {
            let what = "it has no effect beside `rope_type` `default`";
            t.problem(&format!("{path}.factor"), what, "`factor` with `rope_type` `linear`");
            (theta, None)
        }
        ("linear", factor) => (theta, factor),
        _ => (theta, None),
    }
}
