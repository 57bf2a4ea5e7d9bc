//! Types of 256 elements whose sub-blocks have a scale and a minimum each: `d * scale * code - dmin * minimum`.

use super::codes::{Codes, TRIES, Whole, below, inverse, least, outward, within};
use super::pack::{bit, crumbs, joined, k_nibbles, scales_and_minima};
use super::search::{Line, line};
use half::f16;

/// A block before it is packed.
struct Block<const SUBS: usize> {
    d: f16,
    dmin: f16,
    scales: [f32; SUBS],
    minima: [f32; SUBS],
    error: f32,
}

/// Scales and minima to try on a side of a square.
const SIDE: usize = 4;

/// Chooses scales and minima from 0 to `most` for `SUBS` sub-blocks of `N` elements, and their scales.
#[inline(always)]
fn block<C: Codes, const N: usize, const SUBS: usize>(
    x: &[f32; 256],
    weights: &[f32; 256],
    most: f32,
    cuts: &[(f32, f32)],
) -> Block<SUBS> {
    let (x, weights) = (x.as_chunks::<N>().0, weights.as_chunks::<N>().0);
    let mut lines = [Line { scale: 0.0, offset: 0.0 }; SUBS];
    let (mut scale, mut minimum) = (0f32, 0f32);
    for (sub, found) in lines.iter_mut().enumerate() {
        *found = line::<C, N>(&x[sub], &weights[sub], true);
        scale = if found.scale > scale { found.scale } else { scale };
        minimum = if -found.offset > minimum { -found.offset } else { minimum };
    }
    let zero = f16::ZERO;
    let mut best = Block { d: zero, dmin: zero, scales: [0.0; SUBS], minima: [0.0; SUBS], error: f32::INFINITY };
    for (cut, minimum_cut) in cuts {
        let d = outward(scale / (most * cut));
        let dmin = outward(minimum / (most * minimum_cut));
        let first = choose::<C, N, SUBS>(x, weights, &lines, (d, dmin), most);
        let again = refit::<C, N, SUBS>(x, weights, &first);
        best = if first.error < best.error { first } else { best };
        let second = choose::<C, N, SUBS>(x, weights, &lines, again, most);
        best = if second.error < best.error { second } else { best };
    }
    best
}

/// The whole scales and minima that leave the least error, given theirs.
#[inline(always)]
fn choose<C: Codes, const N: usize, const SUBS: usize>(
    x: &[[f32; N]],
    weights: &[[f32; N]],
    lines: &[Line; SUBS],
    (d, dmin): (f16, f16),
    most: f32,
) -> Block<SUBS> {
    let mut block = Block { d, dmin, scales: [0.0; SUBS], minima: [0.0; SUBS], error: 0.0 };
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let (per_d, per_dmin) = (inverse(d), inverse(dmin));
    for sub in 0..SUBS {
        let scale = (lines[sub].scale * per_d).floor() - 1.0;
        let minimum = (-lines[sub].offset * per_dmin).floor() - 1.0;
        let tried: [(f32, f32); TRIES] = std::array::from_fn(|lane| {
            let near = |from: f32, step: usize| within(from + step as f32, 0.0, most);
            (near(scale, lane / SIDE), near(minimum, lane % SIDE))
        });
        let (scales, minima) = (tried.map(|of| d * of.0), tried.map(|of| dmin * of.1));
        let inverses = scales.map(inverse);
        let mut errors = [0f32; TRIES];
        for i in 0..N {
            below!(lane, TRIES, {
                let above = x[sub][i] + minima[lane];
                let off = above - scales[lane] * C::nearest(above * inverses[lane]);
                errors[lane] += weights[sub][i] * (off * off);
            });
        }
        let best = least(&errors);
        (block.scales[sub], block.minima[sub]) = tried[best];
        block.error += errors[best];
    }
    block
}

/// The scales of scales and minima that fit the codes of a block best.
#[inline(always)]
fn refit<C: Codes, const N: usize, const SUBS: usize>(
    x: &[[f32; N]],
    weights: &[[f32; N]],
    block: &Block<SUBS>,
) -> (f16, f16) {
    // x ~ d a - dmin b
    let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0f32, 0f32, 0f32, 0f32, 0f32);
    let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
    for sub in 0..SUBS {
        let (scale, b) = (block.scales[sub], block.minima[sub]);
        let inverse = inverse(d * scale);
        for i in 0..N {
            let (x, w) = (x[sub][i], weights[sub][i]);
            let a = scale * C::nearest((x + dmin * b) * inverse);
            aa += w * a * a;
            ab += w * a * b;
            bb += w * b * b;
            xa += w * x * a;
            xb += w * x * b;
        }
    }
    let determinant = inverse(aa * bb - ab * ab);
    let (d, dmin) = ((xa * bb - xb * ab) * determinant, (xa * ab - xb * aa) * determinant);
    if d > 0.0 && dmin >= 0.0 { (f16::from_f32(d), f16::from_f32(dmin)) } else { (block.d, block.dmin) }
}

/// The codes of a block.
#[inline(always)]
fn codes<C: Codes, const N: usize, const SUBS: usize>(x: &[f32; 256], block: &Block<SUBS>) -> [u8; 256] {
    let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
    let inverses = block.scales.map(|scale| inverse(d * scale));
    let minima = block.minima.map(|minimum| dmin * minimum);
    std::array::from_fn(|i| C::code(C::nearest((x[i] + minima[i / N]) * inverses[i / N])))
}

#[inline(always)]
pub(super) fn q2(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 84] {
    type C = Whole<0, 3>;
    let block = block::<C, 16, 16>(x, weights, 15.0, &[(1.0, 1.0), (0.9, 0.9), (0.8, 0.8)]);
    let codes = codes::<C, 16, 16>(x, &block);
    let scales: [u8; 16] = std::array::from_fn(|sub| block.scales[sub] as u8 | (block.minima[sub] as u8) << 4);
    joined(&[&scales, &crumbs(&codes, 0), &block.d.to_le_bytes(), &block.dmin.to_le_bytes()])
}

/// The scales of a block and their own.
#[inline(always)]
fn head(block: &Block<8>) -> [u8; 16] {
    let scales = scales_and_minima(&block.scales.map(|of| of as u8), &block.minima.map(|of| of as u8));
    joined(&[&block.d.to_le_bytes(), &block.dmin.to_le_bytes(), &scales])
}

#[inline(always)]
pub(super) fn q4(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 144] {
    type C = Whole<0, 15>;
    let block = block::<C, 32, 8>(x, weights, 63.0, &[(1.0, 1.0)]);
    joined(&[&head(&block), &k_nibbles(&codes::<C, 32, 8>(x, &block))])
}

#[inline(always)]
pub(super) fn q5(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 176] {
    type C = Whole<0, 31>;
    let block = block::<C, 32, 8>(x, weights, 63.0, &[(1.0, 1.0)]);
    let codes = codes::<C, 32, 8>(x, &block);
    joined(&[&head(&block), &bit(&codes, 4), &k_nibbles(&codes)])
}
