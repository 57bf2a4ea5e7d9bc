//! Numbers that are no weights: not finite, or so large that their squares leave f32.

use super::simd;
use super::{Absmax, QuantType};

/// The largest magnitude of a weight. Trained weights stay below a thousand; of what is beyond this no norm can be
/// formed in f32.
pub const LARGEST_WEIGHT: f32 = 1e18;

/// A number of a tensor that is no weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unusable {
    /// Its position among the tensor's elements, row after row; of a block's scale the block's first element.
    pub element: usize,
    /// The number.
    pub value: f32,
    /// Whether it is the scale of a block, or a number of its own.
    pub is_scale: bool,
}

impl Unusable {
    /// The same, `elements` further on.
    pub fn after(self, elements: usize) -> Self {
        Unusable { element: self.element + elements, ..self }
    }
}

/// The first number that is no weight.
pub fn first_unusable(values: &[f32]) -> Option<Unusable> {
    let is_usable = |value: &f32| value.abs() <= LARGEST_WEIGHT;
    let chunks = values.chunks(RUN).enumerate();
    let bad = |chunk: &[f32]| {
        simd::widest(
            #[inline(always)]
            || !chunk.iter().fold(true, |all, value| all & is_usable(value)),
        )
    };
    let (number, chunk) = chunks.into_iter().find(|(_, chunk)| bad(chunk))?;
    let at = chunk.iter().position(|value| !is_usable(value))?;
    Some(Unusable { element: number * RUN + at, value: chunk[at], is_scale: false })
}

/// Elements that are looked at together before it is asked which of them it was.
const RUN: usize = 1 << 12;

impl QuantType {
    /// The first number of whole blocks that is no weight: an element of plain floats, a scale or minimum of the
    /// others, whose elements are then finite.
    pub fn first_unusable(self, bytes: &[u8]) -> Option<Unusable> {
        match self {
            QuantType::F32 => {
                let limit = LARGEST_WEIGHT.to_bits();
                floats::<4>(bytes, |b| u32::from_le_bytes(b) & 0x7fff_ffff > limit, f32::from_le_bytes)
            }
            QuantType::BF16 => {
                let limit = (LARGEST_WEIGHT.to_bits() >> 16) as u16;
                floats::<2>(bytes, |b| u16::from_le_bytes(b) & 0x7fff > limit, |b| half::bf16::from_le_bytes(b).into())
            }
            QuantType::F16 => floats::<2>(bytes, not_finite, |b| half::f16::from_le_bytes(b).into()),
            _ => {
                let blocks = bytes.chunks_exact(self.block_bytes()).enumerate();
                let scales = blocks.flat_map(|(number, block)| {
                    self.scales().iter().filter_map(move |&at| Some((number, *block.get(at..)?.first_chunk::<2>()?)))
                });
                scales.into_iter().find(|(_, scale)| not_finite(*scale)).map(|(number, scale)| Unusable {
                    element: number * self.block_size(),
                    value: half::f16::from_le_bytes(scale).into(),
                    is_scale: true,
                })
            }
        }
    }

    /// Where a block's half-precision scales and minima are.
    pub(super) fn scales(self) -> &'static [usize] {
        match self {
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => &[],
            QuantType::Q4_0 | QuantType::Q5_0 | QuantType::Q8_0 | QuantType::IQ4NL | QuantType::IQ4XS => &[0],
            QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => &[0, 2],
            QuantType::Q2K => &[80, 82],
            QuantType::Q3K => &[108],
            QuantType::Q6K => &[208],
        }
    }
}

#[inline(always)]
fn not_finite(half: [u8; 2]) -> bool {
    u16::from_le_bytes(half) & 0x7c00 == 0x7c00
}

fn floats<const BYTES: usize>(
    bytes: &[u8],
    is_bad: impl Fn([u8; BYTES]) -> bool,
    widen: impl Fn([u8; BYTES]) -> f32,
) -> Option<Unusable> {
    let (all, _) = bytes.as_chunks::<BYTES>();
    let any = |chunk: &[[u8; BYTES]]| {
        simd::widest(
            #[inline(always)]
            || chunk.iter().fold(false, |any, value| any | is_bad(*value)),
        )
    };
    let (number, chunk) = all.chunks(RUN).enumerate().find(|(_, chunk)| any(chunk))?;
    let at = chunk.iter().position(|value| is_bad(*value))?;
    Some(Unusable { element: number * RUN + at, value: widen(chunk[at]), is_scale: false })
}

