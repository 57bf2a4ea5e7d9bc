//! The product of two tiles by the instruction for pairs of bf16 numbers.

use super::tile::{Pair, Tile};

/// `VDPBF16PS` on sixteen columns at once. Of the 32 registers 24 hold sums, enough to hide the instruction's latency;
/// a pair of the rows is read from memory for all columns of a register by the instruction itself.
pub struct Avx512;

/// Columns of a register.
const LANES: usize = 16;

impl Tile for Avx512 {
    const ROWS: usize = 12;
    const COLUMNS: usize = 2 * LANES;
    const WORDS: usize = 1;

    #[cfg(target_arch = "x86_64")]
    fn runs_here() -> bool {
        is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f")
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs_here() -> bool {
        false
    }

    #[cfg(target_arch = "x86_64")]
    fn multiply(pairs: usize, rows: &[u32], columns: &[Pair], sums: &mut [f32]) {
        assert!(Self::runs_here(), "this processor has no AVX-512 BF16");
        let (rows, columns) = (&rows[..pairs * Self::ROWS], &columns[..pairs * Self::COLUMNS]);
        let sums = &mut sums[..Self::ROWS * Self::COLUMNS];
        // SAFETY: the processor has the instructions, and the slices are as long as they must be.
        unsafe { x86::multiply(rows, columns, sums) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn multiply(_: usize, _: &[u32], _: &[Pair], _: &mut [f32]) {
        unreachable!("this processor has no AVX-512 BF16")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
