//! GGUF metadata, read as llama.cpp reads it: what the file does not say is what llama.cpp hard-codes for `gemma3`.

pub(in crate::model) mod keys;
pub(in crate::model) mod written;

use self::keys::Keys;
use super::{Rope, TextConfig, every_nth_is_full, limit};
use crate::error::Result;
use crate::nn::AttentionKind;
use crate::weights::gguf::{Array, Metadata};
use std::path::Path;

pub(super) const PREFIX: &str = "gemma3.";

pub(super) fn read(metadata: &Metadata, path: &Path) -> Result<(TextConfig, Vec<String>)> {
    let mut keys = Keys::new(metadata, PREFIX, path)?;
    let config = build(&mut keys);
    keys.finish(config, TextConfig::check)
}

/// As Ollama names the rotation of the full layers. Its own engine reads it, which bends no logits of a Gemma 3, though
/// its earlier converters wrote a soft cap.
const OLLAMAS_ROPE: &str = "rope.global.freq_base";

/// The kinds of layers: every so manieth is full, or a word for each, as Ollama writes it.
fn layer_types(keys: &mut Keys, layers: usize) -> Vec<AttentionKind> {
    const KEY: &str = "attention.sliding_window_pattern";
    if !keys.is_array(KEY) {
        let pattern = keys.size(KEY, Some(6), limit::LAYERS);
        return every_nth_is_full(layers, pattern);
    }
    let flags = |array: &Array| match array {
        Array::Bool(flags) => Some(flags.clone()),
        _ => None,
    };
    let sliding = keys.per_layer(KEY, layers, flags, |_, _| None).unwrap_or_else(|| vec![true; layers]);
    let kind = |sliding: &bool| if *sliding { AttentionKind::Sliding } else { AttentionKind::Full };
    sliding.iter().map(kind).collect()
}

/// A rotation's base under llama.cpp's name, or under Ollama's.
fn either(keys: &mut Keys, name: &str, ollamas: &str, default: f64) -> f64 {
    let ollamas = keys.positive(ollamas, default, limit::THETA);
    keys.positive(name, ollamas, limit::THETA)
}

fn build(keys: &mut Keys) -> TextConfig {
    let layers = keys.size("block_count", None, limit::LAYERS);
    let hidden_size = keys.size("embedding_length", None, limit::HIDDEN);
    let heads = keys.size("attention.head_count", None, limit::HEADS);
    let head_dim = keys.head_dim();
    let is_ollamas = keys.has(OLLAMAS_ROPE);
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if keys.float(key).is_some_and(|cap| cap != 0.0) && !is_ollamas {
            keys.problem(key, "soft-capped logits are not supported");
        }
    }
    let layer_types = layer_types(keys, layers);
    let max_position_embeddings = keys.size("context_length", Some(131_072), limit::POSITIONS);
    TextConfig {
        vocab_size: keys.vocab_size(),
        hidden_size,
        intermediate_size: keys.size("feed_forward_length", None, limit::INTERMEDIATE),
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: keys.size("attention.head_count_kv", Some(heads), limit::HEADS),
        head_dim,
        rms_norm_eps: keys.positive("attention.layer_norm_rms_epsilon", 1e-6, limit::EPS),
        // GGUF does not store it. Every size scales by its head width but 27B, which llama.cpp tells by its layers.
        query_pre_attn_scalar: if layers == 62 { hidden_size / heads.max(1) } else { head_dim } as f64,
        sliding_window: keys.size("attention.sliding_window", Some(max_position_embeddings), limit::POSITIONS),
        layer_types,
        rope_local: Rope { theta: either(keys, "rope.freq_base_swa", "rope.local.freq_base", 10_000.0), factor: 1.0 },
        rope_global: Rope {
            theta: either(keys, "rope.freq_base", OLLAMAS_ROPE, 1_000_000.0),
            factor: keys.rope_factor(),
        },
        max_position_embeddings,
        // The weights decide: llama.cpp takes the embedding where a file has no `output.weight`.
        tie_word_embeddings: true,
        bos_token_id: keys.token("bos").or(Some(2)),
        eos_token_ids: keys.stop_tokens(),
        pad_token_id: keys.token("padding").or(Some(0)),
        multimodal: false,
        images: None,
        judges: false,
    }
}
