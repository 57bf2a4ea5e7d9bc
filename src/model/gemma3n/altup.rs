//! AltUp: several streams of which each layer computes with one, and what the others are told of it.

use crate::nn::{Linear, RmsNorm, SidePath};
use burn::tensor::Tensor;

/// What one layer has of AltUp.
///
/// # Source
/// Baykal et al. 2023, algorithm 1, with coefficients that depend on the token; checked by the goldens.
#[derive(Debug, Clone)]
pub struct AltUp {
    /// The stream that layers compute with.
    pub active: usize,
    /// Before the router.
    pub router_norm: RmsNorm,
    /// `[s, d]`.
    pub modality_router: Linear,
    /// `[s s, s]`.
    pub prediction_coefs: Linear,
    /// `[s, s]`.
    pub correction_coefs: Linear,
    /// What the active stream is multiplied by before it meets the per-layer input, `[1, d]`; `None` of 1.
    pub correct_output_scale: Option<Tensor<2>>,
}

impl AltUp {
    /// What the streams are expected to be after the layer: each changed by a mixture of all.
    ///
    /// # Shapes
    /// - `streams`, output: `[n, d]` each
    pub fn predict(&self, streams: &[Tensor<2>], side: &dyn SidePath) -> Vec<Tensor<2>> {
        let coefficients = self.prediction_coefs.forward(self.modalities(&streams[self.active], side), side); // [n, s s]
        let mixed = |to: usize| {
            let parts = streams.iter().enumerate();
            let parts = parts.map(|(from, x)| x.clone() * column(&coefficients, to * streams.len() + from));
            parts.reduce(|sum, part| sum + part)
        };
        let changed = streams.iter().enumerate().map(|(to, x)| match mixed(to) {
            Some(mixed) => mixed + x.clone(),
            None => x.clone(),
        });
        changed.collect()
    }

    /// What the streams are after the layer made `activated` of the active one: each is told how far that was from what
    /// was expected.
    ///
    /// # Shapes
    /// - `predictions`, output: `[n, d]` each
    /// - `activated`: `[n, d]`
    pub fn correct(&self, predictions: Vec<Tensor<2>>, activated: Tensor<2>, side: &dyn SidePath) -> Vec<Tensor<2>> {
        let coefficients = self.correction_coefs.forward(self.modalities(&activated, side), side).add_scalar(1.0); // [n, s]
        let innovation = activated - predictions[self.active].clone();
        let corrected = predictions.into_iter().enumerate();
        corrected.map(|(to, x)| innovation.clone() * column(&coefficients, to) + x).collect()
    }

    /// How much a token is of each stream's kind, `[n, s]`.
    fn modalities(&self, x: &Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let [_, d] = x.dims();
        let routed = self.router_norm.forward(x.clone()).mul_scalar(1.0 / d as f32);
        self.modality_router.forward(routed, side).tanh()
    }
}

/// A column as it is multiplied with rows, `[n, 1]`.
fn column(tensor: &Tensor<2>, at: usize) -> Tensor<2> {
    tensor.clone().narrow(1, at, 1)
}

/// The streams that stand beside `first` before the layers, one for each of `projections`.
pub fn spread(first: &Tensor<2>, projections: &[Linear], side: &dyn SidePath) -> Vec<Tensor<2>> {
    let magnitude = magnitude(first);
    projections.iter().map(|linear| rescaled(linear.forward(first.clone(), side), &magnitude)).collect()
}

/// The mean of `first` and what `projections` make of the streams beside it.
pub fn merge(first: Tensor<2>, beside: Vec<Tensor<2>>, projections: &[Linear], side: &dyn SidePath) -> Tensor<2> {
    let (magnitude, streams) = (magnitude(&first), 1 + beside.len());
    let projected = beside.into_iter().zip(projections);
    let sum = projected.fold(first, |sum, (x, linear)| sum + rescaled(linear.forward(x, side), &magnitude));
    sum.div_scalar(streams as f32)
}

/// The root mean square of each row, `[n, 1]`.
fn magnitude(x: &Tensor<2>) -> Tensor<2> {
    x.clone().square().mean_dim(1).sqrt()
}

/// Rows with this root mean square.
fn rescaled(x: Tensor<2>, magnitude: &Tensor<2>) -> Tensor<2> {
    const SMALLEST_MEAN_SQUARE: f64 = 1e-5;
    let own = x.clone().square().mean_dim(1).clamp_min(SMALLEST_MEAN_SQUARE).sqrt();
    x * magnitude.clone() / own
}
