//! The frozen head and cross-entropy in one, with its gradient in the same visit.

use super::{CubeTensor, Gpu, UNITS, buffer, cube_per_row, empty, primitive, reduce, tensor};
use crate::ops::factor::{Factor, round};
use crate::ops::sizes::{LOSS_CHUNK_ROWS as CHUNK_ROWS, loss_gpu_tile};
use crate::ops::traffic::read_back;
use crate::ops::weight::Weight;
use burn::tensor::Tensor;
use cubecl::prelude::*;

/// A logit below all others.
const LOWEST: f32 = -1e30;

/// See [`crate::ops::linear_cross_entropy`]: the head is read and unpacked once for [`CHUNK_ROWS`] rows. The loss of
/// each row, and the gradient where it was asked for.
pub fn linear_cross_entropy(
    x: &Tensor<2>,
    head: &Weight,
    softcap: Option<f32>,
    targets: &[u32],
    scale: Option<f64>,
) -> Option<(Vec<f64>, Option<Tensor<2>>)> {
    let x: Tensor<2> = tensor(Gpu::open(x)?.primitive());
    let mut losses = Vec::new();
    let mut gradients = Vec::new();
    for (chunk, targets) in targets.chunks(CHUNK_ROWS).enumerate() {
        let rows = x.clone().narrow(0, chunk * CHUNK_ROWS, targets.len());
        let (chunk_losses, gradient) = chunk_loss(rows, head, softcap, targets, scale);
        losses.push(chunk_losses);
        gradients.extend(gradient);
    }
    // One wait for the device, whatever the number of rows.
    let losses = match losses.is_empty() {
        true => Vec::new(),
        false => read_back(Tensor::cat(losses, 0)).iter::<f32>().map(f64::from).collect(),
    };
    let gradient = (!gradients.is_empty()).then(|| Tensor::cat(gradients, 0));
    Some((losses, gradient))
}

fn chunk_loss(
    x: Tensor<2>,
    head: &Weight,
    softcap: Option<f32>,
    targets: &[u32],
    scale: Option<f64>,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let [words, width] = head.dims();
    let m = targets.len();
    let device = x.device();
    let maxima = primitive(Tensor::<2>::full([m, 1], LOWEST, &device));
    let sums = primitive(Tensor::<2>::zeros([m, 1], &device));
    let mut weighted = Tensor::<2>::zeros([m, width], &device);
    let tile_words = loss_gpu_tile(m, width);
    let factor = Factor::new(&x, head.compute_dtype());
    for start in (0..words).step_by(tile_words) {
        let tile = head.tile(start..(start + tile_words).min(words));
        let logits = bent(factor.times(tile.clone().transpose()), softcap);
        let slopes = softcap.filter(|_| scale.is_some()).map(|cap| slope(logits.clone(), cap));
        let logits = primitive(logits);
        let fading = empty(&logits, [m, 1]);
        take_tile(&logits, &maxima, &sums, &fading);
        if scale.is_some() {
            let passing = match slopes {
                Some(slopes) => tensor::<2>(&logits) * slopes,
                None => tensor(&logits),
            };
            weighted = weighted * tensor(&fading) + Factor::new(&passing, head.compute_dtype()).times(tile);
        }
    }
    let (maximum, sum): (Tensor<2>, Tensor<2>) = (tensor(&maxima), tensor(&sums));
    let target_rows = head.select(targets); // [m, d]
    // Of the same numbers that the other logits are made of, so that a sure word has no loss below 0.
    let target_logits = (factor.rounded() * round(target_rows.clone(), head.compute_dtype())).sum_dim(1); // [m, 1]
    let target_logits = bent(target_logits, softcap);
    let target_rows = match softcap {
        Some(cap) => target_rows * slope(target_logits.clone(), cap),
        None => target_rows,
    };
    let losses = sum.clone().log() + maximum - target_logits;
    (losses, scale.map(|scale| (weighted / sum - target_rows).mul_scalar(scale)))
}

/// `c tanh(z / c)` where there is a soft cap.
fn bent(logits: Tensor<2>, softcap: Option<f32>) -> Tensor<2> {
    match softcap {
        Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
        None => logits,
    }
}

/// The slope of the soft cap where it gives these logits: `1 - (z / c)^2`.
fn slope(bent: Tensor<2>, cap: f32) -> Tensor<2> {
    bent.div_scalar(cap).square().neg().add_scalar(1.0)
}

/// Turns a tile of logits into their exponentials, and takes them into the rows' running maxima and sums; `fading` is
/// what sums of earlier tiles are to be multiplied with, because the maximum is another now.
///
/// # Shapes
/// - `logits`: `[m, words]`
/// - `maxima`, `sums`, `fading`: `[m, 1]`
fn take_tile(logits: &CubeTensor, maxima: &CubeTensor, sums: &CubeTensor, fading: &CubeTensor) {
    let [m, words] = logits.meta.shape().dims();
    take_tile_kernel::launch(
        &logits.client,
        cube_per_row(logits, m),
        CubeDim::new_1d(UNITS),
        buffer(logits),
        buffer(maxima),
        buffer(sums),
        buffer(fading),
        words as u32,
        UNITS,
    );
}

#[cube(launch)]
fn take_tile_kernel(
    logits: &mut [f32],
    maxima: &mut [f32],
    sums: &mut [f32],
    fading: &mut [f32],
    words: u32,
    #[comptime] units: u32,
) {
    let words = words as usize;
    let start = CUBE_POS * words;
    if start < logits.len() {
        let before = maxima[CUBE_POS];
        let mut maximum = before;
        for i in range_stepped(UNIT_POS as usize, words, units as usize) {
            maximum = max(maximum, logits[start + i]);
        }
        let maximum = reduce::max_of_units(maximum, units);
        let mut sum = 0.0f32;
        for i in range_stepped(UNIT_POS as usize, words, units as usize) {
            let exponential = (logits[start + i] - maximum).exp();
            logits[start + i] = exponential;
            sum += exponential;
        }
        let sum = reduce::sum_of_units(sum, units);
        if UNIT_POS == 0 {
            let factor = (before - maximum).exp();
            fading[CUBE_POS] = factor;
            sums[CUBE_POS] = sums[CUBE_POS] * factor + sum;
            maxima[CUBE_POS] = maximum;
        }
    }
}
