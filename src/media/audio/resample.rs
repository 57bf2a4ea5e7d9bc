//! Another sample rate: a windowed sinc, centred on each new sample, in f64.
//!
//! # Numerics
//! The pass band ends at 0.91 of the lower rate's half and nothing above that half is left over: the band that libsoxr's
//! best setting has, to which `scripts/make_media_goldens.py` compares. No delay, no chunks, any two rates.

use rayon::prelude::*;

/// Where the response is one half, of the lower rate's half.
const CUTOFF: f64 = 0.9565;
/// Crossings of zero to each side.
const CROSSINGS: usize = 96;
/// Kaiser's window: 125 dB.
const BETA: f64 = 12.8;
/// Table entries between two crossings; values between entries are interpolated (130 dB).
const STEPS: usize = 2048;

/// The samples at another rate, as many as last the same time.
pub fn resample(samples: &[f32], from_hz: u32, to_hz: u32) -> Vec<f32> {
    let (from, to) = (u64::from(from_hz.max(1)), u64::from(to_hz.max(1)));
    let length = ((samples.len() as u64 * to + from / 2) / from) as usize;
    let table = table();
    // Crossings per input sample.
    let pace = CUTOFF * (to as f64 / from as f64).min(1.0);
    let reach = (CROSSINGS as f64 / pace).ceil() as usize;
    let sample = |n: usize| {
        // The place between two input samples, exact for any length.
        let place = n as u64 * from;
        let (before, fraction) = ((place / to) as usize, (place % to) as f64 / to as f64);
        let first = (before + 1).saturating_sub(reach);
        let end = (before + reach + 1).min(samples.len());
        let weight = |at: usize| {
            let distance = (at as f64 - before as f64 - fraction).abs() * pace * STEPS as f64;
            let (entry, rest) = (distance as usize, distance.fract());
            match table.get(entry..entry + 2) {
                Some(&[left, right]) => left + (right - left) * rest,
                _ => 0.0,
            }
        };
        let near = samples.get(first..end).unwrap_or_default();
        let sum: f64 = near.iter().enumerate().map(|(i, v)| f64::from(*v) * weight(first + i)).sum();
        (sum * pace) as f32
    };
    (0..length).into_par_iter().map(sample).collect()
}

/// The right half of the windowed sinc.
fn table() -> Vec<f64> {
    let value = |i: usize| {
        let x = i as f64 / STEPS as f64;
        let angle = std::f64::consts::PI * x;
        let sinc = if i == 0 { 1.0 } else { angle.sin() / angle };
        let edge = (1.0 - (x / CROSSINGS as f64).powi(2)).max(0.0);
        sinc * bessel(BETA * edge.sqrt()) / bessel(BETA)
    };
    (0..=CROSSINGS * STEPS).map(value).collect()
}

/// The modified Bessel function of order 0.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: u32, length: usize) -> Vec<f32> {
        (0..length).map(|i| (std::f64::consts::TAU * hz * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    #[test]
    fn tones_stay_where_and_as_loud_as_they_are() {
        for (from, to) in [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (22_050, 16_000), (11_025, 16_000)] {
            let hz = 0.8 * f64::from(from.min(to)) / 2.0;
            let resampled = resample(&sine(hz, from, from as usize), from, to);
            assert_eq!(resampled.len(), to as usize);
            // Away from the ends, where the tone begins and stops.
            let (ours, exact) = (&resampled[1000..15_000], &sine(hz, to, to as usize)[1000..15_000]);
            let worst = ours.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-6, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        let resampled = resample(&sine(9_000.0, 48_000, 48_000), 48_000, 16_000);
        let loudest = resampled[1000..15_000].iter().fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(loudest < 1e-5, "{loudest}");
    }

    #[test]
    fn short_and_odd_inputs_are_resampled() {
        for (length, from) in [(0, 8_000), (1, 44_100), (2, 16_001), (7, 192_000), (100, 1), (3, 4_000_000)] {
            let resampled = resample(&vec![0.5; length], from, 16_000);
            assert!(resampled.iter().all(|v| v.is_finite()), "{length} at {from}");
        }
        assert_eq!(resample(&[0.0; 441], 44_100, 16_000).len(), 160);
    }
}
