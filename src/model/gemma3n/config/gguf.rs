//! GGUF metadata. What the file does not say is what llama.cpp hard-codes for `gemma3n`, which is what the published sizes
//! have; what it has no key for, the weights decide.

use super::TextConfig;
use crate::error::Result;
use crate::model::gemma3::config::gguf::keys::Keys;
use crate::model::gemma3::config::{every_nth_is_full, limit};
use crate::model::gemma3n::gate::SparseMlp;
use crate::nn::{AttentionKind, Rope};
use crate::weights::gguf::{Array, Metadata};
use std::path::Path;

pub(super) const PREFIX: &str = "gemma3n.";

/// The cutoff of a layer whose gate is not made sparse: nothing lies below it.
pub(super) const NO_CUTOFF: f32 = f32::NEG_INFINITY;

pub(super) fn read(metadata: &Metadata, path: &Path) -> Result<(TextConfig, Vec<String>)> {
    let mut keys = Keys::new(metadata, PREFIX, path)?;
    let config = build(&mut keys);
    keys.finish(config, TextConfig::check)
}

fn build(keys: &mut Keys) -> TextConfig {
    let layers = keys.size("block_count", None, limit::LAYERS);
    let hidden_size = keys.size("embedding_length", None, limit::HIDDEN);
    let heads = keys.size("attention.head_count", None, limit::HEADS);
    let max_position_embeddings = keys.size("context_length", Some(32_768), limit::POSITIONS);
    let vocab_size = keys.vocab_size();
    TextConfig {
        vocab_size,
        vocab_size_per_layer_input: vocab_size,
        hidden_size,
        hidden_size_per_layer_input: keys.size("embedding_length_per_layer_input", Some(256), limit::HIDDEN),
        intermediate_size: intermediate_size(keys, layers),
        num_attention_heads: heads,
        num_key_value_heads: keys.size("attention.head_count_kv", Some(heads), limit::HEADS),
        head_dim: keys.head_dim(),
        rms_norm_eps: keys.positive("attention.layer_norm_rms_epsilon", 1e-6, limit::EPS),
        sliding_window: keys.size("attention.sliding_window", Some(max_position_embeddings), limit::POSITIONS),
        layer_types: layer_types(keys, layers),
        num_kv_shared_layers: from_zero(keys, "attention.shared_kv_layers", layers.saturating_sub(20), limit::LAYERS),
        activation_sparsity_pattern: sparsity(keys, layers),
        laurel_rank: 64,
        altup_num_inputs: keys.size("altup.num_inputs", Some(4), super::hf::STREAMS),
        altup_active_idx: from_zero(keys, "altup.active_idx", 0, super::hf::STREAMS),
        altup_coef_clip: None,
        altup_correct_scale: true,
        final_logit_softcapping: softcap(keys),
        rope_local: Rope { theta: keys.positive("rope.freq_base_swa", 10_000.0, limit::THETA), factor: 1.0 },
        rope_global: Rope {
            theta: keys.positive("rope.freq_base", 1_000_000.0, limit::THETA),
            factor: keys.rope_factor(),
        },
        max_position_embeddings,
        tie_word_embeddings: true,
        bos_token_id: keys.token("bos").or(Some(2)),
        eos_token_ids: keys.stop_tokens(),
        pad_token_id: keys.token("padding").or(Some(0)),
        multimodal: false,
        images: None,
        sounds: None,
    }
}

/// One width for all layers, or one each.
fn intermediate_size(keys: &mut Keys, layers: usize) -> Vec<usize> {
    let name = "feed_forward_length";
    let read = |array: &Array| array.to_i64s()?.into_iter().map(|n| u64::try_from(n).ok()).collect();
    let found = keys.per_layer(name, layers, read, |m, key| m.u64(key));
    let Some(found) = found else {
        keys.require(name);
        return vec![1; layers];
    };
    match found.iter().find(|n| !(1..=limit::INTERMEDIATE).contains(n)) {
        Some(wrong) => {
            keys.problem(name, &format!("it has {wrong}; supported: 1 to {}", limit::INTERMEDIATE));
            vec![1; layers]
        }
        None => found.into_iter().map(|n| n as usize).collect(),
    }
}

/// Whether each layer slides, or every how many-th does not.
fn layer_types(keys: &mut Keys, layers: usize) -> Vec<AttentionKind> {
    let name = "attention.sliding_window_pattern";
    if !keys.is_array(name) {
        let pattern = keys.size(name, Some(5), limit::LAYERS);
        return every_nth_is_full(layers, pattern);
    }
    let slides = keys.per_layer(name, layers, Array::to_bools, |_, _| None);
    let kind = |slides| if slides { AttentionKind::Sliding } else { AttentionKind::Full };
    slides.map_or_else(|| vec![AttentionKind::Full; layers], |slides| slides.into_iter().map(kind).collect())
}

/// The share that each layer's cutoff stands for.
fn sparsity(keys: &mut Keys, layers: usize) -> Vec<f64> {
    /// Layers of these that llama.cpp makes sparse, and their share.
    const SPARSE: (usize, f64) = (10, 0.95);
    let name = "activation_sparsity_scale";
    let cutoffs = keys.per_layer(name, layers, |array| array.as_f32s().map(<[f32]>::to_vec), |_, _| None);
    let Some(cutoffs) = cutoffs else {
        return (0..layers).map(|layer| if layer < SPARSE.0 { SPARSE.1 } else { 0.0 }).collect();
    };
    let shares = cutoffs.iter().map(|&cutoff| if cutoff == NO_CUTOFF { 0.0 } else { SparseMlp::share_of(cutoff) });
    let shares: Vec<f64> = shares.collect();
    // Of a share of 1 nothing would pass; what is no number has none.
    let wrong = cutoffs.iter().zip(&shares).find(|(cutoff, share)| cutoff.is_nan() || **share >= 1.0);
    if let Some((wrong, _)) = wrong {
        keys.problem(
            name,
            &format!("it has {wrong}; supported: numbers up to 5, and -inf of a layer that is not sparse"),
        );
    }
    shares
}

/// Where the logits are bent; 0 of logits that are not.
fn softcap(keys: &mut Keys) -> Option<f64> {
    let name = "final_logit_softcapping";
    match keys.float(name) {
        Some(0.0) => None,
        Some(_) => Some(keys.positive(name, 30.0, super::hf::SOFTCAP)),
        None => Some(30.0),
    }
}

/// A size from 0 to `max`.
fn from_zero(keys: &mut Keys, name: &str, default: usize, max: u64) -> usize {
    match keys.whole(name) {
        None => default,
        Some(n) if n <= max => n as usize,
        Some(n) => {
            keys.problem(name, &format!("it is {n}; supported: 0 to {max}"));
            default
        }
    }
}
