//! The older block types: 32 elements that share one scale, and one minimum in the `_1` types.

use super::runs::{Half, NONE, Run, every, word, words};

/// Elements per block.
pub(super) const SIZE: usize = 32;

pub(super) const Q4_0_BYTES: usize = 2 + 16; // d, nibbles
pub(super) const Q4_1_BYTES: usize = 2 + 2 + 16; // d, m, nibbles
pub(super) const Q5_0_BYTES: usize = 2 + 4 + 16; // d, fifth bits, nibbles
pub(super) const Q5_1_BYTES: usize = 2 + 2 + 4 + 16; // d, m, fifth bits, nibbles
pub(super) const Q8_0_BYTES: usize = 2 + 32; // d, signed bytes

#[inline(always)]
pub(super) fn q4_0<H: Half>(block: &[u8; Q4_0_BYTES], _: usize) -> Run<4> {
    let [d0, d1, nibbles @ ..] = block;
    // `q - 8` is `q` with its highest bit turned over, as a signed number of four bits.
    let signed = |codes: u64| codes | ((codes & every(8)) * (2 * 15));
    Run { codes: words(|at| signed(low_bits(nibbles, at) ^ every(8))), scale: H::widen([*d0, *d1]), offset: NONE }
}

#[inline(always)]
pub(super) fn q4_1<H: Half>(block: &[u8; Q4_1_BYTES], _: usize) -> Run<4> {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    Run { codes: words(|at| low_bits(nibbles, at)), scale: H::widen([*d0, *d1]), offset: H::widen([*m0, *m1]) }
}

#[inline(always)]
pub(super) fn q5_0<H: Half>(block: &[u8; Q5_0_BYTES], _: usize) -> Run<4> {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    // `q - 16` is `q` with its fifth bit turned over, as a signed number of five bits.
    let fifths = [h0, h1, h2, h3];
    Run {
        codes: words(|at| low_bits(nibbles, at) | SIGNS[usize::from(*fifths[at / 8])]),
        scale: H::widen([*d0, *d1]),
        offset: NONE,
    }
}

#[inline(always)]
pub(super) fn q5_1<H: Half>(block: &[u8; Q5_1_BYTES], _: usize) -> Run<4> {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let fifths = [h0, h1, h2, h3];
    Run {
        codes: words(|at| low_bits(nibbles, at) | FIFTH_BITS[usize::from(*fifths[at / 8])]),
        scale: H::widen([*d0, *d1]),
        offset: H::widen([*m0, *m1]),
    }
}

#[inline(always)]
pub(super) fn q8_0<H: Half>(block: &[u8; Q8_0_BYTES], _: usize) -> Run<4> {
    let [d0, d1, codes @ ..] = block;
    Run { codes: words(|at| word(codes, at)), scale: H::widen([*d0, *d1]), offset: NONE }
}

/// The word of elements `at..at + 8`: low nibbles are elements 0..16, high nibbles elements 16..32.
#[inline(always)]
fn low_bits(nibbles: &[u8; SIZE / 2], at: usize) -> u64 {
    word(nibbles, at % 16) >> (4 * (at / 16)) & every(15)
}

/// Words that have 16 in byte `i` where bit `i` of their number is set.
static FIFTH_BITS: [u64; 256] = spread(0, 16);

/// Words that have -16 in byte `i` where bit `i` of their number is not set: the codes are signed numbers of five bits.
static SIGNS: [u64; 256] = spread(0xff, 0xf0);

/// For every number, the word that has `byte` in byte `i` where bit `i` of the number, of which `flipped` are turned
/// over, is set.
const fn spread(flipped: u8, byte: u8) -> [u64; 256] {
    let mut words = [0; 256];
    let mut number = 0;
    while number < words.len() {
        let mut i = 0;
        while i < 8 {
            if ((number as u8 ^ flipped) >> i) & 1 == 1 {
                words[number] |= (byte as u64) << (8 * i);
            }
            i += 1;
        }
        number += 1;
    }
    words
}
