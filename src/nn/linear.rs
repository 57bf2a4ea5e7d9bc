//! A frozen linear layer with room for something beside it.

use crate::nn::Weight;
use burn::tensor::Tensor;

/// What runs beside the frozen linears of a model: nothing, or an adapter.
///
/// The model passes every projection through it, so that adapters live outside the model's code and one set of frozen
/// weights serves the base, an adapter, and an adapter in training at once.
pub trait SidePath {
    /// Returns what the projection at `site` outputs, given its frozen output `y = x W^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `y`: `[n, out]`
    /// - output: `[n, out]`
    fn apply(&self, site: usize, x: &Tensor<2>, base: &Weight, y: Tensor<2>) -> Tensor<2>;
}

/// No adapter: the frozen model as it is.
#[derive(Debug, Clone, Copy)]
pub struct BaseOnly;

impl SidePath for BaseOnly {
    fn apply(&self, _: usize, _: &Tensor<2>, _: &Weight, y: Tensor<2>) -> Tensor<2> {
        y
    }
}

/// A frozen linear layer without bias: `y = x W^T`, then whatever runs beside it.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Its number among the model's projections, by which a [`SidePath`] knows it.
    pub site: usize,
    /// The frozen weight `[out, in]`.
    pub weight: Weight,
}

impl Linear {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn forward(&self, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let y = self.weight.project(x.clone());
        side.apply(self.site, &x, &self.weight, y)
    }
}
