//! The product of two packed tiles: what each form of it promises.

/// Numbers that are multiplied by the instruction of a pair: two of the dimension that is summed.
///
/// As they lie in memory: the first in the low half, the second in the high one.
pub type Pair = u32;

/// A way to multiply a tile of rows with a tile of columns.
///
/// # Numerics
/// The sum of each element starts at 0 and takes the pairs in their order, of each pair the second product first, and
/// each product by a fused multiply-add that rounds to nearest even: what `VDPBF16PS` does where no number is
/// subnormal, and no packed factors can make one. So all forms give the same bits; of what is not a number its payload
/// may differ.
pub trait Tile {
    /// Rows of a tile.
    const ROWS: usize;
    /// Columns of a tile.
    const COLUMNS: usize;
    /// Words that a pair of the rows is packed in: one as it is, or two that are its numbers as f32.
    const WORDS: usize;

    /// Whether this processor has the instructions.
    fn runs_here() -> bool;

    /// `sums = rows columns`, of so many pairs.
    ///
    /// # Shapes
    /// - `rows`: `[pairs, ROWS, WORDS]`
    /// - `columns`: `[pairs, COLUMNS]`
    /// - `sums`: `[ROWS, COLUMNS]`
    ///
    /// # Panics
    /// When a slice is shorter than that, or when the processor lacks the instructions.
    fn multiply(pairs: usize, rows: &[u32], columns: &[Pair], sums: &mut [f32]);
}

/// The numbers of a pair in f32.
#[inline(always)]
pub fn widened(pair: Pair) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}
