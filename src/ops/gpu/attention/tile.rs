//! The two products that attention is made of, each of tiles of [`TILE`] rows.
//!
//! A cube is a square of [`SIDE`] by [`SIDE`] units. Of a tile `[TILE, TILE]` each unit has four elements: rows `y` and
//! `y + SIDE`, columns `x` and `x + SIDE`.

use cubecl::prelude::*;

/// Units along a side of a cube.
pub const SIDE: usize = 16;
/// Rows of a tile, and columns that are in shared memory at a time.
pub const TILE: usize = 2 * SIDE;
/// Floats from row to row in shared memory: one more, so that a column lies in as many banks as a row.
pub const PITCH: usize = TILE + 1;
/// The widest head: each unit holds four of its elements per [`TILE`] columns.
pub const MOST_COLUMNS: usize = 256;

/// A score that counts for nothing.
pub const HIDDEN: f32 = -1e30;

/// Rows of one head in a matrix `[rows, heads e]`: those from `first` on which are before `end`.
#[derive(CubeType, Clone, Copy)]
pub struct Rows {
    pub first: usize,
    pub end: usize,
    /// Floats from row to row.
    pub stride: usize,
    /// Where the head begins in a row.
    pub offset: usize,
}

/// The row of a tile of this unit's half `i`.
#[cube]
pub fn row(#[comptime] i: usize) -> usize {
    UNIT_POS_Y as usize + i * SIDE
}

/// The column of a tile of this unit's half `j`.
#[cube]
pub fn column(#[comptime] j: usize) -> usize {
    UNIT_POS_X as usize + j * SIDE
}

/// Copies columns `start..start + TILE` of a head's rows into `tile`; 0 where there are none.
#[cube]
fn load(tile: &mut [f32], values: &[f32], rows: &Rows, start: usize, #[comptime] head_dim: usize) {
    #[unroll]
    for i in 0..2usize {
        #[unroll]
        for j in 0..2usize {
            let from_row = rows.first + row(i);
            let from_column = start + column(j);
            let mut value = 0.0f32;
            if from_row < rows.end && from_column < head_dim {
                value = values[from_row * rows.stride + rows.offset + from_column];
            }
            tile[row(i) * PITCH + column(j)] = value;
        }
    }
}

/// `a b^T`: this unit's four elements, element `(i, j)` at `2 i + j`.
#[cube]
pub fn products(
    a: &[f32],
    a_rows: &Rows,
    b: &[f32],
    b_rows: &Rows,
    a_tile: &mut [f32],
    b_tile: &mut [f32],
    #[comptime] head_dim: usize,
) -> Array<f32> {
    let mut sums = Array::<f32>::new(4usize);
    for chunk in 0..comptime!(head_dim.div_ceil(TILE)) {
        let start = chunk * TILE;
        sync_cube();
        load(a_tile, a, a_rows, start, head_dim);
        load(b_tile, b, b_rows, start, head_dim);
        sync_cube();
        for k in 0..TILE {
            #[unroll]
            for i in 0..2usize {
                #[unroll]
                for j in 0..2usize {
                    sums[2 * i + j] += a_tile[row(i) * PITCH + k] * b_tile[column(j) * PITCH + k];
                }
            }
        }
    }
    sums
}

/// Adds `weights b` to `sums`, `[TILE, e]`: element `(i, j)` of columns `TILE c..` at `4 c + 2 i + j`. Begins and ends
/// with a barrier.
#[cube]
pub fn add_weighted(
    sums: &mut Array<f32>,
    weights: &[f32],
    b: &[f32],
    rows: &Rows,
    tile: &mut [f32],
    #[comptime] head_dim: usize,
) {
    #[unroll]
    for c in 0..comptime!(head_dim.div_ceil(TILE)) {
        sync_cube();
        load(tile, b, rows, c * TILE, head_dim);
        sync_cube();
        for k in 0..TILE {
            #[unroll]
            for i in 0..2usize {
                #[unroll]
                for j in 0..2usize {
                    sums[4 * c + 2 * i + j] += weights[row(i) * PITCH + k] * tile[k * PITCH + column(j)];
                }
            }
        }
    }
    sync_cube();
}

/// Writes what [`add_weighted`] summed to a head's rows.
#[cube]
pub fn store(sums: &Array<f32>, out: &mut [f32], rows: &Rows, #[comptime] head_dim: usize) {
    #[unroll]
    for c in 0..comptime!(head_dim.div_ceil(TILE)) {
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let to_row = rows.first + row(i);
                let to_column = c * TILE + column(j);
                if to_row < rows.end && to_column < head_dim {
                    out[to_row * rows.stride + rows.offset + to_column] = sums[4 * c + 2 * i + j];
                }
            }
        }
    }
}

/// Bends a score, `s -> c tanh(s / c)`.
#[cube]
pub fn soft_cap(score: f32, cap: f32) -> f32 {
    cap * (score / cap).tanh()
}

/// Whether a query sees a key, each counted from the first of its rows, where both exist.
#[cube]
pub fn sees(of_queries: &[u32], q_rows: &Rows, query: usize, k_rows: &Rows, key: usize) -> bool {
    let query = q_rows.first + query;
    let key = k_rows.first + key;
    let mut sees = false;
    if query < q_rows.end && key < k_rows.end {
        sees = key >= of_queries[2 * query] as usize && key < of_queries[2 * query + 1] as usize;
    }
    sees
}
