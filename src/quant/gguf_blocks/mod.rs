//! GGUF block types: what a block holds and how its bytes become `f32`.
//!
//! A row of a tensor is a whole number of blocks, and rows follow each other without gaps, so any run of whole blocks
//! (a row, a range of rows, a tile) can be unpacked on its own into a buffer of the caller.
//!
//! # Numerics
//! Every product and sum is done in `f32` in the order that the `gguf` Python package uses, so results agree with it
//! bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod iq4;
mod k;
mod legacy;
mod quantize;
mod runs;
#[cfg(test)]
mod tests;
mod vector;
mod work;

pub use self::quantize::LARGEST_IN_BLOCKS;
use self::runs::SignedBytes;
use self::vector::Portable;
pub(super) use self::vector::{FROM_TOP, UNIT, Vector};
use self::work::{BlockWork, Dots, Unpack, Work, at_a_time};
pub(super) use self::work::{FloatUnit, Inputs, lay};
use super::simd;
use crate::error::{Error, Kind, Result};
use bytemuck::AnyBitPattern;
use std::fmt;

/// How a tensor's elements are stored in a GGUF file: plain floats, or blocks with a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuantType {
    /// 32-bit floats.
    F32,
    /// IEEE half-precision floats.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// 32 elements of 4 bits: `d * (q - 8)`.
    Q4_0,
    /// 32 elements of 4 bits: `d * q + m`.
    Q4_1,
    /// 32 elements of 5 bits: `d * (q - 16)`.
    Q5_0,
    /// 32 elements of 5 bits: `d * q + m`.
    Q5_1,
    /// 32 elements of 8 bits: `d * q`.
    Q8_0,
    /// 256 elements of 2 bits, a 4-bit scale and minimum per 16: `d * s * q - dmin * m`.
    Q2K,
    /// 256 elements of 3 bits, a 6-bit scale per 16: `d * (s - 32) * (q - 4)`.
    Q3K,
    /// 256 elements of 4 bits, a 6-bit scale and minimum per 32: `d * s * q - dmin * m`.
    Q4K,
    /// 256 elements of 5 bits, a 6-bit scale and minimum per 32: `d * s * q - dmin * m`.
    Q5K,
    /// 256 elements of 6 bits, an 8-bit scale per 16: `d * s * (q - 32)`.
    Q6K,
    /// 32 elements of 4 bits, which choose one of sixteen values: `d * v[q]`.
    IQ4NL,
    /// 256 elements of 4 bits that choose so, a 6-bit scale per 32: `d * (s - 32) * v[q]`.
    IQ4XS,
}

impl QuantType {
    /// Every type that can be read and written.
    pub const ALL: [QuantType; 15] = [
        QuantType::F32,
        QuantType::F16,
        QuantType::BF16,
        QuantType::Q4_0,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5_1,
        QuantType::Q8_0,
        QuantType::Q2K,
        QuantType::Q3K,
        QuantType::Q4K,
        QuantType::Q5K,
        QuantType::Q6K,
        QuantType::IQ4NL,
        QuantType::IQ4XS,
    ];

