//! Convolutions over a grid of cells, each a row of channels. They are composed of burn's own where a gradient is to flow.

pub(super) mod steps;

use super::cpu::conv as kernel;
use super::node::tensor;
use super::plain::conv as plain;
use burn::backend::Flex;
use burn::tensor::Tensor;
use std::ops::Range;
use steps::Steps;

/// A convolution of each channel by itself.
///
/// # Shapes
/// - `x`: `[height, width, c]`
/// - `kernel`: `[k k, c]`, rows of a kernel one after the other
/// - output: `[height / stride, width / stride, c]`, rounded up
pub fn depthwise_conv(x: Tensor<3>, kernel: &Tensor<2>, stride: usize) -> Tensor<3> {
    let [height, width, channels] = x.dims();
    let side = kernel.dims()[0].isqrt();
    let [down, across] = [height, width].map(|cells| Steps { cells, kernel: side, stride });
    let on_cpu = (x.clone().try_into_primitive::<Flex>(), kernel.clone().try_into_primitive::<Flex>());
    if let (Ok(x), Ok(kernel)) = on_cpu {
        let (x, kernel) = (x.to_contiguous(), kernel.to_contiguous());
        if let (Some(x), Some(kernel)) = (x.as_slice::<f32>(), kernel.as_slice::<f32>()) {
            let mut out = vec![0.0; down.len() * across.len() * channels];
            kernel::depthwise(x, kernel, [down, across], channels, &mut out);
            return Tensor::from_primitive::<Flex>(tensor(out, [down.len(), across.len(), channels]));
        }
    }
    plain::depthwise_conv(x, kernel, [down, across])
}

/// What a kernel sees at each step of some rows of steps, so that a convolution is a product with it.
///
/// # Shapes
/// - `x`: `[height, width, c]`
/// - `rows`: of the output
/// - output: `[rows.len() (width / stride), k k c]`
pub fn patches(x: &Tensor<3>, side: usize, stride: usize, rows: Range<usize>) -> Tensor<2> {
    let [height, width, channels] = x.dims();
    let [down, across] = [height, width].map(|cells| Steps { cells, kernel: side, stride });
    if let Ok(x) = x.clone().try_into_primitive::<Flex>() {
        let x = x.to_contiguous();
        if let Some(x) = x.as_slice::<f32>() {
            let shape = [rows.len() * across.len(), side * side * channels];
            let mut out = vec![0.0; shape[0] * shape[1]];
            kernel::patches(x, [down, across], channels, rows.start, &mut out);
            return Tensor::from_primitive::<Flex>(tensor(out, shape));
        }
    }
    plain::patches(x.clone(), [down, across], rows)
}
