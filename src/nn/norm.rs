//! Root-mean-square normalisation.

use burn::tensor::Tensor;

/// RMS norm over the last axis: `x / sqrt(mean(x^2) + eps) * gain`.
///
/// Gemma 3 stores `w` with `gain = 1 + w`; pass the gain.
///
/// # Numerics
/// f32 throughout, as in the reference.
///
/// # Source
/// Zhang & Sennrich 2019, equation 4.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    gain: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    /// A norm with this `gain` `[d]` (f32).
    pub fn new(gain: Tensor<1>, eps: f64) -> Self {
        RmsNorm { gain, eps }
    }

    /// Normalises the last axis.
    ///
    /// # Shapes
    /// - `x`: `[.., d]`
    /// - output: `[.., d]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mean = x.clone().square().mean_dim(D - 1);
        let scale = mean.add_scalar(self.eps).sqrt().recip(); // [.., 1]
        x * scale * self.gain.clone().unsqueeze()
    }
}
