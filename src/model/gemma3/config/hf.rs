//! Hugging Face's `config.json`, text-only (`gemma3_text`) or multimodal (`gemma3` with a `text_config`).
//!
//! Published multimodal files leave out most of `text_config` and rely on the defaults of transformers'
//! `Gemma3TextConfig`; those are the defaults here (the same in transformers 4.50 to 5.23).

pub(in crate::model) mod images;
pub(in crate::model) mod keys;
pub(in crate::model) mod rope;
pub(in crate::model) mod table;

use super::generation::{token_id, token_ids};
use super::{AttentionKind, TextConfig, every_nth_is_full, limit};
use crate::error::{Error, Kind, Place, Result};
use serde_json::{Map, Value};
use std::path::Path;
use table::Table;

pub(super) fn read(text: &str, path: &Path) -> Result<(TextConfig, Vec<String>)> {
    let top = &object(text, path)?;
    keys::check_architecture(top, text, path)?;
    let judges = keys::judges(top, text, path)?;
    let empty = Map::new();
    let text_config = match top.get("text_config") {
        Some(Value::Object(inner)) => Some(inner),
        None => None,
        Some(_) => return Err(Error::new(Kind::Config, "`text_config` is not a JSON object").at_path(path)),
    };
    let multimodal = top.get("model_type").and_then(Value::as_str) == Some("gemma3");
    if multimodal && text_config.is_none() {
        return Err(Error::new(Kind::Config, "`model_type` is `gemma3` but there is no `text_config`").at_path(path).hint(
            "a multimodal config nests the language model's keys under `text_config`; a text-only one has `model_type` `gemma3_text`",
        ));
    }
    let (inner, outer) = if multimodal { (text_config.unwrap_or(&empty), Some(top)) } else { (top, None) };
    let mut outer = outer.map(|t| Table::new(t, "", text, path));
    let mut inner = Table::new(inner, if multimodal { "text_config." } else { "" }, text, path);
    let mut config = build(&mut inner, outer.as_mut());
    if judges {
        // No head writes, so none can be missing.
        (config.judges, config.tie_word_embeddings) = (true, true);
        let said = outer.as_mut().unwrap_or(&mut inner);
        for key in keys::LABELS {
            said.take(key);
        }
    }

    let mut ignored = Vec::new();
    let mut problems = Vec::new();
    if let Some(outer) = &mut outer
        && let Some(vision) = outer.take("vision_config").filter(|value| !value.is_null())
    {
        let Value::Object(vision) = vision else {
            return Err(Error::new(Kind::Config, "`vision_config` is not a JSON object").at_path(path));
        };
        let mut vision = Table::new(vision, "vision_config.", text, path);
        config.images = Some(images::read(&mut vision, outer));
        keys::check_unused(vision, &mut ignored, &mut problems);
    }
    if let Some(outer) = outer {
        keys::check_unused_outer(outer, inner.keys(), &mut ignored, &mut problems);
    }
    keys::check_unused(inner, &mut ignored, &mut problems);
    if problems.is_empty() {
        // With a wrong value replaced by its default, sizes that do not fit would be no news.
        config.check(&Place::Path(path.into()), &mut problems);
    }
    match Error::many(problems) {
        Some(error) => Err(error),
        None => Ok((config, ignored)),
    }
}

/// The JSON object that a text is.
///
/// # Errors
/// When it is none.
pub(in crate::model) fn object(text: &str, path: &Path) -> Result<Map<String, Value>> {
    let value: Value = serde_json::from_str(text).map_err(|e| {
        Error::new(Kind::Config, format!("not valid JSON: {e}")).at(Place::Text {
            path: path.into(),
            line: e.line().max(1),
            column: e.column().max(1),
        })
    })?;
    match value {
        Value::Object(top) => Ok(top),
        _ => Err(Error::new(Kind::Config, "expected a JSON object").at_path(path)),
    }
}

