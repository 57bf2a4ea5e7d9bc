//! What a model thinks of given text.

use crate::model::{Inputs, LanguageModel, SCORE};
use crate::nn::cross_entropy::token_nll;
use crate::nn::score::ends;
use crate::nn::{SidePath, scores};
use burn::tensor::Tensor;

/// The hidden states of one sequence, normalised and ready for the head, `[s, d]`.
pub fn hidden(model: &dyn LanguageModel, side: &dyn SidePath, inputs: &Inputs) -> Tensor<2> {
    model.norm().forward(model.hidden(inputs, side))
}

/// The log-probability of each token after the first, given those before it, in nats.
///
/// # Shapes
/// - `hidden`: `[s, d]`, from [`hidden`]
/// - output: `s - 1` values
pub fn logprobs(model: &dyn LanguageModel, hidden: &Tensor<2>, input_ids: &[u32]) -> Vec<f64> {
    match input_ids {
        [] | [_] => Vec::new(),
        [_, targets @ ..] => {
            let rows = hidden.clone().narrow(0, 0, targets.len());
            token_nll(&rows, model.head(), targets).into_iter().map(|nll| -nll).collect()
        }
    }
}

/// The logits of rows `start..start + len` of a sequence, row after row.
pub fn logits(model: &dyn LanguageModel, hidden: &Tensor<2>, start: usize, len: usize) -> Vec<f32> {
    model.head().logits(hidden.clone().narrow(0, start, len)).into_data().iter::<f32>().collect()
}

/// The mean of the hidden states of these tokens of one sequence, of length 1; none of these is nothing.
///
/// # Shapes
/// - output: `d` values
///
/// # Numerics
/// The mean and its length in f64.
pub fn embedding(model: &dyn LanguageModel, side: &dyn SidePath, inputs: &Inputs, of: &[usize]) -> Option<Vec<f32>> {
    let hidden = hidden(model, side, inputs);
    let [_, d] = hidden.dims();
    let values: Vec<f32> = hidden.into_data().iter().collect();
    let mut sum = vec![0f64; d];
    for row in of.iter().filter_map(|&at| values.get(at * d..(at + 1) * d)) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = sum.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    (length > 0.0 && length.is_finite()).then(|| sum.iter().map(|sum| (sum / length) as f32).collect())
}

/// What the head of a reward model on the `side` makes of each of the sequences, read at its last token; `None` without a head.
pub fn rewards(model: &dyn LanguageModel, side: &dyn SidePath, inputs: &Inputs) -> Option<Vec<f64>> {
    let head = side.whole(SCORE)?;
    let rows = model.norm().forward(ends(model.hidden(inputs, side), &inputs.segments)); // [m, d]
    Some(scores(rows, head).into_data().iter::<f32>().map(f64::from).collect())
}
