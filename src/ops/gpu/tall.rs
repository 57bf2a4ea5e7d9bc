//! The gradients of an adapter's matrices: products whose sums go over all tokens, of which few come out. The tokens are
//! shared out, so that a device has work for all of its processors, and the parts added up in their order.

use super::{CubeTensor, UNITS, buffer, cubes_for, empty, primitive, tensor};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Columns of a cube's tile, a unit for each, and ranks, of which a unit has [`RANKS`].
const COLUMNS: usize = 64;
const DOWN: usize = 4;
const RANKS: usize = 4;
const RANK_TILE: usize = DOWN * RANKS;
/// Tokens that are in shared memory at a time.
const ROWS: usize = 16;
/// A part has so many tokens at least, and there are no more cubes than keep a large device busy.
const FEWEST_ROWS: usize = 128;
const CUBES: usize = 256;

/// `scale narrow^T wide`, or its transpose.
///
/// # Shapes
/// - `narrow`: `[n, r]`, f32
/// - `wide`: `[n, m]`, of any float dtype
/// - `scales`: `[n, 1]`, by which each row of `wide` is yet to be multiplied
/// - output: `[r, m]`, or `[m, r]`, f32
pub fn product(
    narrow: &CubeTensor,
    wide: &CubeTensor,
    scales: Option<&CubeTensor>,
    scale: f64,
    is_transposed: bool,
) -> CubeTensor {
    let ([n, r], [_, m]) = (narrow.meta.shape().dims(), wide.meta.shape().dims());
    let shape = if is_transposed { [m, r] } else { [r, m] };
    if n * r * m == 0 {
        return primitive(Tensor::<2>::zeros(shape, &tensor::<2>(wide).device()));
    }
    let tiles = [m.div_ceil(COLUMNS), r.div_ceil(RANK_TILE)];
    let most = (CUBES / (tiles[0] * tiles[1])).max(1);
    let rows = n.div_ceil(most).max(FEWEST_ROWS).next_multiple_of(ROWS);
    let parts = n.div_ceil(rows);
    let summed = empty(wide, [parts * shape[0], shape[1]]);
    product_kernel::launch(
        &wide.client,
        CubeCount::new_3d(tiles[0] as u32, tiles[1] as u32, parts as u32),
        CubeDim::new_2d(COLUMNS as u32, DOWN as u32),
        buffer(narrow),
        buffer(wide),
        buffer(scales.unwrap_or(narrow)),
        buffer(&summed),
        r as u32,
        m as u32,
        rows as u32,
        scale as f32,
        is_transposed,
        scales.is_some(),
        dtype_to_storage_type(wide.dtype),
    );
    if parts == 1 {
        return summed;
    }
    let sum = empty(wide, shape);
    sum_kernel::launch(
        &wide.client,
        cubes_for(&sum),
        CubeDim::new_1d(UNITS),
        buffer(&summed),
        buffer(&sum),
        parts as u32,
    );
    sum
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn product_kernel<F: Float>(
    narrow: &[f32],
    wide: &[F],
    scales: &[f32],
    out: &mut [f32],
    r: u32,
    m: u32,
    rows: u32,
    scale: f32,
    #[comptime] is_transposed: bool,
    // Otherwise `scales` is not read.
    #[comptime] is_scaled: bool,
    #[define(F)] _dtype: ElemType,
) {
    let (r, m, rows) = (r as usize, m as usize, rows as usize);
    let n = narrow.len() / r;
    let first_column = CUBE_POS_X as usize * COLUMNS;
    let first_rank = CUBE_POS_Y as usize * RANK_TILE;
    let start = CUBE_POS_Z as usize * rows;
    let mut end = start + rows;
    if end > n {
        end = n;
    }
    let mut narrow_tile = Shared::<[f32]>::new_slice(ROWS * RANK_TILE);
    let mut wide_tile = Shared::<[f32]>::new_slice(ROWS * COLUMNS);
    let mut sums = Array::<f32>::new(RANKS);
    for row in range_stepped(start, end, ROWS) {
        sync_cube();
        for at in range_stepped(UNIT_POS as usize, ROWS * RANK_TILE, COLUMNS * DOWN) {
            let (token, rank) = (row + at / RANK_TILE, first_rank + at % RANK_TILE);
            let mut value = 0.0f32;
            if token < end && rank < r {
                value = narrow[token * r + rank];
                if is_scaled {
                    value *= scales[token];
                }
            }
            narrow_tile[at] = value;
        }
        for at in range_stepped(UNIT_POS as usize, ROWS * COLUMNS, COLUMNS * DOWN) {
            let (token, column) = (row + at / COLUMNS, first_column + at % COLUMNS);
            let mut value = 0.0f32;
            if token < end && column < m {
                value = f32::cast_from(wide[token * m + column]);
            }
            wide_tile[at] = value;
        }
        sync_cube();
        for token in 0..ROWS {
            let value = wide_tile[token * COLUMNS + UNIT_POS_X as usize];
            #[unroll]
            for i in 0..RANKS {
                sums[i] += narrow_tile[token * RANK_TILE + UNIT_POS_Y as usize * RANKS + i] * value;
            }
        }
    }
    let column = first_column + UNIT_POS_X as usize;
    let part = CUBE_POS_Z as usize * r * m;
    #[unroll]
    for i in 0..RANKS {
        let rank = first_rank + UNIT_POS_Y as usize * RANKS + i;
        if column < m && rank < r {
            if is_transposed {
                out[part + column * r + rank] = sums[i] * scale;
            } else {
                out[part + rank * m + column] = sums[i] * scale;
            }
        }
    }
}

#[cube(launch)]
fn sum_kernel(parts: &[f32], out: &mut [f32], count: u32) {
    if ABSOLUTE_POS < out.len() {
        let mut sum = 0.0f32;
        for part in 0..(count as usize) {
            sum += parts[part * out.len() + ABSOLUTE_POS];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::ops::gpu::Gpu;
    use crate::ops::tests::Values;
    use burn::tensor::TensorData;

    /// Fewer tokens than a part, several parts, the last of them short; ranks below, at and beyond a tile.
    #[test]
    fn sums_over_any_number_of_tokens_are_those_of_a_product() {
        for [n, r, m] in [[1, 1, 1], [29, 3, 70], [128, 16, 64], [700, 8, 33], [1030, 37, 130]] {
            let mut values = Values::new(31);
            let (narrow, wide) = (values.tensor::<2>([n, r]), values.tensor::<2>([n, m]));
            let want = narrow.clone().transpose().matmul(wide.clone()).mul_scalar(0.7);
            for found in device::all() {
                let [narrow, wide] = [&narrow, &wide].map(|t| t.clone().to_device(&found.device));
                let (Some(narrow), Some(wide)) = (Gpu::open(&narrow), Gpu::open(&wide)) else { continue };
                // As a factor of f16 is: each row with what it is yet to be multiplied by.
                let powers: Vec<f32> = (0..n).map(|row| 2f32.powi(row as i32 % 9 - 4)).collect();
                let powers = Tensor::<2>::from_data(TensorData::new(powers, [n, 1]), &found.device);
                let halved = tensor::<2>(wide.primitive()) / powers.clone();
                let (halved, powers) = (primitive(halved), primitive(powers));
                let turns = [(false, want.clone()), (true, want.clone().transpose())];
                let ways = [(wide.primitive(), None), (&halved, Some(&powers))];
                for ((is_transposed, want), (wide, scales)) in
                    turns.into_iter().flat_map(|turn| ways.map(|way| (turn.clone(), way)))
                {
                    let got: Tensor<2> = tensor(&super::product(narrow.primitive(), wide, scales, 0.7, is_transposed));
                    assert_eq!(got.dims(), want.dims());
                    let got: Vec<f32> = got.into_data().iter().collect();
                    let want: Vec<f32> = want.into_data().iter().collect();
                    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
                    let norm = square(&mut want.iter().copied());
                    let gap = square(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / norm;
                    assert!(gap < 1e-6, "{} [{n}, {r}, {m}] {is_transposed}: {gap}", found.name());
                }
            }
        }
    }
}
