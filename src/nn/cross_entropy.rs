//! Cross-entropy over the vocabulary, without ever holding the full logits.

use crate::ops::{self, RowLosses, Weight, product, read_back};
use burn::tensor::{Tensor, TensorData};

/// Logits held at once, in bytes, on devices without a kernel of ours.
const LOSS_CHUNK_BYTES: usize = 128 << 20;

/// Vocabulary rows per tile there: what is converted to f32 at once where the head is held in less.
const TILE_WORDS: usize = 16_384;

/// The summed loss of some rows, and its gradient.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Sum of the negative log-likelihoods, in nats.
    pub sum: f64,
    /// `scale * d sum / d hidden`, `[m, d]`.
    pub gradient: Option<Tensor<2>>,
}

/// Rows of logits that are handled at once there for a vocabulary of `words`.
fn chunk_rows(words: usize) -> usize {
    (LOSS_CHUNK_BYTES / (4 * words.max(1))).clamp(1, 1024)
}

/// The head of a model: what makes logits of normalised hidden rows.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[v, d]`.
    pub weight: &'a Weight,
    /// Bends the logits into `(-c, c)`: `z -> c tanh(z / c)`.
    pub softcap: Option<f32>,
}

impl<'a> Head<'a> {
    /// One without a soft cap.
    pub fn plain(weight: &'a Weight) -> Self {
        Head { weight, softcap: None }
    }

    /// The head of logits that are divided by `temperature`, for hidden rows that are divided by it.
    pub fn cooled(self, temperature: f64) -> Self {
        // `c tanh(z / c) / t` is `(c / t) tanh((z / t) / (c / t))`.
        Head { softcap: self.softcap.map(|cap| (f64::from(cap) / temperature) as f32), ..self }
    }

    /// The logits of some rows.
    ///
    /// # Shapes
    /// - `hidden`: `[m, d]`, normalised
    /// - output: `[m, v]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.weight.project(hidden);
        match self.softcap {
            Some(cap) => softcapped(logits, cap),
            None => logits,
        }
    }
}

/// Linear layer and cross-entropy in one: `sum_i -log softmax(z_i)[t_i]` with `z = x E^T`, bent by the soft cap where the
/// head has one.
///
/// The gradient has a closed form, `(softmax(z) - onehot(t)) z' E` with `z'` the slope of the soft cap, and is formed in
/// the same visit, so that the logits never exist in full. With `scale` the gradient is wanted, multiplied by it.
///
/// # Shapes
/// - `hidden`: `[m, d]`, normalised
/// - `targets`: `m` word ids
///
/// # Numerics
/// f32, with the maximum of each row taken out first; the sum over rows in f64.
pub fn linear_cross_entropy(hidden: &Tensor<2>, head: Head, targets: &[u32], scale: Option<f64>) -> Loss {
    let [words, _] = head.weight.dims();
    if let Some(rows) = ops::linear_cross_entropy(hidden, head.weight, head.softcap, targets, scale) {
        return Loss { sum: rows.losses.iter().sum(), gradient: rows.gradient };
    }
    let mut sum = 0.0;
    let mut gradients = Vec::new();
    for (chunk, start) in targets.chunks(chunk_rows(words)).zip((0..).step_by(chunk_rows(words))) {
        let rows = hidden.clone().narrow(0, start, chunk.len());
        let (losses, gradient) = chunk_loss(rows, head, chunk, scale);
        sum += losses.iter().sum::<f64>();
        gradients.extend(gradient);
    }
    let gradient = (!gradients.is_empty()).then(|| Tensor::cat(gradients, 0));
    Loss { sum, gradient }
}

/// The negative log-likelihood of each row's target.
///
/// # Shapes
/// - `hidden`: `[m, d]`, normalised
/// - output: `m` values in nats
pub fn token_nll(hidden: &Tensor<2>, head: Head, targets: &[u32]) -> Vec<f64> {
    row_losses(hidden, head, targets, None).losses
}

/// The log-probability of each row's target, and how it changes with the row.
#[derive(Debug, Clone)]
pub struct LogProbabilities {
    /// `log softmax(z_i)[t_i]` of each row, in nats.
    pub values: Vec<f64>,
    /// `-d value_i / d hidden_i`, `[m, d]`, where it was asked for.
    slopes: Option<Tensor<2>>,
}

impl LogProbabilities {
    /// The gradient with respect to the hidden rows, given that with respect to each value; `None` where none was asked for.
    ///
    /// A value depends on its own row alone, so that the rows' own gradients, which are made in the same visit as the values,
    /// are multiplied by what comes from above: the logits are computed once, whatever is made of them.
    ///
    /// # Shapes
    /// - `upstream`: `m` numbers
    /// - output: `[m, d]`
    pub fn backward(self, upstream: &[f64]) -> Option<Tensor<2>> {
        let slopes = self.slopes?;
        let by: Vec<f32> = upstream.iter().map(|by| -by as f32).collect();
        let by = Tensor::<2>::from_data(TensorData::new(by, [upstream.len(), 1]), &slopes.device());
        Some(slopes * by)
    }
}

