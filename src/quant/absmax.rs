//! Absolute maxima of blocks, plain or themselves quantised (QLoRA's double quantisation).

use super::SharedBytes;
use std::iter::zip;
use std::sync::Arc;

/// Maxima that share a scale when they are quantised.
pub const NESTED_BLOCK: usize = 256;

/// The absolute maxima of a matrix's blocks.
#[derive(Debug, Clone)]
pub enum Absmax {
    /// As they are.
    Plain(Arc<[f32]>),
    /// A byte each.
    Double(DoubleQuantized),
}

impl Absmax {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        match self {
            Absmax::Plain(maxima) => maxima.len(),
            Absmax::Double(maxima) => maxima.codes.len(),
        }
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they occupy.
    pub fn bytes(&self) -> u64 {
        match self {
            Absmax::Plain(maxima) => plain_bytes(maxima.len()),
            Absmax::Double(maxima) => double_bytes(maxima.codes.len()),
        }
    }
}

/// Bytes of this many plain maxima.
pub(super) fn plain_bytes(blocks: usize) -> u64 {
    4 * blocks as u64
}

/// Bytes of this many maxima that are quantised, their map of 256 values included.
pub(super) fn double_bytes(blocks: usize) -> u64 {
    (blocks + 4 * blocks.div_ceil(NESTED_BLOCK) + 4 * 256) as u64
}

/// Maxima as bytes: `map[code] * scale + offset`, with one scale per 256 of them and one offset for all.
///
/// # Source
/// Dettmers et al. 2023 (QLoRA), section 3; the 8-bit map is that of Dettmers 2016 (arXiv 1511.04561). Everything is
/// bitsandbytes 0.50's bit for bit, where it runs on one CPU thread with AVX2 (the order of its sum depends on that).
#[derive(Debug, Clone)]
pub struct DoubleQuantized {
    /// A code per block.
    pub codes: SharedBytes,
    /// The absolute maximum of each 256 differences from the offset.
    pub scales: Arc<[f32]>,
    /// The value of each code.
    pub map: Arc<[f32; 256]>,
    /// The mean of all maxima.
    pub offset: f32,
}

impl DoubleQuantized {
    /// Quantises finite maxima.
    pub fn new(maxima: &[f32]) -> Self {
        let map = dynamic_map();
        let offset = mean(maxima);
        let mut codes = vec![0; maxima.len()];
        let mut scales = Vec::with_capacity(maxima.len().div_ceil(NESTED_BLOCK));
        let bounds: Vec<f32> = map.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
        for (codes, maxima) in zip(codes.chunks_mut(NESTED_BLOCK), maxima.chunks(NESTED_BLOCK)) {
            let scale = maxima.iter().fold(0.0f32, |scale, maximum| scale.max((maximum - offset).abs()));
            scales.push(scale);
            if scale > 0.0 {
                for (code, maximum) in zip(codes, maxima) {
                    let value = on_grid((maximum - offset) * (1.0 / scale));
                    *code = bounds.partition_point(|bound| *bound < value) as u8;
                }
            }
        }
        DoubleQuantized { codes: codes.into(), scales: scales.into(), map: map.into(), offset }
    }

    /// The maximum of a block.
    #[inline(always)]
    pub(super) fn get(&self, block: usize) -> f32 {
        self.map[usize::from(self.codes[block])] * self.scales[block / NESTED_BLOCK] + self.offset
    }
}

/// The nearest of 65,536 values in `-1..=1`: bitsandbytes looks codes up in a table of that size.
fn on_grid(value: f32) -> f32 {
    const LAST: f32 = 65_535.0;
    let index = ((value.clamp(-1.0, 1.0) + 1.0) * 0.5 * LAST + 0.5).floor();
    2.0 * index / LAST - 1.0
}

/// The largest magnitude of `values`; `None` if one is not finite.
#[inline(always)]
pub(super) fn of(values: &[f32]) -> Option<f32> {
    // As integers, magnitudes are in the same order, and NaN is above infinity instead of nowhere.
    let bits = values.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(bits);
    largest.is_finite().then_some(largest)
}

