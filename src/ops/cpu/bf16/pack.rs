//! Rounding to bf16, and laying out numbers as the product of two tiles reads them.

use super::tile::{Pair, Tile, widened};
use crate::quant::simd::vectorised;

/// What is smaller in a left factor (activations, probabilities, gradients) is taken to be 0: `2^-72`, `2e-22`. Rows of
/// small numbers are multiplied by a power of two before ([`scale`]).
pub const LEAST_LEFT: f32 = f32::from_bits((127 - 72) << 23);

/// What is smaller in a right one (weights) is taken to be 0: `2^-40`, `9e-13`.
///
/// # Numerics
/// The last bit of a product counts at least `2^-14` of its size. So every sum of products is a multiple of `2^-126`,
/// the least number that is not subnormal.
pub const LEAST_RIGHT: f32 = f32::from_bits((127 - 40) << 23);

/// A number in bf16, to nearest even; 0 if it is smaller than `least`.
#[inline(always)]
fn rounded(x: f32, least: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    let quiet = bits >> 16 | 0x40;
    let rounded = if x.is_nan() { quiet } else { nearest };
    if x.abs() < least { 0 } else { rounded as u16 }
}

/// A bf16 number, or 0 if it is smaller than `least`.
#[inline(always)]
fn cut(x: u16, least: u16) -> u16 {
    if x & 0x7fff < least { 0 } else { x }
}

/// The bits of the largest number, without its sign.
#[inline(always)]
fn largest(row: &[f32]) -> u32 {
    const LANES: usize = 16;
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut largest = [0u32; LANES];
    for row in whole {
        for i in 0..LANES {
            largest[i] = largest[i].max(row[i].abs().to_bits());
        }
    }
    largest.into_iter().chain(rest.iter().map(|x| x.abs().to_bits())).max().unwrap_or(0)
}

/// The power of two that brings the number with these bits near 1; 1 where it is 0 or not finite.
#[inline(always)]
fn near_one(bits: u32) -> f32 {
    match bits >> 23 {
        _ if bits == 0 => 1.0,
        255 => 1.0,
        exponent => f32::from_bits((254 - exponent).clamp(1, 253) << 23),
    }
}

/// The power of two that brings the largest number of these lines near 1.
pub fn power<'a>(lines: impl Iterator<Item = &'a [f32]>) -> f32 {
    near_one(lines.map(largest_of_line).max().unwrap_or(0))
}

vectorised! {
    /// `x` in bf16, to nearest even; what is smaller than `least` becomes 0.
    pub fn round(x: &[f32], least: f32, out: &mut [u16]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = rounded(*x, least));
    }

    /// As [`round`], of `x` times a power of two.
    fn round_scaled(x: &[f32], scale: f32, out: &mut [u16]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = rounded(*x * scale, LEAST_LEFT));
    }

    /// What a row of a left factor is multiplied by before it is rounded: 1, but for rows whose largest number is very
    /// small or very large a power of two that brings it near 1. Their products are multiplied back.
    pub fn scale(row: &[f32]) -> f32 {
        match largest(row) {
            // A size that needs nothing.
            bits if (87..=191).contains(&(bits >> 23)) => 1.0,
            bits => near_one(bits),
        }
    }

    /// The bits of the largest number of a line, without its sign.
    fn largest_of_line(line: &[f32]) -> u32 {
        largest(line)
    }

    /// Pairs of two lines of floats that lie one above the other, times a power of two and rounded.
    fn interleave_floats(upper: &[f32], lower: &[f32], scale: f32, least: f32, out: &mut [Pair]) {
        for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
            *out = Pair::from(rounded(*upper * scale, least)) | Pair::from(rounded(*lower * scale, least)) << 16;
        }
    }

    /// bf16 numbers, those smaller than `least` as 0.
    fn copy(x: &[u16], least: u16, out: &mut [u16]) {
        out.iter_mut().zip(x).for_each(|(out, x)| *out = cut(*x, least));
    }

    /// Pairs of two rows that lie one above the other.
    fn interleave(upper: &[u16], lower: &[u16], least: u16, out: &mut [Pair]) {
        for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
            *out = Pair::from(cut(*upper, least)) | Pair::from(cut(*lower, least)) << 16;
        }
    }

    /// `to[p, at + i] = from[i, p]`, of eight rows `i`; `to` has rows of `width`.
    fn turn(from: [&[Pair]; SIDE], to: &mut [Pair], width: usize, at: usize) {
        let pairs = from[0].len();
        let from = from.map(|row| &row[..pairs]);
        for first in (0..pairs / SIDE * SIDE).step_by(SIDE) {
            let mut block = [[0; SIDE]; SIDE];
            for i in 0..SIDE {
                block[i].copy_from_slice(&from[i][first..first + SIDE]);
            }
            for p in 0..SIDE {
                let to = &mut to[(first + p) * width + at..][..SIDE];
                for i in 0..SIDE {
                    to[i] = block[i][p];
                }
            }
        }
        for p in pairs / SIDE * SIDE..pairs {
            for i in 0..SIDE {
                to[p * width + at + i] = from[i][p];
            }
        }
    }
}

/// Rows that are turned at once.
const SIDE: usize = 8;

