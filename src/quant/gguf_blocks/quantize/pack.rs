//! Codes into bytes, as [`super::super`] reads them.

/// Thirty-two codes of four bits: elements 0..16 in the low and 16..32 in the high nibbles.
#[inline(always)]
pub(super) fn nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| (codes[i] & 15) | (codes[i + 16] << 4))
}

/// The fifth bits of thirty-two codes, the first in the lowest.
#[inline(always)]
pub(super) fn fifths(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0u32, |bits, (i, code)| bits | (u32::from(code >> 4) & 1) << i);
    bits.to_le_bytes()
}

/// The low nibbles of 256 codes: 64 elements to 32 bytes, the first half of them in the low nibbles.
#[inline(always)]
pub(super) fn k_nibbles(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let first = 64 * (i / 32) + i % 32;
        (codes[first] & 15) | (codes[first + 32] << 4)
    })
}

/// One bit of each of 256 codes, element `i` in byte `i % 32`.
#[inline(always)]
pub(super) fn bit(codes: &[u8; 256], number: u8) -> [u8; 32] {
    std::array::from_fn(|i| (0..8).map(|run| ((codes[32 * run + i] >> number) & 1) << run).sum())
}

/// Two bits of each of 256 codes: per half of the block, four runs of 32 elements in 32 bytes, the first in the lowest.
#[inline(always)]
pub(super) fn crumbs(codes: &[u8; 256], shift: u8) -> [u8; 64] {
    std::array::from_fn(|i| {
        let first = 128 * (i / 32) + i % 32;
        (0..4).map(|run| ((codes[first + 32 * run] >> shift) & 3) << (2 * run)).sum()
    })
}

/// The 6-bit scales and minima of eight sub-blocks.
#[inline(always)]
pub(super) fn scales_and_minima(scales: &[u8; 8], minima: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | ((scales[i + 4] >> 4) << 6),
        4..8 => minima[i - 4] | ((minima[i] >> 4) << 6),
        _ => (scales[i - 4] & 15) | ((minima[i - 4] & 15) << 4),
    })
}

/// The 6-bit scales of sixteen sub-blocks: low nibbles of 0..8 and of 8..16 in bytes 0..8, the upper bits after them.
#[inline(always)]
pub(super) fn six_bit_scales(scales: &[u8; 16]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..8 => (scales[i] & 15) | ((scales[i + 8] & 15) << 4),
        _ => (0..4).map(|run| (scales[i - 8 + 4 * run] >> 4) << (2 * run)).sum(),
    })
}

/// Parts of a block in their order.
#[inline(always)]
pub(super) fn joined<const BYTES: usize>(parts: &[&[u8]]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    let mut at = 0;
    for part in parts {
        block[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    block
}
