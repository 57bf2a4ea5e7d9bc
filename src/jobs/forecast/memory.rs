//! How much memory a run will need, from the model's shape and the recipe alone.

use crate::jobs::forecast::beside::Beside;
use crate::model::ModelConfig;
use crate::nn::AttentionKind;
use crate::ops::sizes::{GPU_QUERIES, GPU_SCORE_BYTES, LOSS_CHUNK_ROWS, LOSS_TILE_WORDS, loss_gpu_tile};
use crate::report::text;
use crate::train::recompute::Recompute;
use serde::Serialize;
use std::fmt;

const F32_BYTES: u64 = 4;

/// The program, its threads, the data set's index and what the allocator keeps for later; measured on the 270M.
const PROGRAM_BYTES: u64 = 100 << 20;

/// The tokenizer, per word: two tables of words and one of merges. A run lets go of it before it loads the weights, unless
/// it is to answer prompts.
const TOKENIZER_BYTES_PER_WORD: u64 = 250;

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
    /// Tokens whose keys and values attention reads: more where sequences share what they begin with.
    pub looked_at: u64,
    /// The layers that are recomputed on the way back.
    pub recompute: Recompute,
    /// Whether a step has several passes, so that gradients stay while the next one runs.
    pub accumulates: bool,
    /// Micro-batches that are computed at once: in the memory of the CPU all of them, on GPUs one on each.
    pub replicas: u64,
    /// What the adapter takes beside the frozen model.
    pub beside: Beside,
    /// Sequences that are generated at once between steps.
    pub sampled: u64,
    /// Tokens in the longest of them.
    pub sampled_tokens: u64,
    /// How products are computed, if on a GPU.
    pub gpu: Option<GpuProducts>,
}

/// How a GPU multiplies with frozen weights, as far as it takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuProducts {
    /// Bytes of a factor.
    pub factor_bytes: u64,
    /// Bytes of the largest run of rows that is unpacked or converted before it is multiplied with.
    pub unpacked_bytes: u64,
}

/// Memory by component, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Frozen weights as they are held.
    pub base_bytes: u64,
    /// The adapter, its gradients, and copies of it.
    pub adapter_bytes: u64,
    /// The optimiser's state.
    pub optimizer_bytes: u64,
    /// What the layers keep for the way back.
    pub activation_bytes: u64,
    /// Towers that are trained, and what they keep for the way back.
    pub tower_bytes: u64,
    /// One tile of logits, and the gradient of the loss's rows.
    pub loss_bytes: u64,
    /// Keys and values of what is generated between steps.
    pub kv_bytes: u64,
    /// What is alive for a moment: a layer on the way back, or new values while the optimiser replaces old ones;
    /// weights that a GPU unpacks; and on a CPU the program itself.
    pub workspace_bytes: u64,
}

