//! The block types of GGUF files, as [`crate::quant::gguf_blocks`] has them: one element at a time.

use super::bytes::{bf16, byte, f16, signed};
use crate::quant::QuantType;
use cubecl::prelude::*;

/// Element number `at` of a matrix.
#[cube]
pub fn element(words: &[u32], at: usize, #[comptime] of: QuantType) -> f32 {
    let start = at / comptime!(of.block_size()) * comptime!(of.block_bytes());
    let i = at % comptime!(of.block_size());
    match of {
        QuantType::F32 => f32::reinterpret(words[at]),
        QuantType::F16 => f16(words, start),
        QuantType::BF16 => bf16(words, start),
        QuantType::Q4_0 => f16(words, start) * (nibble(words, start + 2, i) - 8.0),
        QuantType::Q4_1 => f16(words, start) * nibble(words, start + 4, i) + f16(words, start + 2),
        QuantType::Q5_0 => f16(words, start) * (nibble(words, start + 6, i) + fifth(words, start + 2, i) - 16.0),
        QuantType::Q5_1 => {
            f16(words, start) * (nibble(words, start + 8, i) + fifth(words, start + 4, i)) + f16(words, start + 2)
        }
        QuantType::Q8_0 => f16(words, start) * signed(words, start + 2 + i),
        QuantType::Q2K => q2(words, start, i),
        QuantType::Q3K => q3(words, start, i),
        QuantType::Q4K => q4(words, start, i),
        QuantType::Q5K => q5(words, start, i),
        QuantType::Q6K => q6(words, start, i),
        QuantType::IQ4NL => f16(words, start) * chosen(words, start + 2, i),
        QuantType::IQ4XS => iq4_xs(words, start, i),
    }
}

/// Bits `shift..shift + count` of a byte.
#[cube]
fn bits(words: &[u32], at: usize, shift: usize, #[comptime] count: u32) -> u32 {
    (byte(words, at) >> shift as u32) & comptime!((1u32 << count) - 1)
}

/// Of the older types: low nibbles are elements 0..16, high nibbles elements 16..32.
#[cube]
fn nibble(words: &[u32], nibbles: usize, i: usize) -> f32 {
    f32::cast_from(bits(words, nibbles + i % 16, 4 * (i / 16), 4u32))
}

/// Of the older types: 16 where an element's fifth bit is set.
#[cube]
fn fifth(words: &[u32], fifths: usize, i: usize) -> f32 {
    16.0 * f32::cast_from(bits(words, fifths + i / 8, i % 8, 1u32))
}

/// Scales and minima (16 bytes), crumbs (64), d, dmin.
#[cube]
fn q2(words: &[u32], start: usize, i: usize) -> f32 {
    let sub = i / 16;
    let scale = f16(words, start + 80) * f32::cast_from(bits(words, start + sub, 0usize, 4u32));
    let minimum = f16(words, start + 82) * f32::cast_from(bits(words, start + sub, 4usize, 4u32));
    scale * f32::cast_from(crumb(words, start + 16, i)) - minimum
}

/// Third bits (32 bytes), crumbs (64), scales (12), d.
#[cube]
fn q3(words: &[u32], start: usize, i: usize) -> f32 {
    let sub = i / 16;
    // 6-bit scales: low nibbles of bytes 0..8, then their high nibbles; the upper two bits are in bytes 8..12.
    let low = bits(words, start + 96 + sub % 8, 4 * (sub / 8), 4u32);
    let high = bits(words, start + 104 + sub % 4, 2 * (sub / 4), 2u32);
    let scale = f16(words, start + 108) * (f32::cast_from(low | (high << 4)) - 32.0);
    let third = bits(words, start + i % 32, sub / 2, 1u32);
    // A set third bit means 4, and 4 is subtracted from all.
    scale * (f32::cast_from(crumb(words, start + 32, i) | (third << 2)) - 4.0)
}

/// d, dmin, scales and minima (12 bytes), nibbles (128).
#[cube]
fn q4(words: &[u32], start: usize, i: usize) -> f32 {
    let sub = i / 32;
    let q = bits(words, start + 16 + 32 * (sub / 2) + i % 32, 4 * (sub % 2), 4u32);
    scaled(words, start, sub, q)
}