/// Linear layer and log-probabilities in one: `log softmax(z_i)[t_i]` with `z = x E^T`, bent by the soft cap where the head has
/// one; `with_gradient` for [`LogProbabilities::backward`]. The logits never exist in full.
///
/// # Shapes
/// - `hidden`: `[m, d]`, normalised
/// - `targets`: `m` word ids
///
/// # Numerics
/// As [`linear_cross_entropy`].
pub fn linear_log_probabilities(
    hidden: &Tensor<2>,
    head: Head,
    targets: &[u32],
    with_gradient: bool,
) -> LogProbabilities {
    let RowLosses { losses, gradient } = row_losses(hidden, head, targets, with_gradient.then_some(1.0));
    LogProbabilities { values: losses.into_iter().map(|loss| -loss).collect(), slopes: gradient }
}

/// The loss of each row, and with `scale` the gradient of their sum, multiplied by it.
fn row_losses(hidden: &Tensor<2>, head: Head, targets: &[u32], scale: Option<f64>) -> RowLosses {
    if let Some(rows) = ops::linear_cross_entropy(hidden, head.weight, head.softcap, targets, scale) {
        return rows;
    }
    let rows = chunk_rows(head.weight.dims()[0]);
    let (mut losses, mut gradients) = (Vec::with_capacity(targets.len()), Vec::new());
    for (chunk, start) in targets.chunks(rows).zip((0..).step_by(rows)) {
        let (of_chunk, gradient) = chunk_loss(hidden.clone().narrow(0, start, chunk.len()), head, chunk, scale);
        losses.extend(of_chunk);
        gradients.extend(gradient);
    }
    RowLosses { losses, gradient: (!gradients.is_empty()).then(|| Tensor::cat(gradients, 0)) }
}

fn chunk_loss(x: Tensor<2>, head: Head, targets: &[u32], scale: Option<f64>) -> (Vec<f64>, Option<Tensor<2>>) {
    let Head { weight: head, softcap } = head;
    let [words, _] = head.dims();
    let tiles = || (0..words).step_by(TILE_WORDS).map(|start| start..(start + TILE_WORDS).min(words));
    let bent = |logits: Tensor<2>| if let Some(cap) = softcap { softcapped(logits, cap) } else { logits };
    let logits: Vec<Tensor<2>> = tiles().map(|tile| bent(product(x.clone(), head.rows(tile).transpose()))).collect();
    // The slope of the soft cap at every logit, where the gradient is to pass through it.
    let cap = softcap.filter(|_| scale.is_some());
    let slopes: Vec<Option<Tensor<2>>> = logits.iter().map(|tile| Some(slope(tile.clone(), cap?))).collect();

    let maxima: Vec<Tensor<2>> = logits.iter().map(|tile| tile.clone().max_dim(1)).collect();
    let maximum = Tensor::cat(maxima, 1).max_dim(1); // [m, 1]
    // Where the logits are not needed again for a gradient, they go tile by tile.
    let exponentials: Vec<Tensor<2>> = logits.into_iter().map(|tile| (tile - maximum.clone()).exp()).collect();
    let sums: Vec<Tensor<2>> = exponentials.iter().map(|tile| tile.clone().sum_dim(1)).collect();
    let sum = Tensor::cat(sums, 1).sum_dim(1); // [m, 1]

    let target_rows = head.select(targets); // [m, d]
    let target_logits = bent((x * target_rows.clone()).sum_dim(1)); // [m, 1]
    let target_rows = match cap {
        Some(cap) => target_rows * slope(target_logits.clone(), cap),
        None => target_rows,
    };
    let log_sum = sum.clone().log() + maximum;
    let losses = read_back(log_sum - target_logits);
    let losses = losses.iter::<f32>().map(f64::from).collect();

    let gradient = scale.map(|scale| {
        let passing = exponentials.into_iter().zip(slopes).map(|(exponentials, slope)| match slope {
            Some(slope) => exponentials * slope,
            None => exponentials,
        });
        let products = tiles().zip(passing).map(|(tile, passing)| product(passing, head.rows(tile)));
        let weighted = products.fold(target_rows.zeros_like(), |sum, product| sum + product); // [m, d]
        (weighted / sum - target_rows).mul_scalar(scale)
    });
    (losses, gradient)
}

/// `c tanh(z / c)`.
fn softcapped(logits: Tensor<2>, cap: f32) -> Tensor<2> {
    logits.div_scalar(cap).tanh().mul_scalar(cap)
}

/// The slope of the soft cap where it gives these logits: `1 - (z / c)^2`.
fn slope(bent: Tensor<2>, cap: f32) -> Tensor<2> {
    bent.div_scalar(cap).square().neg().add_scalar(1.0)
}

#[cfg(test)]
mod tests;
