//! Sums of squares of many tensors, in a fixed order and fetched at once.

use super::{Gpu, UNITS, buffer, empty, reduce, tensor};
use crate::ops::traffic::read_back;
use burn::tensor::Tensor;
use cubecl::prelude::*;

/// Cubes that share a tensor, each of which writes one sum.
const PARTS: u32 = 32;

/// See [`crate::ops::square_sums`].
pub fn square_sums(tensors: &[Tensor<2>]) -> Option<Vec<f64>> {
    let tensors: Vec<Gpu> = tensors.iter().map(Gpu::open).collect::<Option<_>>()?;
    let first = tensors.first()?.primitive();
    let parts = empty(first, [tensors.len(), PARTS as usize]);
    for (slot, squared) in (0u32..).zip(&tensors) {
        square_sums_kernel::launch(
            &first.client,
            CubeCount::new_1d(PARTS),
            CubeDim::new_1d(UNITS),
            buffer(squared.primitive()),
            buffer(&parts),
            slot,
            PARTS,
            UNITS,
        );
    }
    let parts: Vec<f32> = read_back(tensor::<2>(&parts)).iter().collect();
    Some(parts.chunks_exact(PARTS as usize).map(|parts| parts.iter().map(|sum| f64::from(*sum)).sum()).collect())
}

#[cube(launch)]
fn square_sums_kernel(x: &[f32], sums: &mut [f32], slot: u32, #[comptime] parts: u32, #[comptime] units: u32) {
    let first = CUBE_POS * units as usize + UNIT_POS as usize;
    let mut sum = 0.0f32;
    for i in range_stepped(first, x.len(), (parts * units) as usize) {
        sum += x[i] * x[i];
    }
    let sum = reduce::sum_of_units(sum, units);
    if UNIT_POS == 0 {
        sums[(slot * parts) as usize + CUBE_POS] = sum;
    }
}
