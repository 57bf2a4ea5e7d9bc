//! Hugging Face's `config.json`, text-only (`gemma3n_text`) or multimodal (`gemma3n` with a `text_config`). What a file
//! leaves out has the defaults of transformers' `Gemma3nTextConfig`.

mod audio;
mod embedder;
mod mobilenet;
mod vision;

use super::TextConfig;
use crate::error::{Error, Kind, Place, Result};
use crate::model::gemma3::config::hf::keys::{check_unused, check_unused_outer, require_fixed_parts};
use crate::model::gemma3::config::hf::table::{Table, brief, locate};
use crate::model::gemma3::config::hf::{Tokens, listed_types, object, rope};
use crate::model::gemma3::config::{every_nth_is_full, limit};
use crate::nn::AttentionKind;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
use std::path::Path;

/// Every layer of these that transformers makes sparse where a file does not say.
const SPARSE_LAYERS: usize = 10;

/// The share of their gates that is cut off.
const SPARSITY: f64 = 0.95;

pub(super) const SOFTCAP: RangeInclusive<f64> = 1e-3..=1e9;
const CLIP: RangeInclusive<f64> = 1e-30..=1e30;
pub(super) const STREAMS: u64 = 64;

pub(super) fn read(text: &str, path: &Path) -> Result<(TextConfig, Vec<String>)> {
    let top = &object(text, path)?;
    check_architecture(top, text, path)?;
    let multimodal = top.get("model_type").and_then(Value::as_str) == Some("gemma3n");
    let inner = match top.get("text_config") {
        Some(Value::Object(inner)) if multimodal => inner,
        _ if multimodal => {
            return Err(
                Error::new(Kind::Config, "`model_type` is `gemma3n` but there is no `text_config`").at_path(path)
            );
        }
        _ => top,
    };
    let mut outer = multimodal.then(|| Table::new(top, "", text, path));
    let mut inner = Table::new(inner, if multimodal { "text_config." } else { "" }, text, path);
    let mut config = build(&mut inner, outer.as_mut());

    let (mut ignored, mut problems) = (Vec::new(), Vec::new());
    if let Some(outer) = &mut outer
        && let Some(mut tower) = outer.nested("vision_config")
    {
        config.images = Some(vision::read(&mut tower, outer));
        check_unused(tower, &mut ignored, &mut problems);
    }
    if let Some(outer) = &mut outer
        && let Some(mut tower) = outer.nested("audio_config")
    {
        config.sounds = Some(audio::read(&mut tower, outer));
        check_unused(tower, &mut ignored, &mut problems);
    }
    if let Some(outer) = outer {
        check_unused_outer(outer, inner.keys(), &mut ignored, &mut problems);
    }
    check_unused(inner, &mut ignored, &mut problems);
    if problems.is_empty() {
        // With a wrong value replaced by its default, sizes that do not fit would be no news.
        config.check(&Place::Path(path.into()), &mut problems);
    }
    match Error::many(problems) {
        Some(error) => Err(error),
        None => Ok((config, ignored)),
    }
}