/// Reads every key that decides something. Problems stay in the tables; a wrong value is replaced by its default.
fn build(t: &mut Table, outer: Option<&mut Table>) -> TextConfig {
    keys::require_fixed_parts(t);
    t.unsupported_unless("final_logit_softcapping", Value::Null);

    let layers = t.required_size("num_hidden_layers", limit::LAYERS);
    let max_position_embeddings = t.size("max_position_embeddings", 131_072, limit::POSITIONS);
    let layer_types = layer_types(t, layers);
    let slides = layer_types.contains(&AttentionKind::Sliding);
    let (rope_local, rope_global) = rope::read(t);
    let tokens = Tokens::read(t, outer);
    TextConfig {
        vocab_size: t.size("vocab_size", 262_208, limit::VOCABULARY),
        hidden_size: t.required_size("hidden_size", limit::HIDDEN),
        intermediate_size: t.required_size("intermediate_size", limit::INTERMEDIATE),
        num_hidden_layers: layers,
        num_attention_heads: t.size("num_attention_heads", 8, limit::HEADS),
        num_key_value_heads: t.size("num_key_value_heads", 4, limit::HEADS),
        head_dim: t.size("head_dim", 256, limit::HEAD_DIM),
        rms_norm_eps: t.positive("rms_norm_eps", 1e-6, limit::EPS),
        query_pre_attn_scalar: t.positive("query_pre_attn_scalar", 256.0, limit::ATTENTION_SCALAR),
        // Without sliding layers transformers writes null here, and nothing looks at it.
        sliding_window: if slides {
            t.size("sliding_window", 4096, limit::POSITIONS)
        } else {
            t.size_or_null("sliding_window", limit::POSITIONS).unwrap_or(max_position_embeddings)
        },
        layer_types,
        rope_local,
        rope_global,
        max_position_embeddings,
        tie_word_embeddings: tokens.tie_word_embeddings,
        bos_token_id: tokens.bos,
        eos_token_ids: tokens.eos,
        pad_token_id: tokens.pad,
        multimodal: t.is_nested(),
        images: None,
        judges: false,
    }
}

/// `layer_types` decides, as in transformers; without it `sliding_window_pattern` does, which is 6 unless given.
fn layer_types(t: &mut Table, layers: usize) -> Vec<AttentionKind> {
    let listed = t.take("layer_types").cloned();
    let pattern = t.size_or_null("sliding_window_pattern", limit::LAYERS).unwrap_or(6);
    let private = t.take("_sliding_window_pattern").cloned();
    let Some(listed) = listed.filter(|v| !v.is_null()) else {
        // transformers writes this key but never reads it: with another number than it would use, readers disagree.
        if private.as_ref().and_then(Value::as_u64).is_some_and(|p| p != pattern as u64) {
            t.problem(
                "_sliding_window_pattern",
                &format!("transformers ignores it and uses {pattern}"),
                "state the pattern with `layer_types` or `sliding_window_pattern`",
            );
        }
        return every_nth_is_full(layers, pattern);
    };
    listed_types(t, layers, &listed).unwrap_or_else(|| every_nth_is_full(layers, pattern))
}

/// The value of `layer_types`; `None`, and a problem, where it is no list of one kind per layer.
pub(in crate::model) fn listed_types(t: &mut Table, layers: usize, listed: &Value) -> Option<Vec<AttentionKind>> {
    let names = listed.as_array().map(Vec::as_slice).unwrap_or_default();
    let types: Option<Vec<AttentionKind>> = names
        .iter()
        .map(|name| match name.as_str() {
            Some("sliding_attention") => Some(AttentionKind::Sliding),
            Some("full_attention") => Some(AttentionKind::Full),
            _ => None,
        })
        .collect();
    match types {
        // Of a wrong number of layers no list has the right length.
        Some(types) if types.len() == layers || t.is_wrong("num_hidden_layers") => return Some(types),
        Some(types) => {
            let what = format!("it has {} entries for {layers} layers", types.len());
            t.problem("layer_types", &what, "one `sliding_attention` or `full_attention` per layer");
        }
        None => {
            let what = "it has an entry other than `sliding_attention` and `full_attention`";
            t.problem("layer_types", what, "one `sliding_attention` or `full_attention` per layer");
        }
    }
    None
}

/// What may stand beside `text_config` or inside it.
pub(in crate::model) struct Tokens {
    pub tie_word_embeddings: bool,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub pad: Option<u32>,
}

impl Tokens {
    pub fn read(t: &mut Table, mut outer: Option<&mut Table>) -> Tokens {
        // The outer value wins where both stand, as it does when transformers loads the whole model.
        let mut find = |key: &str| {
            let inner = t.take(key).cloned();
            let outer = outer.as_mut().and_then(|o| o.take(key).cloned());
            outer.or(inner).filter(|v| !v.is_null())
        };
        let (tie, bos, eos, pad) =
            (find("tie_word_embeddings"), find("bos_token_id"), find("eos_token_id"), find("pad_token_id"));
        let mut id = |key: &str, value: Option<Value>, default: u32| match value {
            None => Some(default),
            Some(value) => token_id(&value).or_else(|| {
                t.problem(key, &format!("it is {value}"), "a token id");
                None
            }),
        };
        let (bos, pad) = (id("bos_token_id", bos, 2), id("pad_token_id", pad, 0));
        let eos = match eos {
            None => vec![1],
            Some(value) => token_ids(&value).unwrap_or_else(|| {
                t.problem("eos_token_id", &format!("it is {value}"), "a token id or a list of them");
                Vec::new()
            }),
        };
        let tie_word_embeddings = match tie {
            None => true,
            Some(value) => value.as_bool().unwrap_or_else(|| {
                t.problem("tie_word_embeddings", &format!("it is {value}"), "true or false");
                true
            }),
        };
        Tokens { tie_word_embeddings, bos, eos, pad }
    }
}
