//! The convolutions of the tower, and what stands behind them.

use crate::nn::RmsNorm;
use crate::ops::{Weight, depthwise_conv, geglu, patches};
use burn::tensor::Tensor;

/// Numbers of patches that are in memory at a time.
const PATCHED: usize = 1 << 24;

/// A convolution with a kernel of one cell: `x W^T`.
#[derive(Debug, Clone)]
pub struct PointwiseConv {
    /// `[o, c]`.
    pub weight: Weight,
}

/// A convolution of each channel by itself.
#[derive(Debug, Clone)]
pub struct DepthwiseConv {
    /// `[k k, c]`, rows of the kernel one after the other.
    pub kernel: Tensor<2>,
    /// Cells from one step to the next.
    pub stride: usize,
}

/// A convolution of all channels, as a product with what the kernel sees at each step.
#[derive(Debug, Clone)]
pub struct FullConv {
    /// `[o, k k c]`, cells of the kernel one after the other.
    pub weight: Weight,
    /// `[o]`, where there is one.
    pub bias: Option<Tensor<1>>,
    /// Cells on a side of the kernel.
    pub kernel: usize,
    /// Cells from one step to the next.
    pub stride: usize,
}

/// Any of them.
#[derive(Debug, Clone)]
pub enum Conv {
    /// With a kernel of one cell.
    Pointwise(PointwiseConv),
    /// Of each channel by itself.
    Depthwise(DepthwiseConv),
    /// Of all channels.
    Full(FullConv),
}

/// A convolution, its norm, and where there is one its activation: `gelu_tanh(norm(conv(x)))`.
#[derive(Debug, Clone)]
pub struct ConvNormAct {
    /// The convolution.
    pub conv: Conv,
    /// Over channels.
    pub bn: RmsNorm,
    /// Whether the activation stands behind it.
    pub act: bool,
}

impl PointwiseConv {
    /// Applies it.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height, width, o]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [height, width, c] = x.dims();
        let [o, _] = self.weight.dims();
        self.weight.project(x.reshape([height * width, c])).reshape([height, width, o])
    }
}

impl DepthwiseConv {
    /// Applies it.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, c]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        depthwise_conv(x, &self.kernel, self.stride)
    }
}

impl FullConv {
    /// Applies it.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: &Tensor<3>) -> Tensor<3> {
        let [height, width, c] = x.dims();
        let (rows, columns) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        let [o, _] = self.weight.dims();
        // Some rows of steps at a time: all patches of a large picture are many times as much as it.
        let most = (PATCHED / (columns * self.kernel.pow(2) * c).max(1)).max(1);
        let pieces = (0..rows).step_by(most).map(|first| {
            let seen = patches(x, self.kernel, self.stride, first..rows.min(first + most));
            let y = self.weight.project(seen);
            match &self.bias {
                Some(bias) => y + bias.clone().unsqueeze(),
                None => y,
            }
        });
        Tensor::cat(pieces.collect(), 0).reshape([rows, columns, o])
    }
}

impl Conv {
    /// Applies it.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Conv::Pointwise(conv) => conv.forward(x),
            Conv::Depthwise(conv) => conv.forward(x),
            Conv::Full(conv) => conv.forward(&x),
        }
    }
}

impl ConvNormAct {
    /// Applies them.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height / stride, width / stride, o]`, rounded up
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let normed = self.bn.forward(self.conv.forward(x));
        if self.act { gelu(normed) } else { normed }
    }
}

/// `gelu_tanh(x)`.
fn gelu(x: Tensor<3>) -> Tensor<3> {
    let [height, width, c] = x.dims();
    let x = x.reshape([height * width, c]);
    // The gated kernel with a gate that lets everything through.
    let open = x.ones_like();
    geglu(x, open).reshape([height, width, c])
}
