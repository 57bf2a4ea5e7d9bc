//! The frozen head and cross-entropy in one, with its gradient in the same visit.

use super::cpu::bf16::{Left, times, times_transposed};
use super::cpu::cross_entropy::{Running, finish_gradient, take_bent_tile, take_tile};
use super::cpu::matmul::{Mat, MatMut, Store, matmul};
#[cfg(feature = "gpu")]
use super::gpu;
use super::node::{Cpu, tensor};
use super::sizes::{LOSS_CHUNK_ROWS as CHUNK_ROWS, LOSS_TILE_WORDS as TILE_WORDS};
use super::weight::Weight;
use crate::quant::simd::dot;
use burn::backend::Flex;
use burn::tensor::Tensor;
use half::bf16;

/// The loss of each row, and the gradient of the rows' sum.
#[derive(Debug, Clone)]
pub struct RowLosses {
    /// Negative log-likelihoods, in nats.
    pub losses: Vec<f64>,
    /// `scale * d sum / d x`, `[m, d]`, where it was asked for.
    pub gradient: Option<Tensor<2>>,
}

/// `-log softmax(x_i E^T)[t_i]` for each row `i`, and with `scale` the gradient of their sum, multiplied by it.
///
/// The gradient is `softmax(x E^T) E - E[t]`: attention of `x` over the vocabulary, with `E` as keys and as values. So
/// it is computed as flash attention is, a tile of words at a time beside a running maximum and sum; logits never leave
/// the cache, and the head is read (and unpacked, where it is quantised) once for many rows.
///
/// With a soft cap the logits are `z = c tanh(x E^T / c)`, and what is added up in the gradient is multiplied by its slope,
/// `1 - (z / c)^2`.
///
/// `None` on devices without a kernel.
///
/// # Shapes
/// - `x`: `[m, d]`
/// - `head`: `[v, d]`
/// - `targets`: `m` word ids below `v`
pub fn linear_cross_entropy(
    x: &Tensor<2>,
    head: &Weight,
    softcap: Option<f32>,
    targets: &[u32],
    scale: Option<f64>,
) -> Option<RowLosses> {
    if let Some(x) = Cpu::new(x) {
        return Some(cpu_linear_cross_entropy(x, head, softcap, targets, scale));
    }
    #[cfg(feature = "gpu")]
    if !head.is_on_cpu()
        && let Some((losses, gradient)) = gpu::linear_cross_entropy(x, head, softcap, targets, scale)
    {
        return Some(RowLosses { losses, gradient });
    }
    None
}

fn cpu_linear_cross_entropy(
    x: Cpu,
    head: &Weight,
    softcap: Option<f32>,
    targets: &[u32],
    scale: Option<f64>,
) -> RowLosses {
    let (x, shape) = (x.values(), x.shape());
    let [_, width] = head.dims();
    let mut losses = Vec::with_capacity(targets.len());
    let mut gradient = vec![0.0; if scale.is_some() { x.len() } else { 0 }];
    let mut logits = vec![0.0; targets.len().min(CHUNK_ROWS) * TILE_WORDS];
    for (chunk, targets) in targets.chunks(CHUNK_ROWS).enumerate() {
        let m = targets.len();
        let at = chunk * CHUNK_ROWS * width..(chunk * CHUNK_ROWS + m) * width;
        let values = &x[at.clone()];
        let x = Mat::new(values, [m, width]);
        let weighted = if scale.is_some() { &mut gradient[at] } else { &mut [] };
        let mut running = vec![Running::EMPTY; m];
        let take = |logits: &mut [f32], words: usize, running: &mut [Running], weighted: &mut [f32]| match softcap {
            None => take_tile(logits, words, running, weighted),
            Some(cap) => take_bent_tile(cap, logits, words, running, weighted),
        };
        if head.rounds() {
            let x = Left::new(values, [m, width]);
            head.rounded_tiles(TILE_WORDS, |words, tile| {
                let words = words.len();
                let logits = &mut logits[..m * words];
                times_transposed(&x, tile, Store::Replace, logits, words);
                take(logits, words, &mut running, weighted);
                if !weighted.is_empty() {
                    times(&Left::new(logits, [m, words]), 0..words, tile, Store::Add, weighted, width);
                }
            });
        } else {
            head.tiles_of(TILE_WORDS, |words, tile| {
                let tile = Mat::new(tile, [words.len(), width]);
                let logits = &mut logits[..m * words.len()];
                matmul(MatMut::new(logits, [m, words.len()]), Store::Replace, 1.0, x, tile.t());
                take(logits, words.len(), &mut running, weighted);
                if !weighted.is_empty() {
                    matmul(
                        MatMut::new(weighted, [m, width]),
                        Store::Add,
                        1.0,
                        Mat::new(logits, [m, words.len()]),
                        tile,
                    );
                }
            });
        }
        let mut target_rows = head.selected(targets);
        let rows = values.chunks_exact(width).zip(target_rows.chunks_exact_mut(width));
        losses.extend(running.iter().zip(rows).map(|(running, (x, e))| {
            let mut logit = match head.rounds() {
                true => dot(&rounded(x), &rounded(e)),
                false => dot(x, e),
            };
            if let Some(cap) = softcap {
                let bent = (logit / cap).tanh();
                logit = cap * bent;
                e.iter_mut().for_each(|e| *e *= 1.0 - bent * bent);
            }
            running.log_sum() - f64::from(logit)
        }));
        if let Some(scale) = scale {
            finish_gradient(weighted, width, &running, &target_rows, scale as f32);
        }
    }
    let gradient = scale.map(|_| Tensor::from_primitive::<Flex>(tensor(gradient, shape)));
    RowLosses { losses, gradient }
}

/// As factors of the other logits are rounded.
fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}