/// Rows of a right factor as the columns of a tile, `x w^T`: the run of each row from `w` on, `stride` apart.
///
/// # Shapes
/// - `out`: `[pairs, COLUMNS]`; columns beyond the last row become 0
pub fn rows_as_columns<T: Tile>(
    w: &[u16],
    stride: usize,
    rows: usize,
    run: usize,
    scratch: &mut Vec<Pair>,
    out: &mut [Pair],
) {
    let pairs = run.div_ceil(2);
    for first in (0..T::COLUMNS).step_by(SIDE) {
        scratch.clear();
        scratch.resize(SIDE * pairs, 0);
        let some = rows.saturating_sub(first).min(SIDE);
        for (i, line) in scratch.chunks_exact_mut(pairs).take(some).enumerate() {
            let line: &mut [u16] = bytemuck::cast_slice_mut(line);
            copy(&w[(first + i) * stride..][..run], high_half(LEAST_RIGHT), line);
        }
        turn(lines(scratch, pairs), out, T::COLUMNS, first);
    }
}

/// Columns of a right factor as those of a tile, `x w`: so many columns of each row from `w` on, `stride` apart.
///
/// # Shapes
/// - `out`: as in [`rows_as_columns`]
pub fn columns<T: Tile>(w: &[u16], stride: usize, columns: usize, run: usize, out: &mut [Pair]) {
    for (pair, out) in out.chunks_exact_mut(T::COLUMNS).enumerate() {
        let [upper, lower] = two_lines(w, &[0; 64], stride, pair, run, columns);
        interleave(upper, lower, high_half(LEAST_RIGHT), out);
        out[columns..].fill(0);
    }
}

/// Rows of a left factor as those of a tile: the run of each row from `x` on, `stride` apart, times its scale.
///
/// # Shapes
/// - `out`: `[pairs, ROWS, WORDS]`; rows beyond the last become 0
pub fn rows<'a, T: Tile>(
    x: &[f32],
    stride: usize,
    scales: impl Iterator<Item = &'a f32>,
    run: usize,
    scratch: &mut Vec<Pair>,
    out: &mut [u32],
) {
    let pairs = run.div_ceil(2);
    scratch.clear();
    scratch.resize(T::ROWS.next_multiple_of(SIDE) * pairs, 0);
    for (i, (line, scale)) in scratch.chunks_exact_mut(pairs).zip(scales).enumerate() {
        round_scaled(&x[i * stride..][..run], *scale, bytemuck::cast_slice_mut(line));
    }
    for first in (0..T::ROWS).step_by(SIDE) {
        let lines: [&[Pair]; SIDE] = lines(&scratch[first * pairs..], pairs);
        if T::WORDS == 1 && first + SIDE <= T::ROWS {
            turn(lines, out, T::ROWS, first);
            continue;
        }
        for (i, line) in lines.into_iter().enumerate().take(T::ROWS - first) {
            let places = out[(first + i) * T::WORDS..].chunks_mut(T::ROWS * T::WORDS);
            for (to, pair) in places.zip(line) {
                match T::WORDS {
                    1 => to[0] = *pair,
                    _ => to[..2].copy_from_slice(&widened(*pair).map(f32::to_bits)),
                }
            }
        }
    }
}

/// As [`rows`], of so many rows whose first numbers lie together, then their second ones, `stride` apart; all times `scale`.
pub fn turned_rows<T: Tile>(x: &[f32], stride: usize, rows: usize, scale: f32, run: usize, out: &mut [u32]) {
    let mut pairs = [0; MOST_ROWS];
    for (pair, out) in out.chunks_exact_mut(T::ROWS * T::WORDS).enumerate() {
        let [upper, lower] = two_lines(x, &[0.0; 64], stride, pair, run, rows);
        interleave_floats(upper, lower, scale, LEAST_LEFT, &mut pairs[..rows]);
        for (to, pair) in out.chunks_exact_mut(T::WORDS).zip(&pairs[..T::ROWS]) {
            match T::WORDS {
                1 => to[0] = *pair,
                _ => to.copy_from_slice(&widened(*pair).map(f32::to_bits)),
            }
        }
    }
}

/// As [`columns`], of floats, all times `scale`.
pub fn float_columns<T: Tile>(x: &[f32], stride: usize, columns: usize, scale: f32, run: usize, out: &mut [Pair]) {
    for (pair, out) in out.chunks_exact_mut(T::COLUMNS).enumerate() {
        let [upper, lower] = two_lines(x, &[0.0; 64], stride, pair, run, columns);
        interleave_floats(upper, lower, scale, LEAST_RIGHT, out);
        out[columns..].fill(0);
    }
}

/// The lines of a pair; of the last one the second may be `nothing`.
fn two_lines<'a, N>(x: &'a [N], nothing: &'a [N], stride: usize, pair: usize, run: usize, len: usize) -> [&'a [N]; 2] {
    let lower = if 2 * pair + 1 < run { &x[(2 * pair + 1) * stride..] } else { nothing };
    [&x[2 * pair * stride..][..len], &lower[..len]]
}

/// The rows of the largest tile.
const MOST_ROWS: usize = 16;

/// The first eight lines of so many pairs.
fn lines(scratch: &[Pair], pairs: usize) -> [&[Pair]; SIDE] {
    std::array::from_fn(|i| &scratch[i * pairs..][..pairs])
}

/// A power of two in bf16.
fn high_half(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}