    /// The type of a tensor's number in a GGUF file, if it can be read; [`ggml_type_name`] names the others.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml() == number)
    }

    /// The number that GGUF files use for this type.
    pub fn ggml(self) -> u32 {
        match self {
            QuantType::F32 => 0,
            QuantType::F16 => 1,
            QuantType::Q4_0 => 2,
            QuantType::Q4_1 => 3,
            QuantType::Q5_0 => 6,
            QuantType::Q5_1 => 7,
            QuantType::Q8_0 => 8,
            QuantType::Q2K => 10,
            QuantType::Q3K => 11,
            QuantType::Q4K => 12,
            QuantType::Q5K => 13,
            QuantType::Q6K => 14,
            QuantType::IQ4NL => 20,
            QuantType::IQ4XS => 23,
            QuantType::BF16 => 30,
        }
    }

    /// The name that llama.cpp and the `gguf` package use.
    pub fn name(self) -> &'static str {
        match self {
            QuantType::F32 => "F32",
            QuantType::F16 => "F16",
            QuantType::BF16 => "BF16",
            QuantType::Q4_0 => "Q4_0",
            QuantType::Q4_1 => "Q4_1",
            QuantType::Q5_0 => "Q5_0",
            QuantType::Q5_1 => "Q5_1",
            QuantType::Q8_0 => "Q8_0",
            QuantType::Q2K => "Q2_K",
            QuantType::Q3K => "Q3_K",
            QuantType::Q4K => "Q4_K",
            QuantType::Q5K => "Q5_K",
            QuantType::Q6K => "Q6_K",
            QuantType::IQ4NL => "IQ4_NL",
            QuantType::IQ4XS => "IQ4_XS",
        }
    }

    /// Elements per block.
    pub const fn block_size(self) -> usize {
        match self {
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => 1,
            QuantType::Q4_0 | QuantType::Q4_1 | QuantType::Q5_0 | QuantType::Q5_1 | QuantType::Q8_0 => legacy::SIZE,
            QuantType::Q2K | QuantType::Q3K | QuantType::Q4K | QuantType::Q5K | QuantType::Q6K => k::SIZE,
            QuantType::IQ4NL => iq4::SIZE,
            QuantType::IQ4XS => iq4::SUPER_SIZE,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            QuantType::F32 => 4,
            QuantType::F16 | QuantType::BF16 => 2,
            QuantType::Q4_0 => legacy::Q4_0_BYTES,
            QuantType::Q4_1 => legacy::Q4_1_BYTES,
            QuantType::Q5_0 => legacy::Q5_0_BYTES,
            QuantType::Q5_1 => legacy::Q5_1_BYTES,
            QuantType::Q8_0 => legacy::Q8_0_BYTES,
            QuantType::Q2K => k::Q2_BYTES,
            QuantType::Q3K => k::Q3_BYTES,
            QuantType::Q4K => k::Q4_BYTES,
            QuantType::Q5K => k::Q5_BYTES,
            QuantType::Q6K => k::Q6_BYTES,
            QuantType::IQ4NL => iq4::NL_BYTES,
            QuantType::IQ4XS => iq4::XS_BYTES,
        }
    }

    /// Whether elements are plain floats, each on its own.
    pub fn is_float(self) -> bool {
        self.block_size() == 1
    }

    /// Bytes of `elements` elements; `None` unless they are whole blocks and the product fits.
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_size()) {
            return None;
        }
        (elements / self.block_size()).checked_mul(self.block_bytes())
    }

    /// Unpacks whole blocks into `out`, on the calling thread.
    ///
    /// # Errors
    /// If `bytes` are not exactly the blocks of `out.len()` elements.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        self.check(bytes, out.len())?;
        self.unpack(bytes, out);
        Ok(())
    }

    fn check(self, bytes: &[u8], elements: usize) -> Result<()> {
        if self.bytes_of(elements) == Some(bytes.len()) {
            return Ok(());
        }
        let what = format!("{elements} elements of type {self} are not stored in {} bytes", bytes.len());
        Err(Error::new(Kind::Weights, what))
    }

    /// Unpacks as many blocks as both sides have; callers check the lengths once for many chunks.
    pub(crate) fn unpack(self, bytes: &[u8], out: &mut [f32]) {
        if !self.is_float() {
            return on_this_processor(OnBlocks { of: Some(self), work: Unpack { bytes, out } });
        }
        simd::widest(
            #[inline(always)]
            || match self {
                QuantType::F16 => floats(bytes, out, widen_f16),
                QuantType::BF16 => floats(bytes, out, widen_bf16),
                _ => floats(bytes, out, f32::from_le_bytes),
            },
        );
    }

    /// The products of whole rows with inputs, on the calling thread, without unpacking the rows.
    ///
    /// # Shapes
    /// - `rows`: as many rows as there are outputs
    /// - `x`: `[n, in]`
    /// - `out`: `[n, outputs]`
    pub(in crate::quant) fn dots<I: Inputs>(self, rows: &[u8], x: &I, out: &mut [f32]) {
        at_once(Some(self), rows, x, out);
    }

    /// The sum of the products of a row of plain floats with those of `x`, in a fixed order; nothing of blocks.
    ///
    /// # Numerics
    /// f32.
    pub(crate) fn dot(self, bytes: &[u8], x: &[f32]) -> f32 {
        match self {
            QuantType::F32 => {
                numbers(bytes).map_or_else(|| dot_floats(bytes, x, f32::from_le_bytes), |w| simd::dot(w, x))
            }
            QuantType::F16 => dot_floats(bytes, x, widen_f16),
            QuantType::BF16 => {
                numbers(bytes).map_or_else(|| dot_floats(bytes, x, widen_bf16), |w| simd::dot_bf16(w, x))
            }
            _ => 0.0,
        }
    }
}

