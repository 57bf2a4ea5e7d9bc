//! Sums of squares of many tensors, in a fixed order and fetched at once.

use super::{Gpu, UNITS, buffer, empty, reduce, tensor};
use crate::ops::traffic::read_back;
use burn::tensor::Tensor;
use cubecl::prelude::*;

/// Cubes that share a tensor, each of which writes one sum.
const PARTS: u32 = 32;

/// Tensors that a launch takes: WebGPU promises eight buffers, and the sums are one.
const AT_ONCE: usize = 7;

/// See [`crate::ops::square_sums`].
pub fn square_sums(tensors: &[Tensor<2>]) -> Option<Vec<f64>> {
    let tensors: Vec<Gpu> = tensors.iter().map(Gpu::open).collect::<Option<_>>()?;
    let first = tensors.first()?.primitive();
    let parts = empty(first, [tensors.len(), PARTS as usize]);
    for (some, slot) in tensors.chunks(AT_ONCE).zip((0u32..).step_by(AT_ONCE)) {
        // Of fewer the first stands for those that are not there, and no cube asks for it there.
        let at = |i: usize| buffer(some.get(i).unwrap_or(&some[0]).primitive());
        square_sums_kernel::launch(
            &first.client,
            CubeCount::new_2d(PARTS, some.len() as u32),
            CubeDim::new_1d(UNITS),
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6),
            buffer(&parts),
            slot,
            PARTS,
            UNITS,
        );
    }
    let parts: Vec<f32> = read_back(tensor::<2>(&parts)).iter().collect();
    Some(parts.chunks_exact(PARTS as usize).map(|parts| parts.iter().map(|sum| f64::from(*sum)).sum()).collect())
}

/// A unit's share of the sum of a tensor's squares.
#[cube]
fn share(x: &[f32], #[comptime] parts: u32, #[comptime] units: u32) -> f32 {
    let first = CUBE_POS_X as usize * units as usize + UNIT_POS as usize;
    let mut sum = 0.0f32;
    for i in range_stepped(first, x.len(), (parts * units) as usize) {
        sum += x[i] * x[i];
    }
    sum
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
#[allow(unused_assignments, reason = "a kernel's variable begins with a value")]
fn square_sums_kernel(
    x0: &[f32],
    x1: &[f32],
    x2: &[f32],
    x3: &[f32],
    x4: &[f32],
    x5: &[f32],
    x6: &[f32],
    sums: &mut [f32],
    slot: u32,
    #[comptime] parts: u32,
    #[comptime] units: u32,
) {
    let mut sum = 0.0f32;
    if CUBE_POS_Y == 0 {
        sum = share(x0, parts, units);
    } else if CUBE_POS_Y == 1 {
        sum = share(x1, parts, units);
    } else if CUBE_POS_Y == 2 {
        sum = share(x2, parts, units);
    } else if CUBE_POS_Y == 3 {
        sum = share(x3, parts, units);
    } else if CUBE_POS_Y == 4 {
        sum = share(x4, parts, units);
    } else if CUBE_POS_Y == 5 {
        sum = share(x5, parts, units);
    } else {
        sum = share(x6, parts, units);
    }
    let sum = reduce::sum_of_units(sum, units);
    if UNIT_POS == 0 {
        sums[((slot + CUBE_POS_Y) * parts + CUBE_POS_X) as usize] = sum;
    }
}
