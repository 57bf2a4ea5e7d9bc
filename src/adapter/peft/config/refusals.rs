//! Which keys of a PEFT `adapter_config.json` change numbers in ways that this program does not compute.

use super::keys::{is_module, short};
use crate::error::{Error, Kind};
use crate::model::SCORE_MODULE;
use serde_json::{Map, Value};

/// Keys that are read.
const READ: [&str; 16] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// Keys that never change what a trained adapter computes: they steer initialisation, training or loading only.
const HARMLESS: [&str; 12] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying", // acts on embeddings in `modules_to_save`, which are refused
    "eva_config",
    "inference_mode",
    "loftq_config", // acts through `init_lora_weights: loftq`, which is refused
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size", // acts through `use_qalora`, which is refused
    "runtime_config",
    "velora_config",
];

/// Keys that change numbers when set, and what they are in a few words.
const REFUSED: [(&str, &str); 13] = [
    ("alora_invocation_tokens", "an adapter that switches on mid-text"),
    ("arrow_config", "routing between adapters"),
    ("fan_in_fan_out", "transposed weights"),
    ("kasa_config", "KaSA's truncated base"),
    ("layer_replication", "repeated layers"),
    ("lora_bias", "a trained bias on B"),
    ("megatron_config", "Megatron's parallel layers"),
    ("monteclora_config", "sampled adapter weights"),
    ("target_parameters", "adapters on single parameters"),
    ("trainable_token_indices", "trained embedding rows"),
    ("use_bdlora", "block-diagonal factors"),
    ("use_qalora", "pooled inputs"),
    ("invocation_string", "an adapter that switches on mid-text"),
];

/// Initialisations that leave the base weights alone, so that a trained adapter means the same without them.
const NEUTRAL_INITS: [&str; 4] = ["gaussian", "eva", "mica", "orthogonal"];

/// An error for each setting that changes numbers and is not supported.
pub(super) fn unsupported_keys(keys: &Map<String, Value>) -> Vec<Error> {
    let refused = REFUSED.iter().filter_map(|(key, meaning)| {
        let value = keys.get(*key).filter(|value| !is_unset(value))?;
        Some(refusal(key, value, format!("it means {meaning}, which is not supported")))
    });
    let unknown_switches = keys.iter().filter_map(|(key, value)| {
        let unknown = !is_known(key) && key.starts_with("use_") && value == &Value::Bool(true);
        unknown.then(|| {
            refusal(key, value, "this switch is not known here and may change what the adapter computes".into())
        })
    });
    let mut errors: Vec<Error> = refused.chain(unknown_switches).collect();
    if let Some(value) = keys.get("bias").filter(|value| !value.is_null() && value.as_str() != Some("none")) {
        errors.push(refusal("bias", value, "trained biases are not supported, and Gemma 3 has none".into()));
    }
    if let Some(value) = keys.get("task_type").filter(|value| !value.is_null()) {
        match value.as_str() {
            Some("CAUSAL_LM") => {}
            Some("SEQ_CLS") if keys.get("modules_to_save").is_some_and(has_head) => {}
            Some("SEQ_CLS") => {
                let why = format!("it has no `{SCORE_MODULE}` in `modules_to_save`, and nothing to judge by");
                errors.push(refusal("task_type", value, why));
            }
            _ => errors.push(refusal("task_type", value, "only `CAUSAL_LM` and `SEQ_CLS` adapters can be used".into())),
        }
    }
    errors.extend(init_refusal(keys.get("init_lora_weights")));
    errors
}

/// Whether a list of modules has the head of a reward model.
fn has_head(modules: &Value) -> bool {
    let mut names = modules.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.any(|name| is_module(name, SCORE_MODULE))
}

/// Keys that were set and not used, in the file's order.
pub(super) fn ignored_keys(keys: &Map<String, Value>) -> Vec<String> {
    let refused_or_checked = |key: &str| REFUSED.iter().any(|(k, _)| *k == key) || ["bias", "task_type"].contains(&key);
    // Written by PEFT itself on every save: nothing that a user would miss.
    let usual = ["inference_mode", "megatron_core", "peft_version", "qalora_group_size", "auto_mapping"];
    keys.iter()
        .filter(|(key, value)| !READ.contains(&key.as_str()) && !refused_or_checked(key) && !is_unset(value))
        .map(|(key, _)| key.clone())
        .filter(|key| !usual.contains(&key.as_str()))
        .collect()
}

fn is_known(key: &str) -> bool {
    READ.contains(&key) || HARMLESS.contains(&key) || REFUSED.iter().any(|(k, _)| *k == key)
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn refusal(key: &str, value: &Value, why: String) -> Error {
    Error::new(Kind::Adapter, format!("`{key}: {}` cannot be used: {why}", short(value).trim_matches('`')))
}

/// Refuses initialisations that replaced the base weights by a residual, unless they were converted on saving.
fn init_refusal(value: Option<&Value>) -> Option<Error> {
    let name = match value? {
        Value::Null | Value::Bool(_) => return None,
        Value::String(name) if NEUTRAL_INITS.contains(&name.to_lowercase().as_str()) => return None,
        Value::String(name) => name,
        other => return Some(refusal("init_lora_weights", other, "it is neither true, false nor a name".into())),
    };
    let why = "the adapter belongs to changed base weights, not to the published ones".to_owned();
    Some(
        Error::new(Kind::Adapter, format!("`init_lora_weights: {name}` cannot be used: {why}"))
            .hint("save it in PEFT with `path_initial_model_for_weight_conversion`, which makes it a plain LoRA"),
    )
}
