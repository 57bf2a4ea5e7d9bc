//! Gates of which only the largest pass.

use crate::model::gemma3n::normal;
use crate::nn::{Mlp, SidePath};
use crate::ops::{self, Input, Passing};
use burn::tensor::Tensor;

/// GeGLU whose gate may be made sparse: what is not far enough above its token's mean is cut off, and the rest lowered by
/// as much.
#[derive(Debug, Clone)]
pub struct SparseMlp {
    /// The block.
    pub mlp: Mlp,
    /// How many standard deviations above the mean something must be; `None` where everything passes.
    pub cutoff: Option<f32>,
}

impl SparseMlp {
    /// The cutoff that about this share of normal numbers stays below; `None` of 0.
    ///
    /// # Numerics
    /// That of the share rounded to f32, as transformers rounds it.
    pub fn cutoff_of(share: f64) -> Option<f32> {
        (share > 0.0).then(|| normal::quantile(f64::from(share as f32)) as f32)
    }

    /// The share whose cutoff this is: the inverse of [`SparseMlp::cutoff_of`], with as few digits as tell it, as people
    /// write it.
    pub fn share_of(cutoff: f32) -> f64 {
        let share = normal::share_below(f64::from(cutoff));
        let rounded = |digits: i32| (share * 10f64.powi(digits)).round() / 10f64.powi(digits);
        let near = |share: f64, by: f32| {
            SparseMlp::cutoff_of(share).is_some_and(|of| of.is_finite() && (of - cutoff).abs() <= of.abs() * by)
        };
        // Other libraries round the cutoff otherwise, by its last bit.
        let within = |by: f32| (1..=9).map(rounded).find(|share| near(*share, by));
        within(0.0).or_else(|| within(2e-7)).unwrap_or(share)
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward(&self, x: impl Into<Input>, side: &dyn SidePath) -> Tensor<2> {
        let x = x.into();
        let Some(cutoff) = self.cutoff else { return self.mlp.forward(x, side) };
        let gate = ops::top_of_row(self.mlp.gate_proj.forward(x.clone(), side), cutoff); // [n, f]
        let Mlp { mut up_proj, mut down_proj, .. } = self.mlp.clone();
        if let Some(passing) = Passing::of(&gate) {
            // What the gate multiplies by zero is not computed.
            (up_proj, down_proj) = (up_proj.with_outputs(&passing), down_proj.with_inputs(&passing));
        }
        let up = up_proj.forward(x, side); // [n, f]
        down_proj.forward_gated(gate, up, side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoffs_are_those_of_the_normal_distribution() {
        assert_eq!(SparseMlp::cutoff_of(0.95), Some(1.644_853_5));
        assert_eq!(SparseMlp::cutoff_of(0.0), None);
        for share in [0.95, 0.9, 0.5, 0.123, 0.01, 0.999_9] {
            assert_eq!(SparseMlp::share_of(SparseMlp::cutoff_of(share).unwrap()), share);
        }
        // As PyTorch rounds it.
        assert_eq!(SparseMlp::share_of(1.644_853_6), 0.95);
    }
}
