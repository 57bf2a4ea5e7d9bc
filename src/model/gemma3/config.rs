//! stub
#![allow(missing_docs)]
use crate::nn::{AttentionKind, Rope};
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig { pub vocab_size: usize, pub hidden_size: usize, pub intermediate_size: usize, pub num_hidden_layers: usize, pub num_attention_heads: usize, pub num_key_value_heads: usize, pub head_dim: usize, pub rms_norm_eps: f64, pub query_pre_attn_scalar: f64, pub sliding_window: usize, pub layer_types: Vec<AttentionKind>, pub rope_local: Rope, pub rope_global: Rope, pub tie_word_embeddings: bool }
impl TextConfig { pub fn from_folder(d: &std::path::Path) -> crate::Result<(Self, Vec<String>)> {
 let j: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(d.join("config.json")).unwrap()).unwrap();
 let u = |k: &str| j[k].as_u64().unwrap() as usize;
 Ok((TextConfig { vocab_size: u("vocab_size"), hidden_size: u("hidden_size"), intermediate_size: u("intermediate_size"), num_hidden_layers: u("num_hidden_layers"), num_attention_heads: u("num_attention_heads"), num_key_value_heads: u("num_key_value_heads"), head_dim: u("head_dim"), rms_norm_eps: j["rms_norm_eps"].as_f64().unwrap(), query_pre_attn_scalar: j["query_pre_attn_scalar"].as_f64().unwrap(), sliding_window: u("sliding_window"), layer_types: j["layer_types"].as_array().unwrap().iter().map(|t| if t == "full_attention" { AttentionKind::Full } else { AttentionKind::Sliding }).collect(), rope_local: Rope { theta: 1e4, factor: 1.0 }, rope_global: Rope { theta: 1e6, factor: 1.0 }, tie_word_embeddings: true }, vec![]))
}}
