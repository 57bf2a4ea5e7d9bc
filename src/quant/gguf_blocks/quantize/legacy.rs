//! Types of 32 elements that share a scale, and an offset in the `_1` types.

use super::LARGEST_IN_BLOCKS;
use super::codes::{Chosen, Codes, Whole, inverse, within};
use super::pack::{fifths, joined, nibbles};
use super::search::{Line, alone, line};
use half::f16;

/// The codes of a run, and its scale as a reader will see it.
#[inline(always)]
fn scaled<C: Codes>(x: &[f32; 32], weights: &[f32; 32], step: f32, passes: &[f32]) -> ([u8; 2], [f32; 32]) {
    let scale = f16::from_f32(alone::<C, 32>(x, weights, step, passes));
    let inverse = inverse(scale.to_f32());
    (scale.to_le_bytes(), x.map(|x| C::nearest(x * inverse)))
}

#[inline(always)]
pub(super) fn q4_0(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 18] {
    type C = Whole<-8, 7>;
    let (scale, codes) = scaled::<C>(x, weights, 0.3, &[0.1, 0.03]);
    joined(&[&scale, &nibbles(&codes.map(C::code))])
}

#[inline(always)]
pub(super) fn q5_0(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 22] {
    type C = Whole<-16, 15>;
    let (scale, codes) = scaled::<C>(x, weights, 0.4, &[0.1]);
    let codes = codes.map(C::code);
    joined(&[&scale, &fifths(&codes), &nibbles(&codes)])
}

#[inline(always)]
pub(super) fn q8_0(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 34] {
    let (scale, codes) = scaled::<Whole<-127, 127>>(x, weights, 0.4, &[]);
    joined(&[&scale, &codes.map(|code| (code as i8).cast_unsigned())])
}

#[inline(always)]
pub(super) fn iq4_nl(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 18] {
    let (scale, codes) = scaled::<Chosen>(x, weights, 5.0, &[1.5]);
    joined(&[&scale, &nibbles(&codes.map(Chosen::code))])
}

/// The codes of a run, its scale and its offset.
#[inline(always)]
fn lined<C: Codes>(x: &[f32; 32], weights: &[f32; 32]) -> ([u8; 2], [u8; 2], [u8; 32]) {
    let Line { scale, offset } = line::<C, 32>(x, weights, false);
    let offset = within(offset, -LARGEST_IN_BLOCKS, LARGEST_IN_BLOCKS);
    let (scale, offset) = (f16::from_f32(scale), f16::from_f32(offset));
    let inverse = inverse(scale.to_f32());
    let codes = x.map(|x| C::code(C::nearest((x - offset.to_f32()) * inverse)));
    (scale.to_le_bytes(), offset.to_le_bytes(), codes)
}

#[inline(always)]
pub(super) fn q4_1(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 20] {
    let (scale, offset, codes) = lined::<Whole<0, 15>>(x, weights);
    joined(&[&scale, &offset, &nibbles(&codes)])
}

#[inline(always)]
pub(super) fn q5_1(x: &[f32; 32], weights: &[f32; 32]) -> [u8; 24] {
    let (scale, offset, codes) = lined::<Whole<0, 31>>(x, weights);
    joined(&[&scale, &offset, &fifths(&codes), &nibbles(&codes)])
}
