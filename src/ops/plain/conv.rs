//! Convolutions as sums over the cells of a kernel.

use crate::ops::conv::steps::Steps;
use burn::tensor::{Tensor, s};
use std::ops::Range;

/// See [`crate::ops::depthwise_conv`].
pub fn depthwise_conv(x: Tensor<3>, kernel: &Tensor<2>, steps: [Steps; 2]) -> Tensor<3> {
    let [taps, channels] = kernel.dims();
    let rows = 0..steps[0].len();
    let padded = padded(x, steps);
    let each = (0..taps).map(|tap| {
        let weight = kernel.clone().narrow(0, tap, 1).reshape([1, 1, channels]);
        seen(&padded, steps, tap, rows.clone()) * weight
    });
    // A kernel has a cell.
    each.reduce(|sum, tap| sum + tap).unwrap_or(padded)
}

/// See [`crate::ops::patches`].
pub fn patches(x: Tensor<3>, steps: [Steps; 2], rows: Range<usize>) -> Tensor<2> {
    let [_, _, channels] = x.dims();
    let padded = padded(x, steps);
    let taps = steps[0].kernel * steps[1].kernel;
    let seen = (0..taps).map(|tap| seen(&padded, steps, tap, rows.clone())).collect();
    Tensor::cat(seen, 2).reshape([rows.len() * steps[1].len(), taps * channels])
}

/// What one cell of a kernel sees at each step.
fn seen(padded: &Tensor<3>, [down, across]: [Steps; 2], tap: usize, rows: Range<usize>) -> Tensor<3> {
    let (i, j) = (tap / across.kernel, tap % across.kernel);
    let top = i + rows.start * down.stride;
    let bottom = top + rows.len().saturating_sub(1) * down.stride + 1;
    let right = j + across.len().saturating_sub(1) * across.stride + 1;
    let [step_down, step_across] = [down, across].map(|steps| steps.stride.cast_signed());
    padded.clone().slice(s![top..bottom;step_down, j..right;step_across, ..])
}

/// With its zeros around it.
fn padded(x: Tensor<3>, steps: [Steps; 2]) -> Tensor<3> {
    let padded = [0, 1].into_iter().fold(x, |x, axis| {
        let zeros = steps[axis].padding().map(|cells| {
            let mut dims = x.dims();
            dims[axis] = cells;
            (cells > 0).then(|| Tensor::zeros(dims, &x.device()))
        });
        let [before, after] = zeros;
        let parts: Vec<Tensor<3>> = before.into_iter().chain([x.clone()]).chain(after).collect();
        if parts.len() == 1 { x } else { Tensor::cat(parts, axis) }
    });
    padded
}