/// The values of the 256 codes: seven decades either side of 0, each cut twice as finely as the one below it, and 1.
fn dynamic_map() -> [f32; 256] {
    const DECADES: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut map = [0.0; 256];
    let (mut below, mut above) = (126, 128);
    for (level, decade) in DECADES.into_iter().enumerate() {
        let parts = 1usize << level;
        let edge = |i: usize| linspace(0.1, 1.0, parts, i);
        for part in 0..parts {
            let value = decade * ((edge(part) + edge(part + 1)) / 2.0);
            (map[above], map[below]) = (value, -value);
            (above, below) = (above + 1, below.saturating_sub(1));
        }
    }
    map[255] = 1.0;
    map
}

/// The value with number `i` of `parts + 1` from `first` to `last`, rounded as torch does: fused, from the nearer end.
fn linspace(first: f32, last: f32, parts: usize, i: usize) -> f32 {
    let step = (last - first) / parts as f32;
    if i < parts.div_ceil(2) { step.mul_add(i as f32, first) } else { (-step).mul_add((parts - i) as f32, last) }
}

/// The mean, summed in the order of torch on a processor with AVX2: eight lanes, four running sums of each, and sums of
/// sums, so that rounding errors stay small.
fn mean(values: &[f32]) -> f32 {
    let (vectors, rest) = values.as_chunks::<8>();
    let lanes = sum_of_vectors(vectors);
    let sum = rest.iter().chain(&lanes).fold(0.0, |sum, value| sum + value);
    if values.is_empty() { 0.0 } else { sum / values.len() as f32 }
}

type Lanes = [f32; 8];

fn add(to: &mut Lanes, from: &Lanes) {
    zip(to, from).for_each(|(to, from)| *to += from);
}

fn sum_of_vectors(vectors: &[Lanes]) -> Lanes {
    let (rows, rest) = vectors.as_chunks::<4>();
    let [mut first, others @ ..] = sums_of_columns(rows);
    rest.iter().for_each(|vector| add(&mut first, vector));
    others.iter().for_each(|other| add(&mut first, other));
    first
}

/// Sums of four columns of vectors, in a cascade of four levels.
fn sums_of_columns(rows: &[[Lanes; 4]]) -> [Lanes; 4] {
    const LEVELS: usize = 4;
    let ceil_log2 = rows.len().next_power_of_two().trailing_zeros() as usize;
    let power = (ceil_log2 / LEVELS).max(4);
    let mut levels = [[[0.0; 8]; 4]; LEVELS];
    let add_row = |to: &mut [Lanes; 4], row: &[Lanes; 4]| zip(to, row).for_each(|(to, from)| add(to, from));
    for (i, row) in rows.iter().enumerate() {
        add_row(&mut levels[0], row);
        for level in 1..LEVELS {
            // A level is passed on when it holds `2^power` of the level below.
            if !(i + 1).is_multiple_of(1 << (power * level)) {
                break;
            }
            let full = std::mem::replace(&mut levels[level - 1], [[0.0; 8]; 4]);
            add_row(&mut levels[level], &full);
        }
    }
    let [mut total, others @ ..] = levels;
    others.iter().for_each(|level| add_row(&mut total, level));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_sorted_and_symmetric_but_for_one() {
        let map = dynamic_map();
        assert!(map.is_sorted_by(|a, b| a < b));
        assert_eq!((map[127], map[255], map[0]), (0.0, 1.0, -map[254]));
        assert!((1..127).all(|i| map[127 - i] == -map[127 + i]));
    }

    #[test]
    fn equal_maxima_are_kept_exactly() {
        let double = DoubleQuantized::new(&[0.5; 3]);
        assert_eq!((0..3).map(|block| double.get(block)).collect::<Vec<_>>(), [0.5; 3]);
    }

    #[test]
    fn the_mean_is_torchs_bit_for_bit() {
        let golden = include_bytes!("../../tests/goldens/quant/blocks.safetensors");
        let golden = safetensors::SafeTensors::deserialize(golden).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let data = golden.tensor(name).unwrap().data().to_vec();
            data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        assert_eq!([mean(&floats("mean.input"))], floats("mean.mean")[..]);
        assert_eq!(mean(&[]), 0.0);
    }
}
