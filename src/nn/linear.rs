//! A frozen linear layer with room for something beside it.

use crate::ops::{Input, Passing, Weight, geglu};
use burn::tensor::Tensor;

/// What runs beside the frozen linears of a model: nothing, or an adapter.
///
/// The model passes every projection through it, so that adapters live outside the model's code and one set of frozen
/// weights serves the base, an adapter, and an adapter in training at once.
pub trait SidePath: Sync {
    /// Returns what the projection at `site` outputs: `x W^T`, with `W` the frozen `base`, and what runs beside it.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    fn project(&self, site: usize, x: Input, base: &Weight) -> Tensor<2>;

    /// As [`SidePath::project`], of `gelu_tanh(gate) * up`, for those who need not keep the product.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[n, in]`
    /// - output: `[n, out]`
    fn project_gated(&self, site: usize, gate: Tensor<2>, up: Tensor<2>, base: &Weight) -> Tensor<2> {
        self.project(site, geglu(gate, up).into(), base)
    }

    /// As [`SidePath::project`], given the `frozen` `x W^T`, so that several share it.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `frozen`, output: `[n, out]`
    fn beside(&self, site: usize, x: Tensor<2>, frozen: Tensor<2>, base: &Weight) -> Tensor<2> {
        let _ = frozen;
        self.project(site, x.into(), base)
    }

    /// Whether nothing runs beside the model.
    fn is_nothing(&self) -> bool {
        false
    }

    /// What stands in the place of the model's tensor of this number, where one does that is trained as it is.
    ///
    /// # Shapes
    /// - output: as the tensor's, of a vector `[1, n]`
    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        let _ = tensor;
        None
    }
}

/// No adapter: the frozen model as it is.
#[derive(Debug, Clone, Copy)]
pub struct BaseOnly;

impl SidePath for BaseOnly {
    fn project(&self, _: usize, x: Input, base: &Weight) -> Tensor<2> {
        base.project(x)
    }

    fn beside(&self, _: usize, _: Tensor<2>, frozen: Tensor<2>, _: &Weight) -> Tensor<2> {
        frozen
    }

    fn is_nothing(&self) -> bool {
        true
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
    pub fn forward(&self, x: impl Into<Input>, side: &dyn SidePath) -> Tensor<2> {
        side.project(self.site, x.into(), &self.weight)
    }

    /// The layer of which only the outputs are read that pass: see [`Weight::with_outputs`].
    pub fn with_outputs(&self, passing: &Passing) -> Self {
        Linear { site: self.site, weight: self.weight.with_outputs(passing) }
    }

    /// The layer whose inputs are zero where nothing passes: see [`Weight::with_inputs`].
    pub fn with_inputs(&self, passing: &Passing) -> Self {
        Linear { site: self.site, weight: self.weight.with_inputs(passing) }
    }

    /// Applies the layer to `gelu_tanh(gate) * up`.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[n, in]`
    /// - output: `[n, out]`
    pub fn forward_gated(&self, gate: Tensor<2>, up: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        side.project_gated(self.site, gate, up, &self.weight)
    }
}

/// A frozen linear layer with a bias: `y = x W^T + b`, then whatever runs beside it.
#[derive(Debug, Clone)]
pub struct BiasedLinear {
    /// Without its bias.
    pub linear: Linear,
    /// `[out]`.
    pub bias: Tensor<1>,
}

impl BiasedLinear {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn forward(&self, x: impl Into<Input>, side: &dyn SidePath) -> Tensor<2> {
        self.linear.forward(x, side) + self.bias.clone().unsqueeze()
    }
}
