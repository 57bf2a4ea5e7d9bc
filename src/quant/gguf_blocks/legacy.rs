//! The older block types: 32 elements that share one scale, and one minimum in the `_1` types.

use super::runs::{Format, Scales};
use super::vector::{UNIT, Vector};

/// Elements per block.
pub(super) const SIZE: usize = UNIT;

pub(super) const Q4_0_BYTES: usize = 2 + 16; // d, nibbles
pub(super) const Q4_1_BYTES: usize = 2 + 2 + 16; // d, m, nibbles
pub(super) const Q5_0_BYTES: usize = 2 + 4 + 16; // d, fifth bits, nibbles
pub(super) const Q5_1_BYTES: usize = 2 + 2 + 4 + 16; // d, m, fifth bits, nibbles
pub(super) const Q8_0_BYTES: usize = 2 + 32; // d, signed bytes

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

impl Format<Q4_0_BYTES, 1> for Q4_0 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, ..]: &[u8; Q4_0_BYTES]) -> Scales<1> {
        Scales::alone([V::half([*d0, *d1])])
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, nibbles @ ..]: &[u8; Q4_0_BYTES], _: usize) -> V::Bytes {
        V::minus(V::nibbles(nibbles), 8)
    }
}

impl Format<Q4_1_BYTES, 1> for Q4_1 {
    const HAS_OFFSETS: bool = true;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, m0, m1, ..]: &[u8; Q4_1_BYTES]) -> Scales<1> {
        Scales { scales: [V::half([*d0, *d1])], offsets: [V::half([*m0, *m1])] }
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, _, _, nibbles @ ..]: &[u8; Q4_1_BYTES], _: usize) -> V::Bytes {
        V::nibbles(nibbles)
    }
}

impl Format<Q5_0_BYTES, 1> for Q5_0 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, ..]: &[u8; Q5_0_BYTES]) -> Scales<1> {
        Scales::alone([V::half([*d0, *d1])])
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, h0, h1, h2, h3, nibbles @ ..]: &[u8; Q5_0_BYTES], _: usize) -> V::Bytes {
        V::minus(five_bits::<V>([*h0, *h1, *h2, *h3], nibbles), 16)
    }
}

impl Format<Q5_1_BYTES, 1> for Q5_1 {
    const HAS_OFFSETS: bool = true;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, m0, m1, ..]: &[u8; Q5_1_BYTES]) -> Scales<1> {
        Scales { scales: [V::half([*d0, *d1])], offsets: [V::half([*m0, *m1])] }
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, _, _, h0, h1, h2, h3, nibbles @ ..]: &[u8; Q5_1_BYTES], _: usize) -> V::Bytes {
        five_bits::<V>([*h0, *h1, *h2, *h3], nibbles)
    }
}

impl Format<Q8_0_BYTES, 1> for Q8_0 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, ..]: &[u8; Q8_0_BYTES]) -> Scales<1> {
        Scales::alone([V::half([*d0, *d1])])
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, codes @ ..]: &[u8; Q8_0_BYTES], _: usize) -> V::Bytes {
        V::load(codes)
    }
}

/// Nibbles, and a fifth bit for each.
#[inline(always)]
fn five_bits<V: Vector>(fifths: [u8; SIZE / 8], nibbles: &[u8; SIZE / 2]) -> V::Bytes {
    V::or(V::nibbles(nibbles), V::and(V::spread(fifths), 16))
}
