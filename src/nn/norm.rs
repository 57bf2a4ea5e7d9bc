//! Root-mean-square normalisation.

use crate::nn::RopeTable;
use crate::ops::{self, Input, Weight, plain};
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
        ops::rms_norm(x, &self.gain, self.eps, None)
    }

    /// Normalises rows that are multiplied with `weight` and its like.
    ///
    /// # Shapes
    /// - `x`, output: `[n, d]`
    pub fn forward_for(&self, weight: &Weight, x: Tensor<2>) -> Input {
        ops::rms_norm_for(weight, x, &self.gain, self.eps)
    }

    /// What the normalised rows are multiplied by, `[d]`.
    pub fn gain(&self) -> &Tensor<1> {
        &self.gain
    }

    /// Normalises rows by another gain, which may be trained.
    ///
    /// # Shapes
    /// - `x`, output: `[n, d]`
    /// - `gain`: `[1, d]`
    pub fn forward_with(&self, x: Tensor<2>, gain: Tensor<2>) -> Tensor<2> {
        // The kernel takes its gain for a constant.
        plain::rms_norm(x, &gain.squeeze_dim(0), self.eps, None)
    }

    /// Normalises the last axis and adds the result to `residual`.
    ///
    /// # Shapes
    /// - `x`, `residual`, output: `[.., d]`
    pub fn forward_onto<const D: usize>(&self, residual: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
        ops::rms_norm(x, &self.gain, self.eps, Some(residual))
    }

    /// Normalises each head and rotates it.
    ///
    /// # Shapes
    /// - `x`, output: `[n, h, e]`
    pub fn forward_rotated(&self, x: Tensor<3>, rope: &RopeTable) -> Tensor<3> {
        ops::rotated_rms_norm(x, &self.gain, self.eps, &rope.cos, &rope.sin)
    }
}
