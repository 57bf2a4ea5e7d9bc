//! The transform of 1024 real f32 samples, rounded as NumPy's.
//!
//! Quiet bins beside loud ones hold little more than what the transform rounds: to have the same features as the processor, the
//! same sums are made in the same order.
//!
//! # Source
//! pocketfft's `rfftp::radf4`, which NumPy's `fft.rfft` runs: five passes of radix 4.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// Samples of a transform: `4^PASSES`.
pub(super) const LENGTH: usize = 1024;
const PASSES: u32 = 5;

/// The factors of every pass.
pub(super) struct Spectrum {
    twiddles: Vec<Vec<f32>>,
}

impl Spectrum {
    pub(super) fn new() -> Self {
        let pass = |k: u32| {
            let (stride, inner) = (4usize.pow(k), LENGTH / 4usize.pow(k + 1));
            let mut factors = vec![0.0; 3 * (inner - 1)];
            for j in 1..4 {
                for i in 1..=(inner - 1) / 2 {
                    let angle = TAU * (j * stride * i) as f64 / LENGTH as f64;
                    let at = (j - 1) * (inner - 1) + 2 * i - 2;
                    (factors[at], factors[at + 1]) = (angle.cos() as f32, angle.sin() as f32);
                }
            }
            factors
        };
        Spectrum { twiddles: (0..PASSES).map(pass).collect() }
    }

    /// The magnitudes of frequencies 0 to half the rate of [`LENGTH`] samples.
    pub(super) fn magnitudes(&self, samples: &[f32]) -> Vec<f32> {
        let mut halves = samples.to_vec(); // r0, r1, i1, r2, i2, .., r512
        halves.resize(LENGTH, 0.0);
        let mut others = vec![0.0; LENGTH];
        let mut groups = LENGTH;
        for factors in self.twiddles.iter().rev() {
            let inner = LENGTH / groups;
            groups /= 4;
            radix4(inner, groups, &halves, &mut others, factors);
            std::mem::swap(&mut halves, &mut others);
        }
        let (first, last) = (halves[0].abs(), halves[LENGTH - 1].abs());
        let between = halves[1..LENGTH - 1].as_chunks().0.iter().map(|[r, i]| r.hypot(*i));
        std::iter::once(first).chain(between).chain([last]).collect()
    }
}

/// One pass: `[4, groups, inner]` becomes `[groups, 4, inner]`.
fn radix4(inner: usize, groups: usize, from: &[f32], to: &mut [f32], factors: &[f32]) {
    let input = |i: usize, group: usize, part: usize| from[i + inner * (group + groups * part)];
    let output = |i: usize, part: usize, group: usize| i + inner * (part + 4 * group);
    let factor = |part: usize, i: usize| factors[i + part * (inner - 1)];
    for k in 0..groups {
        let (sum_odd, sum_even) = (input(0, k, 3) + input(0, k, 1), input(0, k, 0) + input(0, k, 2));
        to[output(0, 2, k)] = input(0, k, 3) - input(0, k, 1);
        to[output(inner - 1, 1, k)] = input(0, k, 0) - input(0, k, 2);
        to[output(0, 0, k)] = sum_even + sum_odd;
        to[output(inner - 1, 3, k)] = sum_even - sum_odd;
    }
    if inner % 2 == 0 {
        const ROOT: f32 = FRAC_1_SQRT_2 as f32;
        for k in 0..groups {
            let [a, b, c, d] = [0, 1, 2, 3].map(|part| input(inner - 1, k, part));
            let (imaginary, real) = (-ROOT * (b + d), ROOT * (b - d));
            to[output(inner - 1, 0, k)] = a + real;
            to[output(inner - 1, 2, k)] = a - real;
            to[output(0, 3, k)] = imaginary + c;
            to[output(0, 1, k)] = imaginary - c;
        }
    }
    for k in 0..groups {
        for i in (2..inner).step_by(2) {
            let mirrored = inner - i;
            let turned = |part: usize| {
                let (cos, sin) = (factor(part - 1, i - 2), factor(part - 1, i - 1));
                let (real, imaginary) = (input(i - 1, k, part), input(i, k, part));
                (cos * real + sin * imaginary, cos * imaginary - sin * real)
            };
            let ((r2, i2), (r3, i3), (r4, i4)) = (turned(1), turned(2), turned(3));
            let (tr1, tr4, ti1, ti4) = (r4 + r2, r4 - r2, i2 + i4, i2 - i4);
            let (tr2, tr3) = (input(i - 1, k, 0) + r3, input(i - 1, k, 0) - r3);
            let (ti2, ti3) = (input(i, k, 0) + i3, input(i, k, 0) - i3);
            to[output(i - 1, 0, k)] = tr2 + tr1;
            to[output(mirrored - 1, 3, k)] = tr2 - tr1;
            to[output(i, 0, k)] = ti1 + ti2;
            to[output(mirrored, 3, k)] = ti1 - ti2;
            to[output(i - 1, 2, k)] = tr3 + ti4;
            to[output(mirrored - 1, 1, k)] = tr3 - ti4;
            to[output(i, 2, k)] = tr4 + ti3;
            to[output(mirrored, 1, k)] = tr4 - ti3;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_those_of_the_definition() {
        let samples: Vec<f32> = (0..700).map(|i| ((i * i % 97) as f32 / 50.0 - 1.0) * 0.5).collect();
        let ours = Spectrum::new().magnitudes(&samples);
        assert_eq!(ours.len(), LENGTH / 2 + 1);
        for (frequency, magnitude) in ours.iter().enumerate() {
            let part = |turn: fn(f64) -> f64| -> f64 {
                let angle = |n: usize| TAU * (frequency * n % LENGTH) as f64 / LENGTH as f64;
                samples.iter().enumerate().map(|(n, v)| f64::from(*v) * turn(angle(n))).sum()
            };
            let exact = part(f64::cos).hypot(part(f64::sin));
            assert!((f64::from(*magnitude) - exact).abs() < 2e-5, "{frequency}: {magnitude}, expected {exact}");
        }
    }
}
