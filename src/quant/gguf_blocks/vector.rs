//! What codes are worked on with: 32 bytes, and eight floats, side by side.

/// Codes that are taken out of a block at a time.
pub(in crate::quant) const UNIT: usize = 32;

/// How far ahead memory is asked: measured, half a page to a whole one are alike.
pub(super) const AHEAD: usize = 2048;

/// What a byte is worth at the top of 32 bits.
pub(in crate::quant) const FROM_TOP: f32 = 16_777_216.0;

/// The instructions of a processor. All give the same bits.
pub(in crate::quant) trait Vector {
    /// A unit of codes.
    type Bytes: Copy;
    /// Eight floats.
    type Floats: Copy;

    /// Says that as many bytes are read soon, [`AHEAD`] after these; nothing need be there. Few inputs take less time than memory
    /// takes to answer, and what a processor fetches by itself ends with each page.
    #[inline(always)]
    fn read_soon<const BYTES: usize>(_: &[u8; BYTES]) {}

    fn load(bytes: &[u8; UNIT]) -> Self::Bytes;

    /// The low nibbles of all bytes, then the high ones.
    fn nibbles(bytes: &[u8; UNIT / 2]) -> Self::Bytes;

    /// Bytes of ones where the bit of this number, from the lowest of the first byte on, is set.
    fn spread(bits: [u8; UNIT / 8]) -> Self::Bytes;

    /// The bits of each byte from number `at` on, as many as `mask` has: no more than there are.
    fn field(bytes: Self::Bytes, at: usize, mask: u8) -> Self::Bytes;

    fn and(bytes: Self::Bytes, mask: u8) -> Self::Bytes;

    fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// Each byte shifted up: no bit may leave it.
    fn up(bytes: Self::Bytes, by: usize) -> Self::Bytes;

    fn minus(bytes: Self::Bytes, what: u8) -> Self::Bytes;

    /// For each byte, which is below sixteen, the value in its place of the table.
    fn chosen(bytes: Self::Bytes, values: &[i8; 16]) -> Self::Bytes;

    /// The signed bytes as floats.
    fn widened(bytes: Self::Bytes) -> [Self::Floats; 4];

    /// The signed bytes as floats, [`FROM_TOP`] times too large, in fours of which one half of them has the first and the other
    /// half the second: 0..4 and 16..20, 4..8 and 20..24, ..
    ///
    /// Each byte goes to the top of 32 bits, where it needs no sign to be spread, and stays on its side of the register.
    fn fours(bytes: Self::Bytes) -> [Self::Floats; 4];

    /// The sums of four products each of signed bytes. No byte of `x` is -128.
    fn sums_of_four(bytes: Self::Bytes, x: &[i8; UNIT]) -> Self::Floats;

    fn read(floats: &[f32; 8]) -> Self::Floats;

    fn write(floats: Self::Floats, to: &mut [f32; 8]);

    /// Four of one number, then four of the other.
    fn halves(low: f32, high: f32) -> Self::Floats;

    fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a b + c`, rounded once.
    fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// A little-endian f16.
    fn half(bytes: [u8; 2]) -> f32;

    /// The same number eight times.
    #[inline(always)]
    fn all(number: f32) -> Self::Floats {
        Self::halves(number, number)
    }

    /// The sum of eight, by halves.
    #[inline(always)]
    fn sum(floats: Self::Floats) -> f32 {
        let mut eight = [0.0; 8];
        Self::write(floats, &mut eight);
        let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// As any processor can.
pub(super) struct Portable;

impl Vector for Portable {
    type Bytes = [u8; UNIT];
    type Floats = [f32; 8];

    #[inline(always)]
    fn load(bytes: &[u8; UNIT]) -> [u8; UNIT] {
        *bytes
    }

    #[inline(always)]
    fn nibbles(bytes: &[u8; UNIT / 2]) -> [u8; UNIT] {
        std::array::from_fn(|i| bytes[i % bytes.len()] >> (4 * (i / bytes.len())) & 15)
    }

    #[inline(always)]
    fn spread(bits: [u8; UNIT / 8]) -> [u8; UNIT] {
        std::array::from_fn(|i| 0u8.wrapping_sub(bits[i / 8] >> (i % 8) & 1))
    }

    #[inline(always)]
    fn field(bytes: [u8; UNIT], at: usize, mask: u8) -> [u8; UNIT] {
        bytes.map(|byte| byte >> at & mask)
    }

    #[inline(always)]
    fn and(bytes: [u8; UNIT], mask: u8) -> [u8; UNIT] {
        bytes.map(|byte| byte & mask)
    }

    #[inline(always)]
    fn or(a: [u8; UNIT], b: [u8; UNIT]) -> [u8; UNIT] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn up(bytes: [u8; UNIT], by: usize) -> [u8; UNIT] {
        bytes.map(|byte| byte << by)
    }

    #[inline(always)]
    fn minus(bytes: [u8; UNIT], what: u8) -> [u8; UNIT] {
        bytes.map(|byte| byte.wrapping_sub(what))
    }

    #[inline(always)]
    fn chosen(bytes: [u8; UNIT], values: &[i8; 16]) -> [u8; UNIT] {
        bytes.map(|byte| values[usize::from(byte & 15)].cast_unsigned())
    }

    #[inline(always)]
    fn widened(bytes: [u8; UNIT]) -> [[f32; 8]; 4] {
        std::array::from_fn(|part| std::array::from_fn(|i| f32::from(bytes[8 * part + i].cast_signed())))
    }

    #[inline(always)]
    fn fours(bytes: [u8; UNIT]) -> [[f32; 8]; 4] {
        let at = |four: usize, i: usize| 4 * four + i % 4 + 16 * (i / 4);
        std::array::from_fn(|four| std::array::from_fn(|i| f32::from(bytes[at(four, i)].cast_signed()) * FROM_TOP))
    }

    #[inline(always)]
    fn sums_of_four(bytes: [u8; UNIT], x: &[i8; UNIT]) -> [f32; 8] {
        std::array::from_fn(|lane| {
            let products = (4 * lane..4 * lane + 4).map(|i| i32::from(bytes[i].cast_signed()) * i32::from(x[i]));
            products.sum::<i32>() as f32
        })
    }

    #[inline(always)]
    fn read(floats: &[f32; 8]) -> [f32; 8] {
        *floats
    }

    #[inline(always)]
    fn write(floats: [f32; 8], to: &mut [f32; 8]) {
        *to = floats;
    }

    #[inline(always)]
    fn halves(low: f32, high: f32) -> [f32; 8] {
        std::array::from_fn(|i| if i < 4 { low } else { high })
    }

    #[inline(always)]
    fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn multiply(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn multiply_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn half(bytes: [u8; 2]) -> f32 {
        super::widen_f16(bytes)
    }
}
