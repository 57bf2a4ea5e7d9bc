//! The product of two tiles in plain code, which says what the other forms compute.

use super::tile::{Pair, Tile, widened};
use crate::quant::simd::vectorised;

/// A loop for every processor: fast where it has fused multiply-adds, and right everywhere.
pub struct Plain;

const ROWS: usize = 4;
const COLUMNS: usize = 16;

impl Tile for Plain {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const WORDS: usize = 1;

    fn runs_here() -> bool {
        true
    }

    fn multiply(pairs: usize, rows: &[u32], columns: &[Pair], sums: &mut [f32]) {
        multiply(pairs, rows, columns, sums);
    }
}

vectorised! {
    fn multiply(pairs: usize, rows: &[u32], columns: &[Pair], sums: &mut [f32]) {
        let mut registers = [[0f32; COLUMNS]; ROWS];
        let (rows, columns) = (rows[..pairs * ROWS].as_chunks::<ROWS>().0, columns.as_chunks::<COLUMNS>().0);
        for (rows, columns) in rows.iter().zip(&columns[..pairs]) {
            for (row, sums) in rows.iter().zip(&mut registers) {
                let row = widened(*row);
                for (column, sum) in columns.iter().zip(sums) {
                    let column = widened(*column);
                    *sum = row[0].mul_add(column[0], row[1].mul_add(column[1], *sum));
                }
            }
        }
        sums[..ROWS * COLUMNS].copy_from_slice(registers.as_flattened());
    }
}
