//! What all block types have in common: runs of small integers, each run with a scale and an offset.

use crate::quant::simd::{LANES, add_up};

/// A run of elements: `scale * code + offset` for each code.
///
/// # Numerics
/// A type without offsets has those of -0.0, which change no number, not even the sign of a zero.
pub(super) struct Run<const WORDS: usize> {
    /// Eight codes to a word, signed bytes, the first in the lowest: words can be shifted and masked in vectors, bytes
    /// cannot.
    pub codes: [u64; WORDS],
    pub scale: f32,
    pub offset: f32,
}

/// The offset of a type that has none.
pub(super) const NONE: f32 = -0.0;

/// The same byte eight times.
#[inline(always)]
pub(super) const fn every(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// The eight bytes from number `at` on.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The words that begin at bytes 0, 8, 16, .. of a run.
///
/// Arrays have a `map` for this, which the compiler does not always see through.
#[inline(always)]
pub(super) fn words<const WORDS: usize>(word: impl Fn(usize) -> u64) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (i, to) in words.iter_mut().enumerate() {
        *to = word(8 * i);
    }
    words
}

/// What processors have instructions of their own for.
pub(super) trait Half {
    /// A little-endian f16 as f32.
    fn widen(bytes: [u8; 2]) -> f32;

    /// For each of eight numbers below sixteen the value in its place of the table.
    fn chosen(numbers: u64, values: &[i8; 16]) -> u64;
}

/// In whole numbers, as any processor can.
pub(super) struct Portable;

impl Half for Portable {
    #[inline(always)]
    fn widen(bytes: [u8; 2]) -> f32 {
        super::widen_f16(bytes)
    }

    #[inline(always)]
    fn chosen(numbers: u64, values: &[i8; 16]) -> u64 {
        u64::from_le_bytes(numbers.to_le_bytes().map(|number| values[usize::from(number & 15)].cast_unsigned()))
    }
}

/// What is done with blocks, whatever their type.
pub(super) trait Work {
    /// What comes out.
    type Output;

    /// What the blocks are read with.
    type Half: Half;

    /// Does it with blocks of `BYTES` bytes and `RUNS` runs, which `read` takes out by their number.
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> Self::Output;
}

/// Writes the elements as f32.
pub(super) struct Unpack<'a> {
    pub bytes: &'a [u8],
    pub out: &'a mut [f32],
}

impl Work for Unpack<'_> {
    type Output = ();
    type Half = Portable;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        let (blocks, outs) = (self.bytes.as_chunks::<BYTES>().0, self.out.chunks_exact_mut(8 * WORDS * RUNS));
        for (block, out) in blocks.iter().zip(outs) {
            for (run, out) in out.chunks_exact_mut(8 * WORDS).enumerate() {
                let Run { codes, scale, offset } = read(block, run);
                for (out, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
                    *out = word.to_le_bytes().map(|code| scale * f32::from(code.cast_signed()) + offset);
                }
            }
        }
    }
}

/// Takes the codes apart from their scales and offsets.
pub(super) struct Codes<'a> {
    pub bytes: &'a [u8],
    pub codes: &'a mut [i8],
    /// Of each run.
    pub scales: &'a mut [f32],
    /// Of each run; may be empty where none is wanted.
    pub offsets: &'a mut [f32],
}

impl Work for Codes<'_> {
    type Output = ();
    type Half = Portable;

    #[inline(always)]
    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) {
        take_apart::<BYTES, WORDS, RUNS>(self, read);
    }
}

#[inline(always)]
pub(super) fn take_apart<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
    Codes { bytes, codes, scales, offsets }: Codes,
    read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
) {
    let codes = codes.chunks_exact_mut(8 * WORDS * RUNS);
    let blocks = bytes.as_chunks::<BYTES>().0.iter().zip(codes).zip(scales.as_chunks_mut::<RUNS>().0);
    let mut offsets = offsets.as_chunks_mut::<RUNS>().0.iter_mut();
    for ((block, codes), scales) in blocks {
        let mut none = [NONE; RUNS];
        let offsets = offsets.next().unwrap_or(&mut none);
        for (run, to) in codes.chunks_exact_mut(8 * WORDS).enumerate() {
            let Run { codes, scale, offset } = read(block, run);
            for (to, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(codes) {
                *to = word.to_le_bytes().map(u8::cast_signed);
            }
            (scales[run], offsets[run]) = (scale, offset);
        }
    }
}

/// Sums the products of the elements with those of `x`.
pub(super) struct Dot<'a> {
    pub bytes: &'a [u8],
    pub x: &'a [f32],
}

impl Work for Dot<'_> {
    type Output = f32;
    type Half = Portable;

    fn run<const BYTES: usize, const WORDS: usize, const RUNS: usize>(
        self,
        read: impl Fn(&[u8; BYTES], usize) -> Run<WORDS>,
    ) -> f32 {
        let mut lanes = [0f32; LANES];
        let (blocks, xs) = (self.bytes.as_chunks::<BYTES>().0, self.x.chunks_exact(8 * WORDS * RUNS));
        for (block, x) in blocks.iter().zip(xs) {
            for (run, x) in x.chunks_exact(8 * WORDS).enumerate() {
                let Run { codes, scale, offset } = read(block, run);
                for (i, (x, word)) in x.as_chunks::<8>().0.iter().zip(codes).enumerate() {
                    let lanes = &mut lanes.as_chunks_mut::<8>().0[(run * WORDS + i) % (LANES / 8)];
                    for ((lane, x), code) in lanes.iter_mut().zip(x).zip(word.to_le_bytes()) {
                        *lane = scale.mul_add(f32::from(code.cast_signed()), offset).mul_add(*x, *lane);
                    }
                }
            }
        }
        add_up(&lanes)
    }
}
