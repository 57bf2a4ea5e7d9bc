//! The product of two tiles by fused multiply-adds of eight numbers, for processors that have no instruction for pairs.

use super::tile::{Pair, Tile};

/// Twelve of the 16 registers hold sums, two hold columns that are widened where they are read, and one a number of
/// the rows, which are packed as f32.
pub struct Avx2;

/// Columns of a register.
const LANES: usize = 8;

impl Tile for Avx2 {
    const ROWS: usize = 6;
    const COLUMNS: usize = 2 * LANES;
    const WORDS: usize = 2;

    #[cfg(target_arch = "x86_64")]
    fn runs_here() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs_here() -> bool {
        false
    }

    #[cfg(target_arch = "x86_64")]
    fn multiply(pairs: usize, rows: &[u32], columns: &[Pair], sums: &mut [f32]) {
        assert!(Self::runs_here(), "this processor has no AVX2");
        let rows = &rows[..pairs * Self::ROWS * Self::WORDS];
        let (columns, sums) = (&columns[..pairs * Self::COLUMNS], &mut sums[..Self::ROWS * Self::COLUMNS]);
        // SAFETY: the processor has the instructions, and the slices are as long as they must be.
        unsafe { x86::multiply(rows, columns, sums) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn multiply(_: usize, _: &[u32], _: &[Pair], _: &mut [f32]) {
        unreachable!("this processor has no AVX2")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
