//! 4-bit NormalFloat, as [`crate::quant::nf4`] has it.

use super::bytes::byte;
use crate::quant::absmax::NESTED_BLOCK;
use crate::quant::nf4::BLOCK;
use cubecl::prelude::*;

/// Where the map of the maxima begins, after the values of the codes.
const MAP: usize = 16;
/// Where their offset is, after the map.
const OFFSET: usize = MAP + 256;

/// The value of a code, in units of its block's maximum. The first of two codes is in the upper half of a byte.
#[cube]
fn value(words: &[u32], floats: &[f32], at: usize) -> f32 {
    let code = (byte(words, at / 2) >> (4 - 4 * (at % 2) as u32)) & 15;
    floats[code as usize]
}

/// A weight whose block's maximum is plain.
#[cube]
pub fn plain(words: &[u32], floats: &[f32], at: usize) -> f32 {
    value(words, floats, at) * floats[MAP + at / BLOCK]
}

/// A weight whose block's maximum is itself quantised.
#[cube]
pub fn double(words: &[u32], maxima: &[u32], floats: &[f32], zero: u32, at: usize) -> f32 {
    let block = at / BLOCK;
    let nearest = floats[MAP + byte(maxima, block) as usize];
    let product = nearest * floats[OFFSET + 1 + block / NESTED_BLOCK];
    // Rounded before the sum: no compiler knows that `zero` is 0.
    let product = f32::reinterpret(u32::reinterpret(product) | zero);
    value(words, floats, at) * (product + floats[OFFSET])
}
