//! 4-bit NormalFloat, as [`crate::quant::nf4`] has it.

use super::bytes::byte;
use crate::quant::absmax::NESTED_BLOCK;
use crate::quant::nf4::BLOCK;
use cubecl::prelude::*;

/// Where the map of the maxima begins, after the values of the codes.
const MAP: usize = 16;
/// Where their offset is, after the map.
const OFFSET: usize = MAP + 256;

/// The codes from that of element `at` on, up to the end of its word: the byte with it is the lowest.
#[cube]
pub fn codes(words: &[u32], at: usize) -> u32 {
    words[at / 8] >> (8 * (at / 2 % 4) as u32)
}

/// The value of the code `i` behind that of element `at`, in units of its block's maximum. Runs of more than one begin with an even
/// element; the first of two codes is in the upper half of a byte.
#[cube]
pub fn value(codes: u32, floats: &[f32], at: usize, #[comptime] i: usize, #[comptime] run: usize) -> f32 {
    let mut shift = 4 - 4 * (at % 2) as u32;
    if run > 1 {
        shift = comptime!((8 * (i / 2) + 4 - 4 * (i % 2)) as u32).runtime();
    }
    floats[((codes >> shift) & 15) as usize]
}

/// The maximum of an element's block.
#[cube]
pub fn maximum(floats: &[f32], at: usize) -> f32 {
    floats[MAP + at / BLOCK]
}

/// The same where it is itself quantised.
#[cube]
pub fn double_maximum(maxima: &[u32], floats: &[f32], zero: u32, at: usize) -> f32 {
    let block = at / BLOCK;
    let nearest = floats[MAP + byte(maxima, block) as usize];
    let product = nearest * floats[OFFSET + 1 + block / NESTED_BLOCK];
    // Rounded before the sum: no compiler knows that `zero` is 0.
    let product = f32::reinterpret(u32::reinterpret(product) | zero);
    product + floats[OFFSET]
}