/// Refuses what is not a Gemma 3n language model, saying what it is.
fn check_architecture(top: &Map<String, Value>, text: &str, path: &Path) -> Result<()> {
    let refuse = |key: &str, what: String, hint: &str| {
        Err(Error::new(Kind::Config, what).at(locate(text, path, key)).hint(hint))
    };
    let supported = "`model_type` `gemma3n_text`, or `gemma3n` with its `text_config`";
    let model_type = top.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if !["gemma3n", "gemma3n_text"].contains(&model_type) {
        return refuse("model_type", format!("`model_type` is `{model_type}`: a part of a Gemma 3n"), supported);
    }
    if let Some(nested) = top.get("text_config").and_then(|t| t.get("model_type")).and_then(Value::as_str)
        && nested != "gemma3n_text"
    {
        let what = format!("`text_config.model_type` is `{nested}`; supported: `gemma3n_text`");
        return Err(Error::new(Kind::Config, what).at_path(path));
    }
    let architectures = top.get("architectures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known = ["Gemma3nForCausalLM", "Gemma3nForConditionalGeneration", "Gemma3nTextModel", "Gemma3nModel"];
    match architectures.iter().filter_map(Value::as_str).find(|a| !known.contains(a)) {
        None => Ok(()),
        Some(other) => {
            let what = format!(
                "`architectures` names `{other}`; supported: `Gemma3nForCausalLM`, `Gemma3nForConditionalGeneration`"
            );
            refuse("architectures", what, "a classifier or embedding model has no language-model head to tune")
        }
    }
}

/// Reads every key that decides something. Problems stay in the tables; a wrong value is replaced by its default.
fn build(t: &mut Table, outer: Option<&mut Table>) -> TextConfig {
    require_fixed_parts(t);
    // Files of other Gemmas have it; this architecture does not scale its scores.
    t.take("query_pre_attn_scalar");
    // Of the makers' own training.
    t.take("altup_lr_multiplier");

    let layers = t.required_size("num_hidden_layers", limit::LAYERS);
    let layer_types = match t.take("layer_types").filter(|v| !v.is_null()) {
        Some(listed) => {
            // Beside a list it says nothing.
            t.take("sliding_window_pattern");
            listed_types(t, layers, listed)
        }
        None => None,
    };
    let layer_types: Vec<AttentionKind> = layer_types.unwrap_or_else(|| every_nth_is_full(layers, 5));
    let intermediate_size = per_layer(t, "intermediate_size", layers, whole(limit::INTERMEDIATE), true);
    let sparsity = per_layer(t, "activation_sparsity_pattern", layers, share, false);
    let sparse_layers = if layers > SPARSE_LAYERS { SPARSE_LAYERS } else { 0 };
    let default_sparsity = || (0..layers).map(|layer| if layer < sparse_layers { SPARSITY } else { 0.0 }).collect();
    let (rope_local, rope_global) = rope::read(t);
    let tokens = Tokens::read(t, outer);
    TextConfig {
        vocab_size: t.size("vocab_size", 262_400, limit::VOCABULARY),
        vocab_size_per_layer_input: t.size("vocab_size_per_layer_input", 262_144, limit::VOCABULARY),
        hidden_size: t.required_size("hidden_size", limit::HIDDEN),
        hidden_size_per_layer_input: t.size("hidden_size_per_layer_input", 256, limit::HIDDEN),
        intermediate_size: intermediate_size.unwrap_or_else(|| vec![16_384; layers]),
        num_attention_heads: t.size("num_attention_heads", 8, limit::HEADS),
        num_key_value_heads: t.size("num_key_value_heads", 2, limit::HEADS),
        head_dim: t.size("head_dim", 256, limit::HEAD_DIM),
        rms_norm_eps: t.positive("rms_norm_eps", 1e-6, limit::EPS),
        sliding_window: t.size("sliding_window", 512, limit::POSITIONS),
        layer_types,
        num_kv_shared_layers: from_zero(t, "num_kv_shared_layers", 15, limit::LAYERS),
        activation_sparsity_pattern: sparsity.unwrap_or_else(default_sparsity),
        laurel_rank: t.size("laurel_rank", 64, limit::HIDDEN),
        altup_num_inputs: t.size("altup_num_inputs", 4, STREAMS),
        altup_active_idx: from_zero(t, "altup_active_idx", 0, STREAMS),
        altup_coef_clip: number_or_null(t, "altup_coef_clip", 120.0, CLIP),
        altup_correct_scale: truth(t, "altup_correct_scale", true),
        final_logit_softcapping: number_or_null(t, "final_logit_softcapping", 30.0, SOFTCAP),
        rope_local,
        rope_global,
        max_position_embeddings: t.size("max_position_embeddings", 32_768, limit::POSITIONS),
        tie_word_embeddings: tokens.tie_word_embeddings,
        bos_token_id: tokens.bos,
        eos_token_ids: tokens.eos,
        pad_token_id: tokens.pad,
        multimodal: t.is_nested(),
        images: None,
        sounds: None,
    }
}

/// A value per layer: a list of them, or where `one` may stand for all, that one. `None` where it is left out or wrong.
fn per_layer<T: Clone>(
    t: &mut Table,
    key: &str,
    layers: usize,
    read: impl Fn(&Value) -> Option<T>,
    one: bool,
) -> Option<Vec<T>> {
    let value = t.take(key).filter(|value| !value.is_null())?;
    let supported = if one { "one size, or a list of one per layer" } else { "a list of one number below 1 per layer" };
    let Some(listed) = value.as_array() else {
        let read = if one { read(value) } else { None };
        if read.is_none() {
            t.problem(key, &format!("it is {}", brief(value)), supported);
        }
        return read.map(|value| vec![value; layers]);
    };
    if let Some(wrong) = listed.iter().find(|value| read(value).is_none()) {
        t.problem(key, &format!("it has {}", brief(wrong)), supported);
        return None;
    }
    if listed.len() != layers && !t.is_wrong("num_hidden_layers") {
        t.problem(key, &format!("it has {} entries for {layers} layers", listed.len()), supported);
        return None;
    }
    listed.iter().map(read).collect()
}

fn whole(max: u64) -> impl Fn(&Value) -> Option<usize> {
    move |value| value.as_u64().filter(|n| (1..=max).contains(n)).and_then(|n| usize::try_from(n).ok())
}

/// Less than the whole; below 0 is as 0.
fn share(value: &Value) -> Option<f64> {
    value.as_f64().filter(|share| *share < 1.0).map(|share| share.max(0.0))
}

/// As [`Table::size`], from 0.
fn from_zero(t: &mut Table, key: &str, default: usize, max: u64) -> usize {
    match t.take(key) {
        None => default,
        Some(value) if value.as_u64() == Some(0) => 0,
        Some(value) => whole(max)(value).unwrap_or_else(|| {
            t.problem(key, &format!("it is {}", brief(value)), &format!("a whole number from 0 to {max}"));
            default
        }),
    }
}

/// A number above 0; null switches off what it stands for.
fn number_or_null(t: &mut Table, key: &str, default: f64, range: RangeInclusive<f64>) -> Option<f64> {
    match t.take(key) {
        None => Some(default),
        Some(Value::Null) => None,
        Some(value) => Some(t.positive_value(key, value, default, range)),
    }
}

fn truth(t: &mut Table, key: &str, default: bool) -> bool {
    match t.take(key) {
        None => default,
        Some(value) => value.as_bool().unwrap_or_else(|| {
            t.problem(key, &format!("it is {}", brief(value)), "true or false");
            default
        }),
    }
}
