//! How much memory a run will need, from the model's shape and the recipe alone.

use crate::model::gemma3::TextConfig;
use crate::nn::cross_entropy::chunk_rows;
use serde::Serialize;

const F32_BYTES: u64 = 4;

/// What decides how much memory a run needs.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Bytes of the frozen matrices as they are held.
    pub base_bytes: u64,
    /// Trainable values.
    pub trainable: u64,
    /// State tensors of the optimiser per trainable value.
    pub optimizer_slots: u64,
    /// Tokens in the largest micro-batch.
    pub tokens: u64,
    /// Tokens in its longest sequence.
    pub longest: u64,
    /// Whether layers are recomputed on the way back.
    pub activation_checkpointing: bool,
}

/// Memory by component, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Frozen weights as they are held.
    pub base_bytes: u64,
    /// Adapter, its gradients, and the optimiser's state.
    pub training_bytes: u64,
    /// What the layers keep for the way back.
    pub activation_bytes: u64,
    /// One chunk of logits and what is computed from it.
    pub loss_bytes: u64,
    /// The program, the tokenizer, and temporary tensors.
    pub workspace_bytes: u64,
}

impl Estimate {
    /// The peak: activations and the loss chunk are not alive at once in full, but what the layers keep is.
    pub fn total_bytes(&self) -> u64 {
        self.base_bytes + self.training_bytes + self.activation_bytes.max(self.loss_bytes) + self.workspace_bytes
    }
}

/// Estimates the peak memory of training `config` with this workload on a CPU.
pub fn estimate(config: &TextConfig, work: &Workload) -> Estimate {
    let as_u64 = |x: usize| x as u64;
    let (d, f, v) = (as_u64(config.hidden_size), as_u64(config.intermediate_size), as_u64(config.vocab_size));
    let (layers, e) = (as_u64(config.num_hidden_layers), as_u64(config.head_dim));
    let (q, kv) = (as_u64(config.num_attention_heads) * e, as_u64(config.num_key_value_heads) * e);
    let layer_weights = 2 * d * q + 2 * d * kv + 3 * d * f;
    let embeddings = v * d * if config.tie_word_embeddings { 1 } else { 2 };
    let base_bytes = work.base_bytes;
    let training_bytes = work.trainable * F32_BYTES * (2 + work.optimizer_slots);

    // Values that one layer's graph keeps per token: four norms and two residuals, the stages of queries, keys, values,
    // and of the gated product; scores and their softmax per head and key of a tile.
    let keys = work.longest.min(2 * 512);
    let per_token = 16 * d + 9 * q + 9 * kv + 9 * f + 4 * as_u64(config.num_attention_heads) * keys;
    // Weights held in less than f32 are converted, and a graph keeps the converted form.
    let held_in_f32 = base_bytes >= (embeddings + layers * layer_weights) * F32_BYTES;
    let converted = if held_in_f32 { 0 } else { layer_weights * F32_BYTES };
    let layer_bytes = work.tokens * per_token * F32_BYTES + converted;
    let inputs = layers * work.tokens * d * F32_BYTES;
    let kept_layers = if work.activation_checkpointing { 1 } else { layers };
    // On the way back one layer's gradients are alive beside what it kept.
    let activation_bytes = inputs + (kept_layers + 1) * layer_bytes;

    let rows = (chunk_rows(config.vocab_size) as u64).min(work.tokens);
    let kept = if work.activation_checkpointing { 0 } else { layers * layer_bytes };
    let loss_bytes = inputs + kept + 2 * rows * v * F32_BYTES + 4 * work.tokens * d * F32_BYTES;
    const PROGRAM_BYTES: u64 = 220 << 20; // tokenizer of 262,144 words, data set index, allocator slack
    Estimate { base_bytes, training_bytes, activation_bytes, loss_bytes, workspace_bytes: PROGRAM_BYTES }
}

/// Memory that the system can still give, in bytes, where it can be asked (Linux).
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Whether layers should be recomputed: when keeping their inside would take more than half of the free memory.
pub fn checkpointing_is_needed(config: &TextConfig, work: &Workload, available_bytes: Option<u64>) -> bool {
    let without = estimate(config, &Workload { activation_checkpointing: false, ..*work });
    available_bytes.is_none_or(|available| without.total_bytes() > available / 2)
}
