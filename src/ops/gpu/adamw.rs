//! An update by AdamW in one kernel, where the composition takes a dozen.

use super::{Gpu, UNITS, buffer, cubes_for, empty, tensor};
use crate::ops::adamw::rates::AdamW;
use burn::tensor::Tensor;
use cubecl::prelude::*;

/// See [`crate::ops::adamw()`]; the inputs are the parameter, its gradient, its first and second moment.
pub fn adamw(inputs: [&Tensor<2>; 4], by: &AdamW) -> Option<[Tensor<2>; 3]> {
    let [parameter, gradient, first, second] = inputs.map(Gpu::open);
    let (parameter, gradient, first, second) = (parameter?, gradient?, first?, second?);
    let like = parameter.primitive();
    let updated = [(); 3].map(|()| empty(like, like.meta.shape().clone()));
    if like.meta.num_elements() > 0 {
        adamw_kernel::launch(
            &like.client,
            cubes_for(like),
            CubeDim::new_1d(UNITS),
            buffer(like),
            buffer(gradient.primitive()),
            buffer(first.primitive()),
            buffer(second.primitive()),
            buffer(&updated[0]),
            buffer(&updated[1]),
            buffer(&updated[2]),
            by.beta1 as f32,
            (1.0 - by.beta1) as f32,
            by.beta2 as f32,
            (1.0 - by.beta2) as f32,
            by.epsilon as f32,
            by.step_size as f32,
            by.root_correction as f32,
            by.keep as f32,
            by.scale as f32,
        );
    }
    Some(updated.each_ref().map(tensor))
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn adamw_kernel(
    parameter: &[f32],
    gradient: &[f32],
    first: &[f32],
    second: &[f32],
    new_parameter: &mut [f32],
    new_first: &mut [f32],
    new_second: &mut [f32],
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    epsilon: f32,
    step_size: f32,
    root_correction: f32,
    keep: f32,
    scale: f32,
) {
    let i = ABSOLUTE_POS;
    if i < parameter.len() {
        let g = gradient[i] * scale;
        let mean = first[i] * beta1 + g * rest1;
        let square = second[i] * beta2 + g * g * rest2;
        new_first[i] = mean;
        new_second[i] = square;
        let denominator = square.sqrt() / root_correction + epsilon;
        new_parameter[i] = parameter[i] * keep - mean * step_size / denominator;
    }
}
