//! Types of 256 elements whose sub-blocks have a signed scale each: `d * scale * code`.

use super::codes::{Chosen, Codes, Lanes, TRIES, Whole, below, inverse, least, outward, within};
use super::pack::{bit, crumbs, joined, nibbles, six_bit_scales};
use super::search::both_signs;
use half::f16;

/// A block before it is packed.
struct Block<const SUBS: usize> {
    d: f16,
    scales: [f32; SUBS],
    error: f32,
}

/// Chooses scales from `LOW` to `-LOW - 1` for `SUBS` sub-blocks of `N` elements, and a scale for all.
#[inline(always)]
fn block<C: Codes, const N: usize, const SUBS: usize>(
    x: &[f32; 256],
    weights: &[f32; 256],
    low: f32,
    step: f32,
    cuts: &[f32],
) -> Block<SUBS> {
    let (x, weights) = (x.as_chunks::<N>().0, weights.as_chunks::<N>().0);
    let mut fits = [[0f32; 2]; SUBS];
    let mut most = 0f32;
    for (sub, fits) in fits.iter_mut().enumerate() {
        let [one, other] = both_signs::<C, N>(&x[sub], &weights[sub], step);
        *fits = [one.scale, other.scale];
        let better = if other.error < one.error { other.scale } else { one.scale };
        most = if better.abs() > most.abs() { better } else { most };
    }
    let mut best = Block { d: f16::ZERO, scales: [0.0; SUBS], error: f32::INFINITY };
    for cut in cuts {
        let first = choose::<C, N, SUBS>(x, weights, &fits, outward(most / (low * cut)), low);
        let again = f16::from_f32(refit::<C, N, SUBS>(x, weights, &first));
        best = if first.error < best.error { first } else { best };
        let second = choose::<C, N, SUBS>(x, weights, &fits, again, low);
        best = if second.error < best.error { second } else { best };
    }
    best
}

/// The whole scales that leave the least error, given `d`.
#[inline(always)]
fn choose<C: Codes, const N: usize, const SUBS: usize>(
    x: &[[f32; N]],
    weights: &[[f32; N]],
    fits: &[[f32; 2]; SUBS],
    d: f16,
    low: f32,
) -> Block<SUBS> {
    let mut block = Block { d, scales: [0.0; SUBS], error: 0.0 };
    let (d, per_d) = (d.to_f32(), inverse(d.to_f32()));
    const HALF: usize = TRIES / 2;
    for sub in 0..SUBS {
        let around = fits[sub].map(|fit| (fit * per_d).floor() - 3.0);
        let tried: Lanes =
            std::array::from_fn(|lane| within(around[lane / HALF] + (lane % HALF) as f32, low, -low - 1.0));
        let scales = tried.map(|scale| d * scale);
        let inverses = scales.map(inverse);
        let mut errors = [0f32; TRIES];
        for i in 0..N {
            below!(lane, TRIES, {
                let off = x[sub][i] - scales[lane] * C::nearest(x[sub][i] * inverses[lane]);
                errors[lane] += weights[sub][i] * (off * off);
            });
        }
        let best = least(&errors);
        block.scales[sub] = tried[best];
        block.error += errors[best];
    }
    block
}

/// The `d` that fits the codes of a block best.
#[inline(always)]
fn refit<C: Codes, const N: usize, const SUBS: usize>(
    x: &[[f32; N]],
    weights: &[[f32; N]],
    block: &Block<SUBS>,
) -> f32 {
    let (mut products, mut squares) = (0f32, 0f32);
    for sub in 0..SUBS {
        let inverse = inverse(block.d.to_f32() * block.scales[sub]);
        for i in 0..N {
            let value = block.scales[sub] * C::nearest(x[sub][i] * inverse);
            products += weights[sub][i] * value * x[sub][i];
            squares += weights[sub][i] * value * value;
        }
    }
    products * inverse(squares)
}

/// The codes of a block.
#[inline(always)]
fn codes<C: Codes, const N: usize, const SUBS: usize>(x: &[f32; 256], block: &Block<SUBS>) -> [u8; 256] {
    let d = block.d.to_f32();
    let inverses = block.scales.map(|scale| inverse(d * scale));
    std::array::from_fn(|i| C::code(C::nearest(x[i] * inverses[i / N])))
}

#[inline(always)]
pub(super) fn q3(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 110] {
    type C = Whole<-4, 3>;
    let block = block::<C, 16, 16>(x, weights, -32.0, 0.25, &[1.0, 0.93]);
    let codes = codes::<C, 16, 16>(x, &block);
    let scales = six_bit_scales(&block.scales.map(|scale| (scale + 32.0) as u8));
    joined(&[&bit(&codes, 2), &crumbs(&codes, 0), &scales, &block.d.to_le_bytes()])
}

#[inline(always)]
pub(super) fn q6(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 210] {
    type C = Whole<-32, 31>;
    let block = block::<C, 16, 16>(x, weights, -128.0, 0.3, &[1.0]);
    let codes = codes::<C, 16, 16>(x, &block);
    let scales = block.scales.map(|scale| (scale as i8).cast_unsigned());
    // Two runs of 64 to 64 bytes: the first in the low nibbles.
    let low: [u8; 128] = std::array::from_fn(|i| {
        let first = 128 * (i / 64) + i % 64;
        (codes[first] & 15) | (codes[first + 64] << 4)
    });
    joined(&[&low, &crumbs(&codes, 4), &scales, &block.d.to_le_bytes()])
}

#[inline(always)]
pub(super) fn iq4_xs(x: &[f32; 256], weights: &[f32; 256]) -> [u8; 136] {
    let block = block::<Chosen, 32, 8>(x, weights, -32.0, 5.0, &[1.0]);
    let codes = codes::<Chosen, 32, 8>(x, &block);
    let scales = block.scales.map(|scale| (scale + 32.0) as u8);
    let high = scales.iter().enumerate().fold(0u16, |high, (sub, scale)| high | u16::from(scale >> 4) << (2 * sub));
    let low: [u8; 4] = std::array::from_fn(|i| (scales[2 * i] & 15) | (scales[2 * i + 1] << 4));
    let mut packed = [0; 128];
    for (to, codes) in packed.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<32>().0) {
        *to = nibbles(codes);
    }
    joined(&[&block.d.to_le_bytes(), &high.to_le_bytes(), &low, &packed])
}
