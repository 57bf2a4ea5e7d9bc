//! Which model this is, and what to make of keys that no reader asked for.

use super::table::{Table, brief, locate};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Takes the keys of what has one value in both architectures, and complains of every other.
pub(in crate::model) fn require_fixed_parts(t: &mut Table) {
    t.unsupported_unless("hidden_activation", "gelu_pytorch_tanh");
    t.unsupported_unless("hidden_act", "gelu_pytorch_tanh");
    t.unsupported_unless("attention_bias", false);
    t.unsupported_unless("attention_dropout", 0.0);
    t.unsupported_unless("use_bidirectional_attention", false);
    t.unsupported_unless("attn_logit_softcapping", Value::Null);
}

/// Keys that never change what the model computes, although their names may look like it.
const HARMLESS: [&str; 27] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "attn_implementation",
    "boi_token_index",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "eoi_token_index",
    "gradient_checkpointing",
    "image_token_index",
    "initializer_range",
    "is_decoder",
    "mm_tokens_per_image",
    "output_attentions",
    "output_hidden_states",
    "temperature",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "vision_config",
];

/// Parts of names that, in any model's config, mean that the numbers depend on the key.
const NUMERIC: [&str; 29] = [
    "_eps",
    "activation",
    "adapter",
    "altup",
    "attention",
    "attn",
    "bias",
    "compress",
    "dropout",
    "embed",
    "epsilon",
    "expert",
    "head",
    "hidden",
    "laurel",
    "layer",
    "lora",
    "mlp",
    "moe",
    "multiplier",
    "norm",
    "pattern",
    "quant",
    "rope",
    "rotary",
    "scal",
    "softcap",
    "sparsity",
    "window",
];

/// Refuses what is not a Gemma 3 language model, saying what it is.
pub(super) fn check_architecture(top: &Map<String, Value>, text: &str, path: &Path) -> Result<()> {
    let refuse = |key: &str, what: String, hint: &str| {
        Err(Error::new(Kind::Config, what).at(locate(text, path, key)).hint(hint))
    };
    let supported = "this program tunes Gemma 3 and Gemma 3n: `model_type` `gemma3_text` or `gemma3n_text`, or `gemma3` or \
                     `gemma3n` with its `text_config`";
    let Some(model_type) = top.get("model_type").and_then(Value::as_str) else {
        return refuse("model_type", "`model_type` is missing, so this may be any model".into(), supported);
    };
    match model_type {
        "gemma3" | "gemma3_text" => {}
        other if other.starts_with("gemma") || other.contains("gemma") => {
            return refuse("model_type", format!("`model_type` is `{other}`: another Gemma, not Gemma 3"), supported);
        }
        other => return refuse("model_type", format!("`model_type` is `{other}`: not a Gemma 3 model"), supported),
    }
    if let Some(nested) = top.get("text_config").and_then(|t| t.get("model_type")).and_then(Value::as_str)
        && nested != "gemma3_text"
    {
        let what = format!("`text_config.model_type` is `{nested}`; supported: `gemma3_text`");
        return Err(Error::new(Kind::Config, what).at_path(path));
    }
    let architectures = top.get("architectures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known = ["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma3TextModel", "Gemma3Model"];
    match architectures.iter().filter_map(Value::as_str).find(|a| !known.contains(a) && !JUDGES.contains(a)) {
        None => Ok(()),
        Some(other) => {
            let what = format!(
                "`architectures` names `{other}`; supported: `Gemma3ForCausalLM`, `Gemma3ForConditionalGeneration`"
            );
            refuse("architectures", what, "a classifier or embedding model has no language-model head to tune")
        }
    }
}

/// The classes of transformers whose head gives numbers for a text.
const JUDGES: [&str; 2] = ["Gemma3TextForSequenceClassification", "Gemma3ForSequenceClassification"];

/// The keys that say what those numbers are of.
pub const LABELS: [&str; 4] = ["id2label", "label2id", "num_labels", "problem_type"];

/// Whether a model gives one number for a text, as a reward model does, in the place of the next word.
///
/// # Errors
/// When it gives several: a classifier.
pub fn judges(top: &Map<String, Value>, text: &str, path: &Path) -> Result<bool> {
    let architectures = top.get("architectures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(class) = architectures.iter().filter_map(Value::as_str).find(|class| JUDGES.contains(class)) else {
        return Ok(false);
    };
    let named = top.get("id2label").and_then(Value::as_object).map(|labels| labels.len() as u64);
    // As transformers has it, two where nothing is said.
    let labels = named.or(top.get("num_labels").and_then(Value::as_u64)).unwrap_or(2);
    if labels == 1 {
        return Ok(true);
    }
    let what = format!("`architectures` names `{class}` with {labels} labels; supported: one, the reward of a text");
    let hint = "a classifier of several labels neither writes nor rewards; of a reward model `id2label` has one entry";
    Err(Error::new(Kind::Config, what).at(locate(text, path, "architectures")).hint(hint))
}

/// Sorts the keys of the language model that nothing has read into ignored ones and problems.
pub(in crate::model) fn check_unused(table: Table, ignored: &mut Vec<String>, problems: &mut Vec<Error>) {
    sort(table, |_, _| false, ignored, problems);
}

/// As [`check_unused`] for what stands beside `text_config`; a repetition of the language model's own key is harmless.
pub(in crate::model) fn check_unused_outer(
    table: Table,
    inner: &Map<String, Value>,
    ignored: &mut Vec<String>,
    problems: &mut Vec<Error>,
) {
    sort(table, |key, value| key == "text_config" || inner.get(key) == Some(value), ignored, problems);
}

fn sort(mut table: Table, fine: impl Fn(&str, &Value) -> bool, ignored: &mut Vec<String>, problems: &mut Vec<Error>) {
    let unused: Vec<_> = table.unused().collect();
    for (key, value) in unused {
        if ["architectures", "model_type"].contains(&key.as_str()) || (key == "text_config" && !table.is_nested()) {
            continue;
        }
        let numeric = NUMERIC.iter().any(|part| key.to_lowercase().contains(part));
        if key == "quantization_config" && !value.is_null() {
            // NF4 is recognised by the tensors themselves.
            if let Some(form) = unreadable_form(value) {
                let what = format!("the weights are stored quantised (`{form}`)");
                let supported =
                    "bitsandbytes NF4, unquantised safetensors (the original checkpoint), or a `.gguf` file";
                table.problem(key, &what, supported);
            } else {
                ignored.push(table.shown(key));
            }
        } else if numeric && !trivial(value) && !HARMLESS.contains(&key.as_str()) && !fine(key, value) {
            let what = format!("it is {}, and this program does not act on this key", brief(value));
            table.problem(key, &what, "a config without it (or with null)");
        } else {
            ignored.push(table.shown(key));
        }
    }
    problems.extend(table.into_problems());
}

/// The name of the form that a `quantization_config` describes; `None` for bitsandbytes' NF4, which can be read.
fn unreadable_form(config: &Value) -> Option<String> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let is_set = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
    let method = text("quant_method").unwrap_or("unknown");
    if method != "bitsandbytes" {
        return Some(method.to_owned());
    }
    match text("bnb_4bit_quant_type") {
        Some("nf4") if is_set("load_in_4bit") => None,
        Some(form) if is_set("load_in_4bit") => Some(format!("bitsandbytes {form}")),
        _ if is_set("load_in_8bit") => Some("bitsandbytes int8".into()),
        _ => Some(method.to_owned()),
    }
}

/// Whether a value switches off whatever its key stands for.
fn trivial(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}
