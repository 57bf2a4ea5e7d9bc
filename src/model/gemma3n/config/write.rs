//! Writing a `config.json`.

use super::TextConfig;
use crate::model::gemma3::config::write::{ids, name, parameters};
use serde_json::{Value, json};

impl TextConfig {
    /// The `config.json` of a text-only checkpoint with this configuration; `dtype` is `float32`, `bfloat16` or
    /// `float16`. The language model of a multimodal checkpoint comes out as `Gemma3nForCausalLM` too.
    pub fn to_hf_json(&self, dtype: &str) -> Value {
        let (full, sliding) = (parameters(self.rope_global), parameters(self.rope_local));
        let layer_types: Vec<&str> = self.layer_types.iter().map(|&layer| name(layer)).collect();
        json!({
            "activation_sparsity_pattern": self.activation_sparsity_pattern,
            "altup_active_idx": self.altup_active_idx,
            "altup_coef_clip": self.altup_coef_clip,
            "altup_correct_scale": self.altup_correct_scale,
            "altup_num_inputs": self.altup_num_inputs,
            "architectures": ["Gemma3nForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "dtype": dtype,
            "eos_token_id": ids(&self.eos_token_ids),
            "final_logit_softcapping": self.final_logit_softcapping,
            "head_dim": self.head_dim,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": self.hidden_size,
            "hidden_size_per_layer_input": self.hidden_size_per_layer_input,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "laurel_rank": self.laurel_rank,
            "layer_types": layer_types,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "gemma3n_text",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers(),
            "num_key_value_heads": self.num_key_value_heads,
            "num_kv_shared_layers": self.num_kv_shared_layers,
            "pad_token_id": self.pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": {"full_attention": full, "sliding_attention": sliding},
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tie_word_embeddings,
            "use_cache": true,
            "vocab_size": self.vocab_size,
            "vocab_size_per_layer_input": self.vocab_size_per_layer_input,
        })
    }
}
