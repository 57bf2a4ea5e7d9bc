//! The front end of Gemma 3n's audio tower: windowed frames, their spectrum, mel bins, logarithm.
//!
//! # Source
//! `Gemma3nAudioFeatureExtractor`: HTK's preemphasis in each frame by itself, a periodic Hann window, magnitudes (no powers),
//! triangles on the HTK mel scale, the natural logarithm of what is above the floor.
//!
//! # Numerics
//! Frames are f32, as there, and so is the window, to the last bit; NumPy's transform of them is exact to f32, so this one is f64
//! and rounded. A bin without sound beside a loud one holds what frames round, so nothing there may be rounded in another way.

use super::processor::AudioProcessor;
use rayon::prelude::*;
use rustfft::{Fft, FftDirection, algorithm::Radix4, num_complex::Complex};

/// Samples of a transform: frames are padded with zeros to it.
const FFT_LENGTH: usize = 1024;

/// The log-mel spectrogram of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    /// Frames, those of the silence at the end included.
    pub frames: usize,
    /// Frames that begin within the clip.
    pub valid_frames: usize,
    /// Mel bins of a frame.
    pub bins: usize,
    /// `[frames, bins]`.
    pub values: Vec<f32>,
}

impl AudioProcessor {
    /// The features of one clip at the processor's rate.
    pub fn log_mel(&self, samples: &[f32]) -> LogMel {
        extract(self, samples)
    }
}

fn extract(processor: &AudioProcessor, samples: &[f32]) -> LogMel {
    let AudioProcessor { frame_length, hop_length, feature_size: bins, .. } = *processor;
    let frames = processor.frames(samples.len());
    let (window, filters) = (window(frame_length), filters(processor));
    // Named, since a planner brings the transform of every other length into the program too.
    let fft = Radix4::<f64>::new(FFT_LENGTH, FftDirection::Forward);
    let sample = |at: usize| samples.get(at).copied().unwrap_or(0.0);
    // Narrowed to f32 where it meets samples, as NumPy does.
    let (first, preemphasis) = ((1.0 - processor.preemphasis) as f32, processor.preemphasis as f32);

    let frame = |n: usize| -> Vec<f32> {
        let emphasised = |i: usize| match n * hop_length + i {
            at if i == 0 => sample(at) * first,
            at => sample(at) - preemphasis * sample(at - 1),
        };
        let windowed = window.iter().enumerate().map(|(i, weight)| emphasised(i) * weight);
        let mut spectrum: Vec<Complex<f64>> = windowed.map(|v| Complex::from(f64::from(v))).collect();
        spectrum.resize(FFT_LENGTH, Complex::default());
        fft.process(&mut spectrum);
        let half = spectrum.iter().take(FFT_LENGTH / 2 + 1);
        let magnitudes: Vec<f32> = half.map(|c| magnitude(c.re as f32, c.im as f32)).collect();
        let bin = |Filter { first, weights }: &Filter| {
            let sum: f64 = magnitudes[*first..].iter().zip(weights).map(|(m, w)| f64::from(*m) * w).sum();
            sum.max(processor.mel_floor).ln() as f32
        };
        filters.iter().map(bin).collect()
    };
    let values = (0..frames).into_par_iter().flat_map_iter(frame).collect();
    let valid_frames = processor.valid_frames(samples.len());
    LogMel { frames, valid_frames, bins, values }
}

/// A periodic Hann window, of angles that are f32 as there.
fn window(length: usize) -> Vec<f32> {
    let angle = |i: usize| std::f32::consts::TAU * i as f32 / length as f32;
    (0..length).map(|i| 0.5 * (1.0 - cosine(angle(i)))).collect()
}

/// The cosine as NumPy's vector instructions compute it, which is a unit of the last place beside the nearest f32 here and
/// there: that is louder than what some bins hold.
///
/// The angle less its nearest multiple of a quarter turn, the quarter in three parts; then a polynomial in the square of what is
/// left, that of the sine in odd quarters.
fn cosine(angle: f32) -> f32 {
    /// What is added to it loses its fraction: 1.5 times 2^23.
    const WHOLE: f32 = 12_582_912.0;
    const QUARTER: [f32; 3] = [f32::from_bits(0x3FC9_0FD8), 3.139_164_7e-7, 5.390_302_5e-15]; // the first ends in zeros
    const COSINE: [f32; 5] = [2.437_226_6e-5, -1.388_652e-3, 0.041_666_62, -0.5, 1.0];
    const SINE: [f32; 4] = [2.840_409_7e-6, -1.985_649_1e-4, 8.333_397e-3, -0.166_666_67];
    let polynomial = |of: &[f32], x: f32| of.iter().fold(0.0, |sum: f32, factor| sum.mul_add(x, *factor));
    let quarters = angle.mul_add(std::f32::consts::FRAC_2_PI, WHOLE) - WHOLE;
    let rest = QUARTER.iter().fold(angle, |rest, part| quarters.mul_add(-part, rest));
    let square = rest * rest;
    let value = if quarters % 2.0 == 0.0 {
        polynomial(&COSINE, square)
    } else {
        (polynomial(&SINE, square) * square).mul_add(rest, rest)
    };
    // The sine of the first quarter and the cosine of the second are below 0.
    if (1.0..3.0).contains(&quarters.rem_euclid(4.0)) { -value } else { value }
}

/// How long a vector of f32 is, rounded once.
fn magnitude(x: f32, y: f32) -> f32 {
    f64::from(x).mul_add(f64::from(x), f64::from(y) * f64::from(y)).sqrt() as f32
}

/// A triangle over the frequencies from `first` on.
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

fn filters(processor: &AudioProcessor) -> Vec<Filter> {
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(processor.min_frequency), mel(processor.max_frequency));
    let bins = processor.feature_size;
    let step = (high - low) / (bins + 1) as f64;
    let corners: Vec<f64> = (0..bins + 2).map(|i| hz(low + step * i as f64)).collect();
    let resolution = f64::from(processor.sampling_rate) / FFT_LENGTH as f64;
    let triangle = |corner: &[f64]| {
        let weight = |i: usize| {
            let frequency = i as f64 * resolution;
            let rising = (frequency - corner[0]) / (corner[1] - corner[0]);
            let falling = (corner[2] - frequency) / (corner[2] - corner[1]);
            rising.min(falling).max(0.0)
        };
        let all: Vec<f64> = (0..=FFT_LENGTH / 2).map(weight).collect();
        let first = all.iter().position(|w| *w > 0.0).unwrap_or(0);
        let end = all.iter().rposition(|w| *w > 0.0).map_or(first, |last| last + 1);
        Filter { first, weights: all[first..end].to_vec() }
    };
    corners.windows(3).map(triangle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::golden::{Golden, folder};

    #[test]
    fn the_window_is_that_of_transformers_to_the_last_bit() {
        let golden = Golden::read(&folder("media/sounds.safetensors"));
        let ours: Vec<f64> = window(512).into_iter().map(f64::from).collect();
        assert_eq!(ours, golden.values("window"));
        let nearest = |angle: f32| (f64::from(angle).cos() as f32).to_bits();
        let angles = (0..4096).map(|i| i as f32 / 512.0);
        let worst = angles.map(|angle| nearest(angle).abs_diff(cosine(angle).to_bits())).max();
        assert!(worst <= Some(2), "{worst:?} units of the last place");
    }
}
