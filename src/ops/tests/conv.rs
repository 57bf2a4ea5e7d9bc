//! Convolutions against their composition.

use super::{Values, distance};
use crate::device;
use crate::ops::conv::steps::Steps;
use crate::ops::{depthwise_conv, patches, plain};
use burn::tensor::Tensor;

/// Height, width and channels of a grid, a kernel's side and its steps.
const CASES: [([usize; 3], usize, usize); 7] = [
    ([7, 9, 5], 3, 1),
    ([7, 9, 40], 3, 2),
    ([8, 6, 32], 5, 2),
    ([5, 5, 64], 5, 1),
    ([2, 3, 33], 5, 2),
    ([6, 7, 3], 2, 2),
    ([4, 5, 16], 1, 1),
];

fn steps([height, width, _]: [usize; 3], kernel: usize, stride: usize) -> [Steps; 2] {
    [height, width].map(|cells| Steps { cells, kernel, stride })
}

#[test]
fn depthwise_conv_agrees() {
    for (shape, side, stride) in CASES {
        let mut values = Values::new(5);
        let (x, kernel) = (values.tensor(shape), values.tensor([side * side, shape[2]]));
        let want = plain::conv::depthwise_conv(x.clone(), &kernel, steps(shape, side, stride));
        for found in device::all() {
            let (x, kernel) = (x.clone().to_device(&found.device), kernel.clone().to_device(&found.device));
            let got = depthwise_conv(x, &kernel, stride);
            let gap = distance(got, want.clone());
            assert!(gap < 1e-6, "{} {shape:?} {side} {stride}: {gap:e}", found.name());
        }
    }
}

#[test]
fn patches_are_what_a_kernel_sees() {
    for (shape, side, stride) in CASES {
        let mut values = Values::new(6);
        let (x, kernel) = (values.tensor(shape), values.tensor([side * side, shape[2]]));
        let [down, _] = steps(shape, side, stride);
        for found in device::all() {
            let x = x.clone().to_device(&found.device);
            for rows in [0..down.len(), 0..1, down.len() - 1..down.len()] {
                let want = plain::conv::patches(x.clone(), steps(shape, side, stride), rows.clone());
                assert_eq!(patches(&x, side, stride, rows).into_data(), want.into_data(), "{}", found.name());
            }
            // A kernel that goes over each channel, written as a product.
            let seen = patches(&x, side, stride, 0..down.len());
            let [n, _] = seen.dims();
            let weight = kernel.clone().to_device(&found.device).reshape([1, side * side, shape[2]]);
            let sums: Tensor<3> = (seen.reshape([n, side * side, shape[2]]) * weight).sum_dim(1);
            let want = depthwise_conv(x, &kernel.clone().to_device(&found.device), stride);
            let gap = distance(sums.reshape(want.dims()), want);
            assert!(gap < 1e-6, "{} {shape:?} {side} {stride}: {gap:e}", found.name());
        }
    }
}

#[test]
fn a_gradient_flows_where_one_is_wanted() {
    let (shape, side, stride) = CASES[1];
    let mut values = Values::new(7);
    let x = values.tensor(shape).autodiff().require_grad();
    let kernel = values.tensor([side * side, shape[2]]);
    let mut tape = depthwise_conv(x.clone(), &kernel, stride).sum().backward();
    // Of the sum each cell has the kernel's cells that lay on it.
    let total: f32 = x.grad_remove(&mut tape).unwrap().sum().into_scalar();
    let ones = depthwise_conv(Tensor::ones(shape, &x.device().inner()), &kernel, stride);
    let expected: f32 = ones.sum().into_scalar();
    assert!((total - expected).abs() < 1e-3 * expected.abs().max(1.0), "{total} {expected}");
}
