//! The non-linear types: four bits choose one of sixteen values, which lie closer together near zero.

use super::runs::{Format, Scales};
use super::vector::{UNIT, Vector};
use std::array::from_fn;

/// Elements that share a scale.
pub(super) const SIZE: usize = UNIT;
/// Elements per block of the type that quantises its scales.
pub(super) const SUPER_SIZE: usize = 256;

pub(super) const NL_BYTES: usize = 2 + 16; // d, nibbles
pub(super) const XS_BYTES: usize = 2 + 2 + 4 + 128; // d, upper bits of scales, their nibbles, nibbles

/// What the four bits mean.
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) struct NonLinear;
pub(super) struct NonLinearOf256;

impl Format<NL_BYTES, 1> for NonLinear {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>([d0, d1, ..]: &[u8; NL_BYTES]) -> Scales<1> {
        Scales::alone([V::half([*d0, *d1])])
    }

    #[inline(always)]
    fn codes<V: Vector>([_, _, nibbles @ ..]: &[u8; NL_BYTES], _: usize) -> V::Bytes {
        V::chosen(V::nibbles(nibbles), &VALUES)
    }
}

impl Format<XS_BYTES, 8> for NonLinearOf256 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; XS_BYTES]) -> Scales<8> {
        let [d0, d1, h0, h1, low @ ..] = block;
        let (d, high) = (V::half([*d0, *d1]), u16::from_le_bytes([*h0, *h1]));
        let of = |run: usize| u16::from(low[run / 2] >> (4 * (run % 2)) & 15) | (high >> (2 * run) & 3) << 4;
        Scales::alone(from_fn::<_, 8, _>(of).map(|scale| d * (f32::from(scale) - 32.0)))
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; XS_BYTES], unit: usize) -> V::Bytes {
        let nibbles = block[8 + 16 * unit..].first_chunk().unwrap_or(&[0; SIZE / 2]);
        V::chosen(V::nibbles(nibbles), &VALUES)
    }
}