/// The products of rows of signed bytes with inputs: [`QuantType::dots`] of a type without scales.
pub(super) fn dots_of_bytes<I: Inputs>(rows: &[[u8; UNIT]], x: &I, out: &mut [f32]) {
    at_once(None, rows.as_flattened(), x, out);
}

/// Multiplies rows with all inputs.
fn at_once<I: Inputs>(of: Option<QuantType>, rows: &[u8], x: &I, out: &mut [f32]) {
    let outputs = out.len() / x.len().max(1);
    if outputs > 0 {
        with_inputs_at_a_time(x.len(), BlocksAtOnce { of, rows, x, outputs, out });
    }
}

/// Something that is done with a few inputs at a time.
pub(super) trait ByInputs {
    /// As of [`Work`].
    const SUMS_BYTES: bool = false;

    /// Does it with the instructions `V` to the `N` inputs from number `first` on, of which there may be fewer.
    fn run<V: Vector, const N: usize>(&mut self, first: usize);
}

/// Does it to inputs `0..n`, as many at a time as the registers of a processor have sums for.
pub(super) fn with_inputs_at_a_time<T: ByInputs>(n: usize, mut what: T) {
    struct Part<'a, T, const N: usize>(&'a mut T, usize);
    impl<T: ByInputs, const N: usize> Work for Part<'_, T, N> {
        const SUMS_BYTES: bool = T::SUMS_BYTES;

        #[inline(always)]
        fn with<V: Vector>(self) {
            self.0.run::<V, N>(self.1);
        }
    }
    let mut first = 0;
    while first < n {
        let together = at_a_time(n - first);
        match together {
            8 => on_this_processor(Part::<T, 8>(&mut what, first)),
            4 => on_this_processor(Part::<T, 4>(&mut what, first)),
            _ => on_this_processor(Part::<T, 1>(&mut what, first)),
        }
        first += together;
    }
}

/// The products of rows of blocks with all inputs.
struct BlocksAtOnce<'a, I> {
    of: Option<QuantType>,
    rows: &'a [u8],
    x: &'a I,
    outputs: usize,
    out: &'a mut [f32],
}

impl<I: Inputs> ByInputs for BlocksAtOnce<'_, I> {
    const SUMS_BYTES: bool = I::SUMS_BYTES;

    #[inline(always)]
    fn run<V: Vector, const N: usize>(&mut self, first: usize) {
        let BlocksAtOnce { of, rows, x, outputs, ref mut out } = *self;
        on_blocks::<V, _>(of, Dots::<I, N> { rows, x, first, outputs, out: &mut out[first * outputs..] });
    }
}

/// What is done with blocks of a type, or with signed bytes alone.
struct OnBlocks<W> {
    of: Option<QuantType>,
    work: W,
}

impl<W: BlockWork> Work for OnBlocks<W> {
    const SUMS_BYTES: bool = W::SUMS_BYTES;

