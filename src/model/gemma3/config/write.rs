//! Writing a `config.json`.

use super::{AttentionKind, Rope, TextConfig, every_nth_is_full};
use serde_json::{Map, Value, json};

impl TextConfig {
    /// The `config.json` of a text-only checkpoint with this configuration; `dtype` is `float32`, `bfloat16` or
    /// `float16`.
    ///
    /// The language model of a multimodal checkpoint comes out as `Gemma3ForCausalLM` too. Spellings that transformers
    /// 4 and 5, vLLM and llama.cpp's converter all read are used wherever they can express the configuration.
    pub fn to_hf_json(&self, dtype: &str) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_string(), value);
        };
        put("architectures", json!(["Gemma3ForCausalLM"]));
        put("attention_bias", json!(false));
        put("attention_dropout", json!(0.0));
        put("attn_logit_softcapping", Value::Null);
        put("bos_token_id", json!(self.bos_token_id));
        put("eos_token_id", ids(&self.eos_token_ids));
        put("final_logit_softcapping", Value::Null);
        put("head_dim", json!(self.head_dim));
        put("hidden_activation", json!("gelu_pytorch_tanh"));
        put("hidden_size", json!(self.hidden_size));
        put("initializer_range", json!(0.02));
        put("intermediate_size", json!(self.intermediate_size));
        put("layer_types", self.layer_types.iter().map(|&layer| json!(name(layer))).collect());
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("model_type", json!("gemma3_text"));
        put("num_attention_heads", json!(self.num_attention_heads));
        put("num_hidden_layers", json!(self.num_hidden_layers));
        put("num_key_value_heads", json!(self.num_key_value_heads));
        put("pad_token_id", json!(self.pad_token_id));
        put("query_pre_attn_scalar", number(self.query_pre_attn_scalar));
        put("rms_norm_eps", json!(self.rms_norm_eps));
        if self.rope_local.factor == 1.0 {
            put("rope_local_base_freq", json!(self.rope_local.theta));
            put("rope_scaling", scaling(self.rope_global));
            put("rope_theta", json!(self.rope_global.theta));
        } else {
            // The older keys cannot scale the sliding layers.
            let (full, sliding) = (parameters(self.rope_global), parameters(self.rope_local));
            put("rope_parameters", json!({"full_attention": full, "sliding_attention": sliding}));
        }
        put("sliding_window", json!(self.sliding_window));
        if let Some(pattern) = self.pattern() {
            put("sliding_window_pattern", json!(pattern));
        }
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("torch_dtype", json!(dtype));
        put("use_cache", json!(true));
        put("vocab_size", json!(self.vocab_size));
        Value::Object(map)
    }

    /// The `n` of "every n-th layer is full", if the layers follow such a rule.
    fn pattern(&self) -> Option<usize> {
        let first_full = self.layer_types.iter().position(|&layer| layer == AttentionKind::Full);
        let pattern = first_full.map_or(self.num_hidden_layers, |at| at) + 1;
        (every_nth_is_full(self.num_hidden_layers, pattern) == self.layer_types).then_some(pattern)
    }
}

pub(in crate::model) fn name(layer: AttentionKind) -> &'static str {
    match layer {
        AttentionKind::Sliding => "sliding_attention",
        AttentionKind::Full => "full_attention",
    }
}

/// One id as a number, as Hugging Face writes it; several as a list.
pub(in crate::model) fn ids(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

/// A whole number without a fraction: transformers insists on an int.
pub(in crate::model) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

pub(in crate::model) fn scaling(rope: Rope) -> Value {
    if rope.factor == 1.0 { Value::Null } else { json!({"factor": rope.factor, "rope_type": "linear"}) }
}

pub(in crate::model) fn parameters(rope: Rope) -> Value {
    if rope.factor == 1.0 {
        json!({"rope_theta": rope.theta, "rope_type": "default"})
    } else {
        json!({"factor": rope.factor, "rope_theta": rope.theta, "rope_type": "linear"})
    }
}
