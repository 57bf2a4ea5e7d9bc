//! The older block types: 32 elements that share one scale, and one minimum in the `_1` types.

/// Elements per block.
pub(super) const SIZE: usize = 32;

pub(super) const Q4_0_BYTES: usize = 2 + 16; // d, nibbles
pub(super) const Q4_1_BYTES: usize = 2 + 2 + 16; // d, m, nibbles
pub(super) const Q5_0_BYTES: usize = 2 + 4 + 16; // d, fifth bits, nibbles
pub(super) const Q5_1_BYTES: usize = 2 + 2 + 4 + 16; // d, m, fifth bits, nibbles
pub(super) const Q8_0_BYTES: usize = 2 + 32; // d, signed bytes

type Out = [f32; SIZE];

#[inline(always)]
pub(super) fn q4_0(block: &[u8; Q4_0_BYTES], out: &mut Out) {
    let [d0, d1, nibbles @ ..] = block;
    let d = scale(*d0, *d1);
    each_nibble(nibbles, out, |_, q| d * (f32::from(q) - 8.0));
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; Q4_1_BYTES], out: &mut Out) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    each_nibble(nibbles, out, |_, q| d * f32::from(q) + m);
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; Q5_0_BYTES], out: &mut Out) {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    let d = scale(*d0, *d1);
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    each_nibble(nibbles, out, |i, q| d * (f32::from(with_fifth(q, fifth, i)) - 16.0));
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; Q5_1_BYTES], out: &mut Out) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    each_nibble(nibbles, out, |i, q| d * f32::from(with_fifth(q, fifth, i)) + m);
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; Q8_0_BYTES], out: &mut Out) {
    let [d0, d1, quants @ ..] = block;
    let d = scale(*d0, *d1);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(q.cast_signed());
    }
}

/// A little-endian f16 scale.
#[inline(always)]
pub(super) fn scale(low: u8, high: u8) -> f32 {
    super::widen_f16([low, high])
}

/// Low nibbles are elements 0..16, high nibbles elements 16..32.
#[inline(always)]
fn each_nibble(nibbles: &[u8; SIZE / 2], out: &mut Out, value: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(SIZE / 2);
    for (i, byte) in nibbles.iter().enumerate() {
        low[i] = value(i, byte & 15);
        high[i] = value(i + SIZE / 2, byte >> 4);
    }
}

#[inline(always)]
fn with_fifth(nibble: u8, fifth: u32, i: usize) -> u8 {
    nibble | ((((fifth >> i) & 1) as u8) << 4)
}