    #[inline(always)]
    fn with<V: Vector>(self) {
        on_blocks::<V, W>(self.of, self.work);
    }
}

/// Does `work` with the widest instructions that the processor has.
fn on_this_processor<W: Work>(work: W) {
    #[cfg(target_arch = "x86_64")]
    let Err(work) = avx2::widest(work) else { return };
    work.with::<Portable>();
}

/// Does `work` with the instructions `V` on blocks of a type, or on signed bytes alone; nothing if it has no blocks.
#[inline(always)]
fn on_blocks<V: Vector, W: BlockWork>(of: Option<QuantType>, work: W) {
    match of {
        None => work.run::<V, SignedBytes, _, _>(),
        Some(QuantType::F32 | QuantType::F16 | QuantType::BF16) => {}
        Some(QuantType::Q4_0) => work.run::<V, legacy::Q4_0, _, _>(),
        Some(QuantType::Q4_1) => work.run::<V, legacy::Q4_1, _, _>(),
        Some(QuantType::Q5_0) => work.run::<V, legacy::Q5_0, _, _>(),
        Some(QuantType::Q5_1) => work.run::<V, legacy::Q5_1, _, _>(),
        Some(QuantType::Q8_0) => work.run::<V, legacy::Q8_0, _, _>(),
        Some(QuantType::Q2K) => work.run::<V, k::Q2, _, _>(),
        Some(QuantType::Q3K) => work.run::<V, k::Q3, _, _>(),
        Some(QuantType::Q4K) => work.run::<V, k::Q4, _, _>(),
        Some(QuantType::Q5K) => work.run::<V, k::Q5, _, _>(),
        Some(QuantType::Q6K) => work.run::<V, k::Q6, _, _>(),
        Some(QuantType::IQ4NL) => work.run::<V, iq4::NonLinear, _, _>(),
        Some(QuantType::IQ4XS) => work.run::<V, iq4::NonLinearOf256, _, _>(),
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a GGUF tensor type that exists but cannot be read here; `None` for numbers without a meaning.
pub fn ggml_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return QuantType::from_ggml(number).map(QuantType::name),
    })
}

/// Widens floats one by one.
#[inline(always)]
fn floats<const BYTES: usize>(bytes: &[u8], out: &mut [f32], widen: impl Fn([u8; BYTES]) -> f32) {
    out.iter_mut().zip(bytes.as_chunks::<BYTES>().0).for_each(|(out, bytes)| *out = widen(*bytes));
}

/// Bytes as the numbers they are, where they are aligned.
fn numbers<T: AnyBitPattern>(bytes: &[u8]) -> Option<&[T]> {
    if cfg!(target_endian = "little") { bytemuck::try_cast_slice(bytes).ok() } else { None }
}

#[inline(always)]
fn dot_floats<const BYTES: usize>(bytes: &[u8], x: &[f32], widen: impl Fn([u8; BYTES]) -> f32) -> f32 {
    simd::widest(
        #[inline(always)]
        || simd::sum2(bytes.as_chunks::<BYTES>().0, x, |w, x| widen(w) * x),
    )
}

/// A little-endian bf16 as `f32`.
#[inline(always)]
fn widen_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// A little-endian f16 as `f32`, without a branch, so that loops of it become vector instructions, and without
/// arithmetic on subnormal numbers, which takes a hundred cycles.
#[inline(always)]
fn widen_f16(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let magnitude = bits & 0x7fff;
    const REBIAS: u32 = (127 - 15) << 23;
    let normal = (magnitude << 13) + REBIAS;
    // A subnormal number counts the smallest one, 2^-24.
    let subnormal = (magnitude as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let infinite_or_nan = normal + REBIAS;
    let widened = match magnitude {
        0..0x400 => subnormal,
        0x400..0x7c00 => normal,
        _ => infinite_or_nan,
    };
    f32::from_bits(widened | (bits & 0x8000) << 16)
}
