//! The product of an adapter, added where the frozen layer's is: the wide result is read and written once.

use super::{CubeTensor, buffer};
use cubecl::prelude::*;

/// Units of a cube across and down; each has the columns that are `ACROSS` and the rows that are `DOWN` apart.
const ACROSS: usize = 32;
const DOWN: usize = 8;
/// Rows and columns of a cube's tile.
const SIDE: usize = 64;
/// Elements of the rank that are in shared memory at a time, and floats from row to row there.
const RANK: usize = 16;
const PITCH: usize = RANK + 1;

/// What becomes of a wide product: its rows are multiplied by `scales` where its factor was scaled, and `scale left right^T`
/// is added to it, in its place.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// `[n, r]`.
    pub left: &'a CubeTensor,
    /// `[m, r]`, or transposed, `[r, m]`.
    pub right: &'a CubeTensor,
    /// Whether `right` is transposed.
    pub is_transposed: bool,
    /// What its product with `left` is multiplied by.
    pub scale: f64,
}

impl Added<'_> {
    /// Adds it to `y`.
    ///
    /// # Shapes
    /// - `y`: `[n, m]`, which nothing else holds
    /// - `scales`: `[n, 1]`
    pub fn to(&self, y: &CubeTensor, scales: Option<&CubeTensor>) {
        let [n, m] = y.meta.shape().dims();
        let [_, rank] = self.left.meta.shape().dims();
        if n * m == 0 {
            return;
        }
        add_kernel::launch(
            &y.client,
            CubeCount::new_2d(m.div_ceil(SIDE) as u32, n.div_ceil(SIDE) as u32),
            CubeDim::new_2d(ACROSS as u32, DOWN as u32),
            buffer(self.left),
            buffer(self.right),
            buffer(scales.unwrap_or(self.left)),
            buffer(y),
            n as u32,
            m as u32,
            rank as u32,
            self.scale as f32,
            self.is_transposed,
            scales.is_some(),
        );
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn add_kernel(
    left: &[f32],
    right: &[f32],
    scales: &[f32],
    y: &mut [f32],
    n: u32,
    m: u32,
    rank: u32,
    scale: f32,
    #[comptime] is_transposed: bool,
    // Otherwise `scales` is not read.
    #[comptime] is_scaled: bool,
) {
    let (n, m, rank) = (n as usize, m as usize, rank as usize);
    let first_row = CUBE_POS_Y as usize * SIDE;
    let first_column = CUBE_POS_X as usize * SIDE;
    let mut left_tile = Shared::<[f32]>::new_slice(SIDE * PITCH);
    let mut right_tile = Shared::<[f32]>::new_slice(SIDE * PITCH);
    let mut sums = Array::<f32>::new(comptime!(SIDE / DOWN * (SIDE / ACROSS)));
    for start in range_stepped(0usize, rank, RANK) {
        sync_cube();
        for at in range_stepped(UNIT_POS as usize, SIDE * RANK, ACROSS * DOWN) {
            let (row, k) = (at / RANK, at % RANK);
            let mut value = 0.0f32;
            if first_row + row < n && start + k < rank {
                value = left[(first_row + row) * rank + start + k];
            }
            left_tile[row * PITCH + k] = value;
            let mut value = 0.0f32;
            if first_column + row < m && start + k < rank {
                if is_transposed {
                    value = right[(start + k) * m + first_column + row];
                } else {
                    value = right[(first_column + row) * rank + start + k];
                }
            }
            right_tile[row * PITCH + k] = value;
        }
        sync_cube();
        for k in 0..RANK {
            #[unroll]
            for i in 0..comptime!(SIDE / DOWN) {
                #[unroll]
                for j in 0..comptime!(SIDE / ACROSS) {
                    let row = UNIT_POS_Y as usize + i * DOWN;
                    let column = UNIT_POS_X as usize + j * ACROSS;
                    sums[i * comptime!(SIDE / ACROSS) + j] +=
                        left_tile[row * PITCH + k] * right_tile[column * PITCH + k];
                }
            }
        }
    }
    #[unroll]
    for i in 0..comptime!(SIDE / DOWN) {
        #[unroll]
        for j in 0..comptime!(SIDE / ACROSS) {
            let row = first_row + UNIT_POS_Y as usize + i * DOWN;
            let column = first_column + UNIT_POS_X as usize + j * ACROSS;
            if row < n && column < m {
                let mut wide = y[row * m + column];
                if is_scaled {
                    wide *= scales[row];
                }
                y[row * m + column] = wide + sums[i * comptime!(SIDE / ACROSS) + j] * scale;
            }
        }
    }
}
