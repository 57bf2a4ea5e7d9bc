//! 4-bit NormalFloat: 16 values that are the quantiles of a normal distribution, and an absolute maximum per 64
//! weights.
//!
//! A matrix is cut into blocks row after row, whatever its width. Two codes share a byte, the first in the upper half.
//!
//! # Source
//! Dettmers et al. 2023 (QLoRA), section 3. Codes, maxima and values are those of bitsandbytes 0.50 bit for bit,
//! checked by the goldens of `scripts/make_quant_goldens.py`.

use super::absmax::{self, Absmax};
use super::simd;

/// Weights that share an absolute maximum.
pub const BLOCK: usize = 64;

/// The values that codes stand for, in units of the block's absolute maximum.
pub const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Where one code ends and the next begins: half-way between their values.
const BOUNDS: [f32; 15] = {
    let mut bounds = [0.0; 15];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = (VALUES[i] + VALUES[i + 1]) / 2.0;
        i += 1;
    }
    bounds
};

/// The two values that a byte stands for.
static PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [VALUES[byte >> 4], VALUES[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The smallest maximum that a block is divided by, as in bitsandbytes.
const LEAST: f32 = 1e-38;

/// Quantises `values`, which begin at a block's first weight, into two codes a byte and one maximum per block; `None`
/// if a value is not finite.
///
/// # Shapes
/// - `codes`: half of `values`, rounded up
/// - `maxima`: one per 64 `values`, rounded up
pub fn quantize(values: &[f32], codes: &mut [u8], maxima: &mut [f32]) -> Option<()> {
    simd::widest(
        #[inline(always)]
        || {
            let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK / 2)).zip(maxima);
            for ((values, codes), maximum) in blocks {
                *maximum = absmax::of(values)?;
                let mut nearest = [0u8; BLOCK];
                let factor = 1.0 / maximum.max(LEAST);
                match values.as_array::<BLOCK>() {
                    Some(values) => codes_of(values, |value| value * factor, &mut nearest),
                    None => {
                        // bitsandbytes divides a last, shorter block and keeps what it divides by.
                        *maximum = maximum.max(LEAST);
                        codes_of(values, |value| value / *maximum, &mut nearest);
                        if values.len() % 2 == 1 {
                            nearest[values.len()] = code(0.0);
                        }
                    }
                }
                for (byte, [first, second]) in codes.iter_mut().zip(nearest.as_chunks().0) {
                    *byte = (first << 4) | second;
                }
            }
            Some(())
        },
    )
}

#[inline(always)]
fn codes_of(values: &[f32], normalise: impl Fn(f32) -> f32, codes: &mut [u8; BLOCK]) {
    for (to, value) in codes.iter_mut().zip(values) {
        *to = code(normalise(*value));
    }
}

/// The code of the nearest value; between two, the lower.
#[inline(always)]
fn code(value: f32) -> u8 {
    let mut code = 0;
    for bound in BOUNDS {
        code += u8::from(bound < value);
    }
    code
}

/// Unpacks the weights from number `start` of a matrix on, all of which `codes` and `absmax` have.
pub(super) fn dequantize(codes: &[u8], absmax: &Absmax, start: usize, out: &mut [f32]) {
    simd::widest(
        #[inline(always)]
        || match absmax {
            Absmax::Plain(maxima) => unpack(codes, |block| maxima[block], start, out),
            Absmax::Double(maxima) => unpack(codes, |block| maxima.get(block), start, out),
        },
    );
}

#[inline(always)]
fn unpack(codes: &[u8], maximum: impl Fn(usize) -> f32, start: usize, out: &mut [f32]) {
    let one_by_one = |start: usize, out: &mut [f32]| {
        for (at, out) in (start..).zip(out) {
            *out = PAIRS[usize::from(codes[at / 2])][at % 2] * maximum(at / BLOCK);
        }
    };
    let before = (start.next_multiple_of(BLOCK) - start).min(out.len());
    let (first, rest) = out.split_at_mut(before);
    let (blocks, last) = rest.as_chunks_mut::<BLOCK>();
    one_by_one(start, first);
    let number = (start + before) / BLOCK;
    let whole = codes.as_chunks::<{ BLOCK / 2 }>().0.iter().skip(number);
    one_by_one(start + before + blocks.len() * BLOCK, last);
    for ((number, out), bytes) in (number..).zip(blocks).zip(whole) {
        let maximum = maximum(number);
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            let [first, second] = PAIRS[usize::from(*byte)];
            *pair = [first * maximum, second * maximum];
        }
    }
}

/// The sum of the products of the weights from number `start` on with `x`, in a fixed order.
pub(super) fn dot(codes: &[u8], absmax: &Absmax, start: usize, x: &[f32]) -> f32 {
    const RUN: usize = 8 * BLOCK;
    let mut unpacked = [0.0; RUN];
    let mut sum = 0.0;
    for (run, x) in x.chunks(RUN).enumerate() {
        let unpacked = &mut unpacked[..x.len()];
        dequantize(codes, absmax, start + run * RUN, unpacked);
        sum += simd::dot(unpacked, x);
    }
    sum
}
