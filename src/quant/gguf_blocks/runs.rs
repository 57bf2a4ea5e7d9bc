//! What all block types have in common: runs of small integers, each run with a scale and an offset.

use super::vector::{UNIT, Vector};

/// A block type: blocks of `BYTES` bytes that hold `RUNS` runs. A run is 32 codes where a block has up to eight, else 16.
pub(super) trait Format<const BYTES: usize, const RUNS: usize> {
    /// Whether a run has an offset beside its scale.
    const HAS_OFFSETS: bool;

    /// The scale and the offset of each run of a block.
    fn scales<V: Vector>(block: &[u8; BYTES]) -> Scales<RUNS>;

    /// The codes of the unit of this number, signed bytes.
    fn codes<V: Vector>(block: &[u8; BYTES], unit: usize) -> V::Bytes;
}

/// An element is `scale * code + offset`.
#[derive(Clone, Copy)]
pub(super) struct Scales<const RUNS: usize> {
    pub scales: [f32; RUNS],
    /// Zeros of a type that has none.
    pub offsets: [f32; RUNS],
}

impl<const RUNS: usize> Scales<RUNS> {
    /// Of a type without offsets.
    #[inline(always)]
    pub fn alone(scales: [f32; RUNS]) -> Self {
        Scales { scales, offsets: [0.0; RUNS] }
    }
}

/// Units in a block of so many runs.
pub(super) const fn units(runs: usize) -> usize {
    if runs > 8 { runs / 2 } else { runs }
}

/// Signed bytes that are what they say.
pub(super) struct SignedBytes;

impl Format<UNIT, 1> for SignedBytes {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>(_: &[u8; UNIT]) -> Scales<1> {
        Scales::alone([1.0])
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; UNIT], _: usize) -> V::Bytes {
        V::load(block)
    }
}
