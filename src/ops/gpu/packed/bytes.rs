//! Small numbers in a buffer of 32-bit words, by the number of their first byte.

use cubecl::prelude::*;

/// A byte.
#[cube]
pub fn byte(words: &[u32], at: usize) -> u32 {
    (words[at / 4] >> (8 * (at % 4) as u32)) & 255
}

/// A signed byte.
#[cube]
pub fn signed(words: &[u32], at: usize) -> f32 {
    let byte = byte(words, at);
    let mut value = f32::cast_from(byte);
    if byte > 127 {
        value -= 256.0;
    }
    value
}

/// Two bytes, the first of them even.
#[cube]
pub fn half(words: &[u32], at: usize) -> u32 {
    (words[at / 4] >> (8 * (at % 4) as u32)) & 0xffff
}

/// An f16, the first of its bytes even. Exact, subnormals included, which devices may not have in f32.
#[cube]
pub fn f16(words: &[u32], at: usize) -> f32 {
    let bits = half(words, at);
    let exponent = (bits >> 10) & 31;
    let mantissa = bits & 1023;
    let mut magnitude = u32::reinterpret(f32::cast_from(mantissa) * 5.960_464_5e-8); // 2^-24
    if exponent == 31 {
        magnitude = 0x7f80_0000u32 | (mantissa << 13);
    } else if exponent > 0 {
        magnitude = ((exponent + 112) << 23) | (mantissa << 13);
    }
    f32::reinterpret(magnitude | ((bits & 0x8000) << 16))
}

/// A bf16, the first of its bytes even.
#[cube]
pub fn bf16(words: &[u32], at: usize) -> f32 {
    f32::reinterpret(half(words, at) << 16)
}
