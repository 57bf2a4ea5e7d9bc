//! Functions for plain loops, which become vector code in [`vectorised`].

pub(crate) use crate::quant::simd::vectorised;

/// `e^x` within 2 ulp, free of branches and calls so that loops over it become vector code.
///
/// # Numerics
/// Finite results below `1.6e-38` are 0, since subnormal numbers would slow whatever multiplies them; above the range
/// the result is infinite, and NaN stays NaN. Multiply-adds are fused: one instruction inside [`vectorised`], but
/// outside of it a slow call on x86-64. The bits are the same either way.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// From here up the result is infinite: `1.3 · 2^127 · 2` overflows.
    const MAX: f32 = 89.0;
    /// From here down the result is 0: `n = -126` leaves a zero exponent field.
    const MIN: f32 = -87.5;
    /// Adding `1.5 · 2^23` to a small number rounds it to an integer, which then sits in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, so that `n ln 2` leaves no rounding error worth its name.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // Comparisons that are false for NaN let it through, unlike `clamp` on some instruction sets.
    let x = if x > MAX { MAX } else { x };
    let x = if x < MIN { MIN } else { x };

    // e^x = 2^n · e^r with r in [-ln 2 / 2, ln 2 / 2].
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));

    // e^r = 1 + r + r² q(r), with q the minimax polynomial for the relative error of e^r, 3e-9.
    let q = 0.001_381_454_f32.mul_add(r, 0.008_368_745);
    let q = q.mul_add(r, 0.041_668_39);
    let q = q.mul_add(r, 0.166_665_21);
    let q = q.mul_add(r, 0.499_999_94);
    let e_r = (r * r).mul_add(q, r) + 1.0;

    // 2^(n - 1) is written into the exponent field; the last doubling reaches 2^128.
    let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(126);
    let half_scale = f32::from_bits((exponent as u32).wrapping_shl(23));
    e_r * half_scale * 2.0
}

/// `tanh x` within 2 ulp, as free of branches as [`exp`].
///
/// # Numerics
/// NaN stays NaN, and 0 keeps its sign.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    /// From here out the exponential is precise enough; nearer to 0 its 1 would hide the result.
    const FAR: f32 = 0.625;
    let size = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);

    // x + x³ q(x²), with q the minimax polynomial for the relative error below FAR, 5e-9.
    let square = x * x;
    let q = (-0.005_704_987_f32).mul_add(square, 0.020_639_087);
    let q = q.mul_add(square, -0.053_739_715);
    let q = q.mul_add(square, 0.133_314_42);
    let q = q.mul_add(square, -0.333_332_8);
    let near = (size * square).mul_add(q, size);
    (if size > FAR { far } else { near }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn exponentiate(x: &[f32], y: &mut [f32]) {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = exp(x));
        }

        fn bend(x: &[f32], y: &mut [f32]) {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = tanh(x));
        }
    }

    #[test]
    fn tanh_is_within_two_ulp_of_the_exact_value_and_has_its_limits() {
        let small = (-126..0).map(|e| 2.0f32.powi(e) * 1.3);
        let mut worst = 0.0f64;
        for x in small.chain((1..=100_000).map(|i| i as f32 * 1e-4)).flat_map(|x| [x, -x]) {
            let exact = f64::from(x).tanh();
            let ulp = f64::from((exact.abs() as f32).next_up()) - f64::from(exact.abs() as f32);
            worst = worst.max((f64::from(tanh(x)) - exact).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} ulp");
        for (x, y) in [(0.0f32, 0.0f32), (-0.0, -0.0), (50.0, 1.0), (f32::MAX, 1.0), (f32::NEG_INFINITY, -1.0)] {
            assert_eq!(tanh(x).to_bits(), y.to_bits(), "tanh({x})");
        }
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn exp_is_within_two_ulp_of_the_exact_value() {
        let mut worst = 0.0f64;
        for i in -86_900..=88_720 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} ulp");
    }

    #[test]
    fn exp_has_the_limits_of_the_function() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-f32::NAN).is_nan());
    }

    #[test]
    fn vector_code_gives_the_bits_of_scalar_code() {
        let x: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) * 0.17).collect();
        let mut y = vec![0.0; x.len()];
        exponentiate(&x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            assert_eq!(y.to_bits(), exp(x).to_bits(), "exp({x})");
        }
        bend(&x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            assert_eq!(y.to_bits(), tanh(x).to_bits(), "tanh({x})");
        }
    }
}