/// d, dmin, scales and minima (12 bytes), fifth bits (32), nibbles (128).
#[cube]
fn q5(words: &[u32], start: usize, i: usize) -> f32 {
    let sub = i / 32;
    let q = bits(words, start + 48 + 32 * (sub / 2) + i % 32, 4 * (sub % 2), 4u32);
    let fifth = bits(words, start + 16 + i % 32, sub, 1u32);
    scaled(words, start, sub, q | (fifth << 4))
}

/// Nibbles (128 bytes), crumbs (64), scales (16), d.
#[cube]
fn q6(words: &[u32], start: usize, i: usize) -> f32 {
    let half = i / 128;
    let sub = i % 128 / 16;
    let scale = f16(words, start + 208) * signed(words, start + 192 + 8 * half + sub);
    // Elements 0..64 of the half lie in the low and 64..128 in the high nibbles of its 64 bytes; their upper two bits
    // are four runs of 32 in 32 bytes, the first in the lowest bits.
    let low = bits(words, start + 64 * half + i % 64, 4 * (sub / 4), 4u32);
    let high = bits(words, start + 128 + 32 * half + i % 32, 2 * (sub / 2), 2u32);
    scale * (f32::cast_from(low | (high << 4)) - 32.0)
}

/// d, upper bits of the scales (2 bytes), their nibbles (4), nibbles (128).
#[cube]
fn iq4_xs(words: &[u32], start: usize, i: usize) -> f32 {
    let sub = i / 32;
    let low = bits(words, start + 4 + sub / 2, 4 * (sub % 2), 4u32);
    let high = bits(words, start + 2 + sub / 4, 2 * (sub % 4), 2u32);
    let scale = f16(words, start) * (f32::cast_from(low | (high << 4)) - 32.0);
    scale * chosen(words, start + 8 + 16 * sub, i % 32)
}

/// One of the sixteen values of the non-linear types, four to a word.
#[cube]
fn chosen(words: &[u32], nibbles: usize, i: usize) -> f32 {
    let code = bits(words, nibbles + i % 16, 4 * (i / 16), 4u32);
    let mut four = 0xbfad_9881u32; // -127, -104, -83, -65
    if code >= 4 {
        four = 0xf6ea_ddcfu32; // -49, -35, -22, -10
    }
    if code >= 8 {
        four = 0x2619_0d01u32; // 1, 13, 25, 38
    }
    if code >= 12 {
        four = 0x7159_4535u32; // 53, 69, 89, 113
    }
    let value = (four >> (8 * (code % 4))) & 255;
    f32::cast_from(value) - 256.0 * f32::cast_from(value >> 7)
}

/// The 2-bit part of an element: per half of the block, 32 bytes hold four runs of 32 elements, the first in the lowest
/// bits.
#[cube]
fn crumb(words: &[u32], crumbs: usize, i: usize) -> u32 {
    bits(words, crumbs + 32 * (i / 128) + i % 32, 2 * (i % 128 / 32), 2u32)
}

/// `d s q - dmin m`, with the 6-bit scale and minimum of a sub-block of 32. Those of the first four are the low bits of
/// bytes 0..4 and 4..8; those of the last four take their low nibble from bytes 8..12 and their upper two bits from
/// bytes 0..4 and 4..8.
#[cube]
fn scaled(words: &[u32], start: usize, sub: usize, q: u32) -> f32 {
    let scales = start + 4;
    let mut scale = bits(words, scales + sub % 4, 0usize, 6u32);
    let mut minimum = bits(words, scales + 4 + sub % 4, 0usize, 6u32);
    if sub >= 4 {
        scale = bits(words, scales + 4 + sub, 0usize, 4u32) | (bits(words, scales + sub - 4, 6usize, 2u32) << 4);
        minimum = bits(words, scales + 4 + sub, 4usize, 4u32) | (bits(words, scales + sub, 6usize, 2u32) << 4);
    }
    let d = f16(words, start) * f32::cast_from(scale);
    d * f32::cast_from(q) - f16(words, start + 2) * f32::cast_from(minimum)
}