impl Estimate {
    /// Every component and its name.
    pub fn parts(&self) -> [(&'static str, u64); 8] {
        let &Estimate {
            base_bytes,
            adapter_bytes,
            optimizer_bytes,
            activation_bytes,
            tower_bytes,
            loss_bytes,
            kv_bytes,
            workspace_bytes,
        } = self;
        [
            ("base", base_bytes),
            ("adapter", adapter_bytes),
            ("optimiser", optimizer_bytes),
            ("activations", activation_bytes),
            ("towers", tower_bytes),
            ("loss", loss_bytes),
            ("kv cache", kv_bytes),
            ("workspace", workspace_bytes),
        ]
    }

    /// The peak.
    pub fn total_bytes(&self) -> u64 {
        self.parts().into_iter().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = self.parts().into_iter().filter(|(_, size)| *size > 0);
        let parts: Vec<String> = needed.map(|(name, size)| format!("{name} {}", text::bytes(size))).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Estimates the peak memory of training `config` with this workload: the program's on a CPU, the device's on a GPU, of
/// several GPUs that of the first, which has the optimiser.
///
/// Counted from what each operation keeps (see `ops`); only the size of the program itself is measured.
pub fn estimate(config: &ModelConfig, work: &Workload) -> Estimate {
    let as_u64 = |x: usize| x as u64;
    let (d, f, h) =
        (as_u64(config.hidden_size()), as_u64(config.intermediate_size()), as_u64(config.num_attention_heads()));
    let (layers, e) = (as_u64(config.num_hidden_layers()), as_u64(config.head_dim()));
    let (q, kv) = (h * e, as_u64(config.num_key_value_heads()) * e);
    // Replicas on the CPU share weights and adapter, and what lives for the sake of one micro-batch is there for each.
    let at_once = if work.gpu.is_some() { 1 } else { work.replicas.max(1) };
    let of_each = |bytes: u64| bytes.saturating_mul(at_once);
    // Batch sizes come from the user and may be absurd.
    let floats = |count: u64| count.saturating_mul(F32_BYTES);
    let per_token = |count: u64| floats(work.tokens.saturating_mul(count));

    // Per token and layer, beside what the adapter keeps: the inputs and outputs of norms (4 d, and the layer's own), queries before and after their norm and what attention made of them, keys before and after and values, the two
    // halves of the gated product, and a number per head.
    let beyond = config.beyond();
    let without_kernels = if work.gpu.is_some() { beyond.without_kernels } else { 0 };
    let kept = 4 * d + 3 * q + 3 * kv + 2 * f + h + as_u64(beyond.in_a_layer + without_kernels);
    // A GPU that rounds factors keeps those: of queries, keys and values, of what attention made, and of the adapter's.
    let factor_bytes = work.gpu.map_or(F32_BYTES, |gpu| gpu.factor_bytes);
    let (instead, again) = (2 * q + 2 * kv + work.beside.factors.instead, work.beside.factors.again);
    let spared = match factor_bytes {
        F32_BYTES.. => 0,
        _ => ((F32_BYTES - factor_bytes) * instead).saturating_sub(factor_bytes * again),
    };
    // What several sequences begin with has its keys and values once more for each.
    let looked_at = work.looked_at.saturating_sub(work.tokens).saturating_mul(2 * kv * factor_bytes);
    // On the way back through the feed-forward block: the product and three gradients of its width.
    let transient = 4 * f + 2 * d + as_u64(beyond.transient);
    let input = d + as_u64(beyond.per_input);
    // One that is recomputed is there when those that are kept have gone.
    let kept_layers = (layers - as_u64(work.recompute.of(config.num_hidden_layers()))).max(1);
    let beside = match kept_layers == layers {
        true => work.beside.per_token,
        false => work.beside.per_token.min(kept_layers * work.beside.per_token_in_a_layer),
    };
    let activations = per_token(layers * input + as_u64(beyond.shared) + kept_layers * kept + beside)
        .saturating_sub(work.tokens.saturating_mul(kept_layers * spared));
    let activation_bytes = of_each(activations.saturating_add(looked_at.saturating_mul(kept_layers)));

    let rows = work.tokens.min(as_u64(LOSS_CHUNK_ROWS));
    let loss_bytes = match work.gpu {
        None => of_each(floats(rows * (as_u64(LOSS_TILE_WORDS.min(config.vocab_size())) + 2 * d))),
        Some(gpu) => {
            // Logits, and the two as factors; the running gradient, its next value and what is added to it.
            let as_size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let words = as_u64(loss_gpu_tile(as_size(rows), as_size(d)).min(config.vocab_size()));
            floats(rows * words) + gpu.factor_bytes * (rows + d) * words + floats(3 * rows * d)
        }
    };
    let reach = |kind: &AttentionKind| match kind {
        AttentionKind::Sliding => work.sampled_tokens.min(as_u64(config.sliding_window())),
        AttentionKind::Full => work.sampled_tokens,
    };
    let caching = config.num_hidden_layers().saturating_sub(beyond.uncached_layers);
    let cached: u64 = config.layer_types().iter().take(caching).map(reach).fold(0, u64::saturating_add);
    let kv_bytes = floats(work.sampled.saturating_mul(cached).saturating_mul(2 * kv));
    let trained = floats(work.trainable);
    let replaced = floats(work.trainable * (1 + work.optimizer_slots));
    let towers = work.beside.towers;
    let tower_bytes = towers.weight_bytes.saturating_add(of_each(floats(towers.kept(work.tokens))));
    let transient = of_each(per_token(transient).max(floats(towers.transient)));
    // Activations go while gradients come, unless those of an earlier pass are there already.
    let last_layer = per_token(input + kept + work.beside.per_token_in_a_layer);
    let gradient_bytes = match work.gpu {
        // The sum, and those of the micro-batch that each replica computes.
        _ if work.replicas > 1 => trained.saturating_mul(1 + at_once),
        None if !work.accumulates => {
            trained.min(trained.saturating_add(last_layer).saturating_sub(activation_bytes.saturating_add(loss_bytes)))
        }
        _ => trained,
    };
    let workspace_bytes = match work.gpu {
        None => {
            // When the optimiser has gradients and new values beside the old ones, the activations are gone.
            let passing = [gradient_bytes, activation_bytes, loss_bytes, transient].into_iter();
            let updating = trained.saturating_mul(2).saturating_sub(passing.fold(0, u64::saturating_add));
            let tokenizer = if work.sampled > 0 { as_u64(config.vocab_size()) * TOKENIZER_BYTES_PER_WORD } else { 0 };
            transient.saturating_add(updating + PROGRAM_BYTES + tokenizer)
        }
        Some(gpu) => {
            let rounded = work.tokens.saturating_mul(f.max(q)).saturating_mul(gpu.factor_bytes);
            let unpacked = transient.saturating_add(rounded).saturating_add(gpu.unpacked_bytes);
            // By products of matrices: scores, their gradient, that once more with rows and columns exchanged, and all
            // three as factors.
            let queries = work.tokens.min(as_u64(GPU_QUERIES));
            let scores = floats(work.tokens.saturating_mul(h * queries)).min(as_u64(GPU_SCORE_BYTES));
            let attention = if gpu.factor_bytes < F32_BYTES { 3 * scores + 3 * scores / 2 } else { 0 };
            unpacked.max(per_token(4 * q).saturating_add(attention)).max(replaced)
        }
    };
    Estimate {
        base_bytes: work.base_bytes,
        adapter_bytes: floats((1 + work.beside.copies) * work.trainable).saturating_add(gradient_bytes),
        optimizer_bytes: floats(work.optimizer_slots * work.trainable),
        activation_bytes,
        tower_bytes,
        loss_bytes,
        kv_bytes,
        workspace_bytes,
    }
}

/// The layers to recompute: as few as keep to a budget, or as few as take the least; all where there is none.
pub fn recompute(config: &ModelConfig, work: &Workload, budget_bytes: Option<u64>) -> Recompute {
    let Some(budget) = budget_bytes else { return Recompute::ALL };
    let needed = |recompute: &Recompute| estimate(config, &Workload { recompute: *recompute, ..*work }).total_bytes();
    let ways = || (0..=config.num_hidden_layers()).map(Recompute::first);
    let least = || ways().min_by_key(needed).unwrap_or(Recompute::ALL);
    ways().find(|recompute| needed(recompute) <= budget).unwrap_or_else(least)
}

/// What becomes of activations, as plans and estimates say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Activations {
    /// Whether layers are recomputed on the way back.
    #[serde(rename = "activation_checkpointing")]
    pub are_recomputed: bool,
    /// How many of them.
    pub recomputed_layers: usize,
    /// Of so many.
    pub layers: usize,
}

impl Activations {
    /// Of a model of so many layers.
    pub fn new(recompute: Recompute, layers: usize) -> Self {
        let recomputed_layers = recompute.of(layers);
        Activations { are_recomputed: recomputed_layers > 0, recomputed_layers, layers }
    }
}

impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.recomputed_layers {
            0 => f.write_str("keeping activations"),
            some if some < self.layers => write!(f, "recomputing activations of {some} of {} layers", self.layers),
            _ => f.write_str("recomputing activations"),
        }
    }
}
