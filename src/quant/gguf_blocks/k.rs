//! The K types: 256 elements in sub-blocks of 16 or 32, whose scales are themselves quantised.

use super::runs::{Format, Scales};
use super::vector::{UNIT, Vector};
use std::array::from_fn;

/// Elements per block.
pub(super) const SIZE: usize = 256;

pub(super) const Q2_BYTES: usize = 16 + 64 + 2 + 2; // scales and minima, crumbs, d, dmin
pub(super) const Q3_BYTES: usize = 32 + 64 + 12 + 2; // third bits, crumbs, scales, d
pub(super) const Q4_BYTES: usize = 2 + 2 + 12 + 128; // d, dmin, scales and minima, nibbles
pub(super) const Q5_BYTES: usize = 2 + 2 + 12 + 32 + 128; // d, dmin, scales and minima, fifth bits, nibbles
pub(super) const Q6_BYTES: usize = 128 + 64 + 16 + 2; // nibbles, crumbs, scales, d

pub(super) struct Q2;
pub(super) struct Q3;
pub(super) struct Q4;
pub(super) struct Q5;
pub(super) struct Q6;

impl Format<Q2_BYTES, 16> for Q2 {
    const HAS_OFFSETS: bool = true;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; Q2_BYTES]) -> Scales<16> {
        let [d0, d1, m0, m1] = *part(block, 80);
        let (d, dmin, packed) = (V::half([d0, d1]), V::half([m0, m1]), part::<16>(block, 0));
        Scales { scales: packed.map(|s| d * f32::from(s & 15)), offsets: packed.map(|s| -(dmin * f32::from(s >> 4))) }
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; Q2_BYTES], unit: usize) -> V::Bytes {
        crumbs::<V>(part(block, 16), unit)
    }
}

impl Format<Q3_BYTES, 16> for Q3 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; Q3_BYTES]) -> Scales<16> {
        let (d, packed) = (V::half(*part(block, 108)), part::<12>(block, 96));
        // 6-bit scales: low nibbles of bytes 0..8, then their high nibbles; the upper two bits are in bytes 8..12.
        let of = |run: usize| {
            let low = packed[run % 8] >> (4 * (run / 8)) & 15;
            let high = packed[8 + run % 4] >> (2 * (run / 4)) & 3;
            low | high << 4
        };
        Scales::alone(from_fn::<_, 16, _>(of).map(|scale| d * (f32::from(scale) - 32.0)))
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; Q3_BYTES], unit: usize) -> V::Bytes {
        // A set third bit means 4, and 4 is subtracted from all.
        let third = V::up(V::field(V::load(part(block, 0)), unit, 1), 2);
        V::minus(V::or(crumbs::<V>(part(block, 32), unit), third), 4)
    }
}

impl Format<Q4_BYTES, 8> for Q4 {
    const HAS_OFFSETS: bool = true;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; Q4_BYTES]) -> Scales<8> {
        scales_and_minima::<V>(part(block, 0))
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; Q4_BYTES], unit: usize) -> V::Bytes {
        V::field(V::load(part(block, 16 + 32 * (unit / 2))), 4 * (unit % 2), 15)
    }
}

impl Format<Q5_BYTES, 8> for Q5 {
    const HAS_OFFSETS: bool = true;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; Q5_BYTES]) -> Scales<8> {
        scales_and_minima::<V>(part(block, 0))
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; Q5_BYTES], unit: usize) -> V::Bytes {
        let nibbles = V::field(V::load(part(block, 48 + 32 * (unit / 2))), 4 * (unit % 2), 15);
        V::or(nibbles, V::up(V::field(V::load(part(block, 16)), unit, 1), 4))
    }
}

impl Format<Q6_BYTES, 16> for Q6 {
    const HAS_OFFSETS: bool = false;

    #[inline(always)]
    fn scales<V: Vector>(block: &[u8; Q6_BYTES]) -> Scales<16> {
        let d = V::half(*part(block, 208));
        Scales::alone(part::<16>(block, 192).map(|scale| d * f32::from(scale.cast_signed())))
    }

    #[inline(always)]
    fn codes<V: Vector>(block: &[u8; Q6_BYTES], unit: usize) -> V::Bytes {
        // Elements 0..64 of a half of the block lie in the low and 64..128 in the high nibbles of its 64 bytes; their upper
        // two bits are four units in its 32 bytes, the first in the lowest bits.
        let (half, in_half) = (unit / 4, unit % 4);
        let low = V::field(V::load(part(block, 64 * half + 32 * (in_half % 2))), 4 * (in_half / 2), 15);
        let high = V::field(V::load(part(block, 128 + 32 * half)), 2 * in_half, 3);
        V::minus(V::or(low, V::up(high, 4)), 32)
    }
}

/// Bytes of a block from `at` on; where a block is no longer, there are zeros.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; N])
}

/// The 2-bit parts of a unit: for each half of the block, 32 bytes hold four units, the first in the lowest bits.
#[inline(always)]
fn crumbs<V: Vector>(packed: &[u8; 2 * UNIT], unit: usize) -> V::Bytes {
    V::field(V::load(part(packed, 32 * (unit / 4))), 2 * (unit % 4), 3)
}

/// What a block of [`Q4`] and [`Q5`] begins with: `d`, `dmin`, and 6-bit scales and minima. Those of the first four runs are
/// the low bits of bytes 0..4 and 4..8; those of the last four take their low nibble from bytes 8..12 and their upper two
/// bits from bytes 0..4 and 4..8.
#[inline(always)]
fn scales_and_minima<V: Vector>(head: &[u8; 16]) -> Scales<8> {
    let [d0, d1, m0, m1, ..] = *head;
    let (d, dmin) = (V::half([d0, d1]), V::half([m0, m1]));
    let [a, b, c] = [4, 8, 12].map(|at| u32::from_le_bytes(*part(head, at)));
    let every = |byte: u8| u32::from_le_bytes([byte; 4]);
    let upper = |bits: u32| bits >> 2 & every(48);
    let eight = |first: u32, last: u32| (u64::from(first) | u64::from(last) << 32).to_le_bytes();
    let scales = eight(a & every(63), c & every(15) | upper(a));
    let minima = eight(b & every(63), c >> 4 & every(15) | upper(b));
    Scales { scales: scales.map(|s| d * f32::from(s)), offsets: minima.map(|m| -(dmin * f32::from(m))) }
}
