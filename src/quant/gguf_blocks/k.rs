//! The K types: 256 elements in sub-blocks of 16 or 32, whose scales are themselves quantised.

use super::runs::{Half, NONE, Run, every, word, words};

/// Elements per block.
pub(super) const SIZE: usize = 256;

pub(super) const Q2_BYTES: usize = 16 + 64 + 2 + 2; // scales and minima, crumbs, d, dmin
pub(super) const Q3_BYTES: usize = 32 + 64 + 12 + 2; // third bits, crumbs, scales, d
pub(super) const Q4_BYTES: usize = 2 + 2 + 12 + 128; // d, dmin, scales and minima, nibbles
pub(super) const Q5_BYTES: usize = 2 + 2 + 12 + 32 + 128; // d, dmin, scales and minima, fifth bits, nibbles
pub(super) const Q6_BYTES: usize = 128 + 64 + 16 + 2; // nibbles, crumbs, scales, d

#[inline(always)]
pub(super) fn q2<H: Half>(block: &[u8; Q2_BYTES], sub: usize) -> Run<2> {
    let (scales, rest) = block.split_at(16);
    let (crumbs, rest) = rest.split_at(64);
    let (d, dmin) = (H::widen([rest[0], rest[1]]), H::widen([rest[2], rest[3]]));
    let scale = d * f32::from(scales[sub] & 15);
    let offset = -(dmin * f32::from(scales[sub] >> 4));
    let at = CrumbPlace::of(sub);
    let codes = words(|i| word(crumbs, at.byte + i) >> at.shift & every(3));
    Run { codes, scale, offset }
}

#[inline(always)]
pub(super) fn q3<H: Half>(block: &[u8; Q3_BYTES], sub: usize) -> Run<2> {
    let (thirds, rest) = block.split_at(32);
    let (crumbs, rest) = rest.split_at(64);
    let (scales, rest) = rest.split_at(12);
    let d = H::widen([rest[0], rest[1]]);
    // 6-bit scales: low nibbles of bytes 0..8, then their high nibbles; the upper two bits are in bytes 8..12.
    let low = (scales[sub % 8] >> (4 * (sub / 8))) & 15;
    let high = (scales[8 + sub % 4] >> (2 * (sub / 4))) & 3;
    let scale = d * (f32::from(low | (high << 4)) - 32.0);
    let at = CrumbPlace::of(sub);
    let codes = words(|i| {
        let q = word(crumbs, at.byte + i) >> at.shift & every(3);
        // A set third bit means 4, and 4 is subtracted from all: a missing one is the sign.
        let missing = !word(thirds, (sub % 2) * 16 + i) >> (sub / 2) & every(1);
        q | (missing * 0xfc)
    });
    Run { codes, scale, offset: NONE }
}

#[inline(always)]
pub(super) fn q4<H: Half>(block: &[u8; Q4_BYTES], sub: usize) -> Run<4> {
    let (d, dmin) = (H::widen([block[0], block[1]]), H::widen([block[2], block[3]]));
    let (scales, nibbles) = block[4..].split_at(12);
    let (s, m) = scale_and_minimum(scales, sub);
    let (scale, offset) = (d * s, -(dmin * m));
    let (byte, shift) = (32 * (sub / 2), 4 * (sub % 2));
    let codes = words(|i| word(nibbles, byte + i) >> shift & every(15));
    Run { codes, scale, offset }
}

#[inline(always)]
pub(super) fn q5<H: Half>(block: &[u8; Q5_BYTES], sub: usize) -> Run<4> {
    let (d, dmin) = (H::widen([block[0], block[1]]), H::widen([block[2], block[3]]));
    let (scales, rest) = block[4..].split_at(12);
    let (fifths, nibbles) = rest.split_at(32);
    let (s, m) = scale_and_minimum(scales, sub);
    let (scale, offset) = (d * s, -(dmin * m));
    let (byte, shift) = (32 * (sub / 2), 4 * (sub % 2));
    let codes = words(|i| {
        let fifth = word(fifths, i) >> sub & every(1);
        word(nibbles, byte + i) >> shift & every(15) | fifth << 4
    });
    Run { codes, scale, offset }
}

#[inline(always)]
pub(super) fn q6<H: Half>(block: &[u8; Q6_BYTES], sub: usize) -> Run<2> {
    let (nibbles, rest) = block.split_at(128);
    let (crumbs, rest) = rest.split_at(64);
    let (scales, rest) = rest.split_at(16);
    let d = H::widen([rest[0], rest[1]]);
    let scale = d * f32::from(scales[sub].cast_signed());
    // Elements 0..64 of a half of the block lie in the low and 64..128 in the high nibbles of its 64 bytes; their upper
    // two bits are four runs of 32 in its 32 bytes, the first in the lowest bits.
    let (half, in_half) = (sub / 8, sub % 8);
    let (byte, shift) = (64 * half + 16 * (in_half % 4), 4 * (in_half / 4));
    let (crumb, crumb_shift) = (32 * half + 16 * (in_half % 2), 2 * (in_half / 2));
    let codes = words(|i| {
        let low = word(nibbles, byte + i) >> shift & every(15);
        let high = word(crumbs, crumb + i) >> crumb_shift & every(3);
        // `q - 32` is `q` with its sixth bit turned over, as a signed number of six bits.
        let missing = !high >> 1 & every(1);
        low | ((high & every(1)) << 4) | (missing * 0xe0)
    });
    Run { codes, scale, offset: NONE }
}

/// Where the 2-bit parts of a sub-block of 16 lie: per half of the block, 32 bytes hold four runs of 32 elements, the
/// first in the lowest bits.
struct CrumbPlace {
    byte: usize,
    shift: usize,
}

impl CrumbPlace {
    #[inline(always)]
    fn of(sub: usize) -> Self {
        let (half, in_half) = (sub / 8, sub % 8);
        CrumbPlace { byte: 32 * half + 16 * (in_half % 2), shift: 2 * (in_half / 2) }
    }
}

/// The 6-bit scale and minimum of a sub-block of 32. Those of the first four are the low bits of bytes 0..4 and 4..8;
/// those of the last four take their low nibble from bytes 8..12 and their upper two bits from bytes 0..4 and 4..8.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], sub: usize) -> (f32, f32) {
    let (scale, minimum) = if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let nibbles = packed[sub + 4];
        ((nibbles & 15) | ((packed[sub - 4] >> 2) & 48), (nibbles >> 4) | ((packed[sub] >> 2) & 48))
    };
    (f32::from(scale), f32::from(minimum))
}
