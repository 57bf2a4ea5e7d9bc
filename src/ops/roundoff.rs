//! How finely the factors of products are rounded, and how near results then are.

use super::node::is_cpu;
use super::product::product;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use std::fmt;

/// The numbers that a device rounds the factors of a product to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Roundoff {
    /// 24 bits: nothing is lost.
    F32,
    /// f32 whose factors are cut to 11 bits by matrix units.
    Tf32,
    /// 11 bits.
    F16,
    /// 8 bits.
    Bf16,
}

impl Roundoff {
    /// What products that ask for a dtype are made of on a device. For f32 the device is asked by products; the CPU
    /// rounds nothing then, and has no f16.
    pub fn of(device: &Device, compute_dtype: FloatDType) -> Self {
        match compute_dtype {
            FloatDType::BF16 => Roundoff::Bf16,
            _ if is_cpu(device) => Roundoff::F32,
            FloatDType::F16 => Roundoff::F16,
            _ => measured(device),
        }
    }

    /// The coarsest that loses no more than f32 numbers of so many bits do.
    fn of_bits(bits: u32) -> Self {
        match bits {
            24.. => Roundoff::F32,
            11..24 => Roundoff::Tf32,
            _ => Roundoff::Bf16,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Roundoff::F32 => "f32",
            Roundoff::Tf32 => "tf32",
            Roundoff::F16 => "f16",
            Roundoff::Bf16 => "bf16",
        }
    }

    /// The largest relative error of one rounding.
    pub fn unit(self) -> f64 {
        let bits = match self {
            Roundoff::F32 => 24,
            Roundoff::Tf32 | Roundoff::F16 => 11,
            Roundoff::Bf16 => 8,
        };
        0.5f64.powi(bits)
    }

    /// How far (relative, L2) a result may be from the exact one after so many products in a chain.
    ///
    /// # Numerics
    /// A product rounds two factors, each by at most one unit: relative to the norm of a sum of terms with any signs its
    /// error is below two units, and errors of products in a chain add up at most. What is summed, and all that lies
    /// between products, is f32 everywhere ([`F32_TOLERANCE`]).
    pub fn tolerance(self, products: f64) -> f64 {
        F32_TOLERANCE + self.of_products(products)
    }

    /// What the rounding of factors alone adds to that; where nothing is rounded, nothing.
    pub fn of_products(self, products: f64) -> f64 {
        if self == Roundoff::F32 { 0.0 } else { 2.0 * products * self.unit() }
    }
}

impl fmt::Display for Roundoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far (relative, L2) an operation in f32 may be from the same one elsewhere: a sum of `k` terms in another order
/// differs by about `sqrt(k)` units, `6e-8` each, an exponential or a root of a device by a few. This is three sums of
/// some thousands of terms, one after the other.
pub const F32_TOLERANCE: f64 = 1e-5;

/// What a device makes of the factors of its f32 products, found out by products that only whole factors get right.
fn measured(device: &Device) -> Roundoff {
    // Matrices that kernels for large ones would take.
    const SIDE: usize = 128;
    let device = device.clone().inner();
    // Row i holds 1 + 2^-j, with j from 0 to 23 in turn: as many bits as are kept.
    let bits = |row: usize| (row % 24) as i32;
    let values: Vec<f32> = (0..SIDE * SIDE).map(|at| 1.0 + 2f32.powi(-bits(at / SIDE))).collect();
    let x = Tensor::<2>::from_data(TensorData::new(values.clone(), [SIDE, SIDE]), &device);
    let one = Tensor::<2>::eye(SIDE, &device);
    let kept = |product: Tensor<2>, at: &dyn Fn(usize) -> usize| {
        let got: Vec<f32> = product.into_data().iter().collect();
        let wrong = (0..SIDE * SIDE).filter(|&i| got[i] != values[at(i)]).map(|i| bits(at(i) / SIDE));
        wrong.min().unwrap_or(24)
    };
    let transposed = |at: usize| at % SIDE * SIDE + at / SIDE;
    let left = kept(product(x.clone(), one.clone()), &|at| at);
    let right = kept(product(one.clone(), x.clone()), &|at| at);
    let turned = kept(product(one, x.transpose()), &transposed);
    Roundoff::of_bits(left.min(right).min(turned).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_units_and_tolerances_follow_the_bits() {
        assert_eq!(
            [8, 11, 12, 23, 24].map(|bits| Roundoff::of_bits(bits).name()),
            ["bf16", "tf32", "tf32", "tf32", "f32"]
        );
        assert_eq!(Roundoff::F32.tolerance(7.0), F32_TOLERANCE);
        assert_eq!(Roundoff::Bf16.tolerance(2.0), F32_TOLERANCE + 1.0 / 64.0);
        assert_eq!(Roundoff::Tf32.unit(), Roundoff::F16.unit());
    }

    #[test]
    fn the_cpu_multiplies_f32() {
        assert_eq!(Roundoff::of(&Device::flex(), FloatDType::F32), Roundoff::F32);
        assert_eq!(Roundoff::of(&Device::flex(), FloatDType::BF16), Roundoff::Bf16);
        assert_eq!(measured(&Device::flex()), Roundoff::F32);
    }
}
