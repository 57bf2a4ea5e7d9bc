//! What a code can stand for, and arithmetic on many candidates at once.

use crate::quant::gguf_blocks::iq4::VALUES;
use half::f16;

/// Candidates that are tried side by side.
pub(super) const TRIES: usize = 16;

/// `for $i in 0..$n`, of an innermost loop: in a build for tests each step of a range is a call, which then takes most of the time.
macro_rules! below {
    ($i:ident, $n:expr, $body:block) => {{
        let mut $i = 0;
        while $i < $n {
            $body
            $i += 1;
        }
    }};
}
pub(super) use below;

/// A number of each candidate.
pub(super) type Lanes = [f32; TRIES];

/// The values that codes stand for, before they are scaled.
pub(super) trait Codes {
    /// The least.
    const LOW: f32;
    /// The greatest.
    const HIGH: f32;

    /// The value that is nearest to `x`.
    fn nearest(x: f32) -> f32;

    /// The number of a value.
    fn code(value: f32) -> u8;
}

/// All whole numbers from `LOW` to `HIGH`.
pub(super) struct Whole<const LOW: i8, const HIGH: i8>;

impl<const LOW: i8, const HIGH: i8> Codes for Whole<LOW, HIGH> {
    const LOW: f32 = LOW as f32;
    const HIGH: f32 = HIGH as f32;

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        round(within(x, Self::LOW, Self::HIGH))
    }

    #[inline(always)]
    fn code(value: f32) -> u8 {
        (value - Self::LOW) as u8
    }
}

/// The sixteen values of the non-linear types.
pub(super) struct Chosen;

impl Codes for Chosen {
    const LOW: f32 = VALUES[0] as f32;
    const HIGH: f32 = VALUES[15] as f32;

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        let mut nearest = Self::LOW;
        below!(pair, 15, {
            let (value, next) = (f32::from(VALUES[pair]), f32::from(VALUES[pair + 1]));
            nearest = if x > (value + next) * 0.5 { next } else { nearest };
        });
        nearest
    }

    #[inline(always)]
    fn code(value: f32) -> u8 {
        VALUES.iter().map(|of| u8::from(value > f32::from(*of))).sum()
    }
}

/// To the nearest whole number, ties to even, of a number that is no larger than 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    const SHIFT: f32 = (3 << 22) as f32;
    (x + SHIFT) - SHIFT
}

/// `x`, or the bound that it is beyond.
#[inline(always)]
pub(super) fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// `1 / x`, and 0 of 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The nearest f16 that is no smaller in magnitude, so that the largest number of a block stays in reach where f16 is
/// coarse.
#[inline(always)]
pub(super) fn outward(x: f32) -> f16 {
    let near = f16::from_f32(x);
    if near.to_f32().abs() < x.abs() { f16::from_bits(near.to_bits() + 1) } else { near }
}

/// The candidate with the least number, the first of equal ones.
#[inline(always)]
pub(super) fn least(of: &Lanes) -> usize {
    let mut best = 0;
    for lane in 1..TRIES {
        best = if of[lane] < of[best] { lane } else { best };
    }
    best
}