impl Absmax {
    /// The first maximum of a block of `block` weights that is none: not finite, or too large.
    pub fn first_unusable(&self, block: usize) -> Option<Unusable> {
        let of_block = |found: Unusable| Unusable { element: found.element * block, is_scale: true, ..found };
        match self {
            Absmax::Plain(maxima) => first_unusable(maxima).map(of_block),
            Absmax::Double(double) => {
                let largest = double.map.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let nested = super::absmax::NESTED_BLOCK * block;
                let reach = |scale: &f32| scale.abs() * largest + double.offset.abs();
                let broken_map = first_unusable(&double.map[..]).map(|found| Unusable { element: 0, ..found });
                let broken_scale = || {
                    let at = double.scales.iter().position(|scale| first_unusable(&[reach(scale)]).is_some())?;
                    let value = if double.offset.is_finite() { double.scales[at] } else { double.offset };
                    Some(Unusable { element: at * nested, value, is_scale: true })
                };
                broken_map.map(|found| Unusable { is_scale: true, ..found }).or_else(broken_scale)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::absmax::DoubleQuantized;

    #[test]
    fn the_first_number_that_is_no_weight_is_found() {
        let mut values = vec![0.5f32; 10_000];
        assert_eq!(first_unusable(&values), None);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e37, -2e18] {
            values[9_000] = wrong;
            let found = first_unusable(&values).unwrap();
            assert_eq!((found.element, found.value.to_bits(), found.is_scale), (9_000, wrong.to_bits(), false));
        }
        values[9_000] = 1e18;
        assert_eq!(first_unusable(&values), None);
    }

    #[test]
    fn each_type_finds_what_its_elements_would_be() {
        for of in QuantType::ALL {
            let blocks = 5000 / of.block_size() + 3;
            // Bits of 0x2e2e are an ordinary number as f16, bf16 and f32.
            let good = vec![0x2e; blocks * of.block_bytes()];
            assert_eq!(of.first_unusable(&good), None, "{of}");
            let places: Vec<usize> = match of {
                QuantType::F32 | QuantType::BF16 => vec![of.block_bytes() - 2],
                QuantType::F16 => vec![0],
                _ => of.scales().to_vec(),
            };
            for place in places {
                for wrong in [0x7e80u16, 0xff80] {
                    let mut bytes = good.clone();
                    let start = (blocks - 2) * of.block_bytes() + place;
                    bytes[start..start + 2].copy_from_slice(&wrong.to_le_bytes());
                    let found = of.first_unusable(&bytes).unwrap_or_else(|| panic!("{of} at {place}: {wrong:x}"));
                    assert_eq!(found.element, (blocks - 2) * of.block_size(), "{of}");
                    assert_eq!(found.is_scale, !of.is_float(), "{of}");
                    if of.is_float() {
                        continue;
                    }
                    let mut out = vec![0.0; blocks * of.block_size()];
                    of.dequantize(&bytes, &mut out).unwrap();
                    assert!(out.iter().any(|x| !x.is_finite()), "{of}: what was found does matter");
                }
            }
        }
    }

    #[test]
    fn maxima_of_nf4_are_looked_at_in_both_forms() {
        let maxima: Vec<f32> = (0..600).map(|i| 0.01 * i as f32).collect();
        assert_eq!(Absmax::Plain(maxima.clone().into()).first_unusable(64), None);
        let mut wrong = maxima.clone();
        wrong[7] = f32::INFINITY;
        assert_eq!(Absmax::Plain(wrong.into()).first_unusable(64).unwrap().element, 7 * 64);

        let double = DoubleQuantized::new(&maxima);
        assert_eq!(Absmax::Double(double.clone()).first_unusable(64), None);
        let scales = vec![1.0, f32::NAN, 1.0].into();
        let found = Absmax::Double(DoubleQuantized { scales, ..double.clone() }).first_unusable(64).unwrap();
        assert_eq!(found.element, 256 * 64);
        assert!(Absmax::Double(DoubleQuantized { offset: f32::NAN, ..double.clone() }).first_unusable(64).is_some());
        let mut map = *double.map;
        map[200] = f32::NAN;
        assert!(Absmax::Double(DoubleQuantized { map: map.into(), ..double }).first_unusable(64).is_some());
    }
}
