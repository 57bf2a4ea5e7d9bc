//! Where the parts of a model come from.

use crate::error::Result;
use crate::nn::RmsNorm;
use crate::ops::Weight;
use crate::weights::names::TensorId;
use burn::tensor::Tensor;

/// What a norm looks like beside its weight `w`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormShape {
    /// Numbers that it normalises together.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f64,
    /// What its weight means.
    pub gain: Gain,
}

/// What the weight `w` of a norm means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// The gain is `1 + w`, as in Gemma 3.
    OnePlus,
    /// The gain is `w`, as in Gemma 3n.
    Plain,
}

impl NormShape {
    /// The norm with this weight `[width]`; its gain is formed in f32.
    pub fn norm(&self, weight: Tensor<1>) -> RmsNorm {
        let gain = match self.gain {
            Gain::OnePlus => weight.add_scalar(1.0),
            Gain::Plain => weight,
        };
        RmsNorm::new(gain, self.eps)
    }
}

/// Where the parts of a model come from: the files of one, or random numbers.
pub trait Parts {
    /// The matrix `[out, in]` of this name.
    ///
    /// # Errors
    /// When there is none.
    fn matrix(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight>;

    /// The norm of this name.
    ///
    /// # Errors
    /// When there is none.
    fn norm(&mut self, id: TensorId, shape: NormShape) -> Result<RmsNorm>;

    /// The numbers of this name, in f32.
    ///
    /// # Errors
    /// When there are none, or another number of them.
    fn vector(&mut self, id: TensorId, len: usize) -> Result<Tensor<1>>;

    /// The kernel `[out, in, height, width]` of this name of a convolution, as a matrix `[out, in height width]`.
    ///
    /// # Errors
    /// When there is none.
    fn kernel(&mut self, id: TensorId, dims: [usize; 4]) -> Result<Weight>;

    /// The kernel `[out, in, rows]` of this name of a convolution over rows, as a matrix `[out, in rows]`.
    ///
    /// # Errors
    /// When there is none.
    fn row_kernel(&mut self, id: TensorId, dims: [usize; 3]) -> Result<Weight>;

    /// The table of this name, of which few rows are used at a time: it stays in main memory or in its file.
    ///
    /// # Errors
    /// When there is none.
    fn table(&mut self, id: TensorId, dims: [usize; 2]) -> Result<Weight>;

    /// Called after each layer.
    fn layer_done(&mut self) {}
}
