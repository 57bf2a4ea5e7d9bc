//! The non-linear types: four bits choose one of sixteen values, which lie closer together near zero.

use super::runs::{Half, NONE, Run, every, word, words};

/// Elements that share a scale.
pub(super) const SIZE: usize = 32;
/// Elements per block of the type that quantises its scales.
pub(super) const SUPER_SIZE: usize = 256;

pub(super) const NL_BYTES: usize = 2 + 16; // d, nibbles
pub(super) const XS_BYTES: usize = 2 + 2 + 4 + 128; // d, upper bits of scales, their nibbles, nibbles

/// What the four bits mean.
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

#[inline(always)]
pub(super) fn nl<H: Half>(block: &[u8; NL_BYTES], _: usize) -> Run<4> {
    let [d0, d1, nibbles @ ..] = block;
    Run { codes: words(|at| values::<H>(nibbles, at)), scale: H::widen([*d0, *d1]), offset: NONE }
}

#[inline(always)]
pub(super) fn xs<H: Half>(block: &[u8; XS_BYTES], sub: usize) -> Run<4> {
    let [d0, d1, h0, h1, rest @ ..] = block;
    let (low, nibbles) = rest.split_at(4);
    let low = (low[sub / 2] >> (4 * (sub % 2))) & 15;
    let high = (u16::from_le_bytes([*h0, *h1]) >> (2 * sub)) & 3;
    let scale = H::widen([*d0, *d1]) * (f32::from(u16::from(low) | (high << 4)) - 32.0);
    Run { codes: words(|at| values::<H>(&nibbles[16 * sub..], at)), scale, offset: NONE }
}

/// The word of values `at..at + 8`: low nibbles are elements 0..16, high nibbles elements 16..32.
#[inline(always)]
fn values<H: Half>(nibbles: &[u8], at: usize) -> u64 {
    H::chosen(word(nibbles, at % 16) >> (4 * (at / 16)) & every(15), &VALUES)
}
