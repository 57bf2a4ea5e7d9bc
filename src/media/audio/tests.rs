//! Sounds against libsndfile, FFmpeg, libsoxr and transformers; golden files by `scripts/make_media_goldens.py`.

use super::{AudioProcessor, Clip, Decoding, LogMel, OnLong, decode};
use crate::testkit::golden::{Golden, folder};
use proptest::prelude::*;
use std::f64::consts::TAU;

fn golden() -> Golden {
    Golden::read(&folder("media/sounds.safetensors"))
}

/// The signal that the script's `voice` makes.
fn voice(rate: u32, length: usize) -> Vec<f32> {
    let overtones = (0.42 * f64::from(rate) / 150.0) as usize;
    let mut state = 1u32;
    let mut sample = |i: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let t = i as f64 / f64::from(rate);
        let phase = TAU * (120.0 * t + 3.0 * (TAU * 1.3 * t).sin());
        let buzz: f64 = (1..=overtones).map(|k| (k as f64 * phase).sin() / k as f64).sum();
        let noise = f64::from(state) / f64::from(1u32 << 31) - 1.0;
        (0.3 * buzz * (0.2 + (TAU * 3.0 * t).sin().powi(2)) + 0.02 * noise) as f32
    };
    (0..length).map(&mut sample).collect()
}

#[test]
fn every_format_is_decoded_as_others_do() {
    let golden = golden();
    let mut paths: Vec<_> =
        std::fs::read_dir(folder("media/sounds")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let clip = match decode(&std::fs::read(path).unwrap(), &Decoding::default()) {
            Ok(clip) => clip,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let length = golden.values(&format!("{name}/length"))[0] as usize;
        let expected = golden.values(&format!("{name}/every_7th"));
        let ours = clip.samples.iter().step_by(7);
        let worst = ours.zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        // Lossy formats are decoded by other transforms than theirs; the others are numbers of a file.
        let allowed = match name.rsplit('.').next() {
            Some("wav" | "flac") => 1e-7,
            Some("opus") => 2e-3,
            _ => 1e-4,
        };
        if clip.samples.len() != length || worst > allowed {
            wrong.push(format!("{name}: {} samples, expected {length}; differs by {worst:.2e}", clip.samples.len()));
        }
    }
    assert!(paths.len() > 20 && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The largest difference of bins above the floor.
fn largest(ours: &LogMel, expected: &[f64], step: usize) -> f64 {
    let floor = 1e-5f64.ln() + 1e-3;
    let values: Vec<f64> = ours.values.iter().step_by(step).map(|v| f64::from(*v)).collect();
    assert_eq!(values.len(), expected.len());
    let loud = values.iter().zip(expected).filter(|(_, e)| **e > floor);
    loud.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn log_mel_features_are_those_of_transformers() {
    let (golden, processor) = (golden(), AudioProcessor::gemma3n());
    let sweep = |(i, voice): (usize, f32)| {
        let t = i as f64 / 16_000.0;
        (f64::from(voice) + 0.3 * (TAU * (50.0 * t + 2600.0 * t * t)).sin()) as f32
    };
    let quiet = voice(16_000, 5000).into_iter().map(|v| 1e-3 * v).collect();
    let signals: [(&str, Vec<f32>); 5] = [
        ("voice", voice(16_000, 20_000)),
        ("quiet", quiet),
        ("sweep", voice(16_000, 24_000).into_iter().enumerate().map(sweep).collect()),
        ("silence", vec![0.0; 4000]),
        ("shortest", voice(16_000, 641)),
    ];
    for (name, samples) in signals {
        let made = processor.log_mel(&samples);
        let shape = golden.values(&format!("log_mel/{name}/valid"));
        assert_eq!([made.valid_frames as f64, made.frames as f64, made.bins as f64], shape, "{name}");
        let worst = largest(&made, golden.values(&format!("log_mel/{name}")), 5);
        assert!(worst <= 1e-4, "{name}: {worst}");
    }
}

/// Features of real clips, of whoever makes them: files with `wave_f32` and `input_features`.
#[test]
#[ignore = "reads the folder `audio` of GEMMA_TUNE_GOLDENS"]
fn log_mel_features_of_other_goldens_are_met() {
    let Ok(root) = std::env::var("GEMMA_TUNE_GOLDENS") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(std::path::Path::new(&root).join("audio"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    paths.sort();
    let mut met = 0;
    for golden in paths.iter().map(|path| Golden::read(path)) {
        if !golden.names().any(|name| name == "wave_f32") {
            continue;
        }
        let samples: Vec<f32> = golden.values("wave_f32").iter().map(|&v| v as f32).collect();
        let made = AudioProcessor::gemma3n().log_mel(&samples);
        assert_eq!(golden.values("input_features_mask").iter().sum::<f64>(), made.valid_frames as f64);
        let worst = largest(&made, golden.values("input_features"), 1);
        println!("{} samples: {worst:.1e}", samples.len());
        assert!(worst <= 1e-4, "{worst}");
        met += 1;
    }
    assert!(met > 0, "no golden in {root}");
}

#[test]
fn resampled_sounds_have_the_features_of_libsoxrs() {
    let (golden, processor) = (golden(), AudioProcessor::gemma3n());
    for rate in [8000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000u32] {
        let clip = Clip { rate_hz: rate, samples: voice(rate, rate as usize * 5 / 4) };
        let samples = clip.at_rate(16_000).samples;
        assert_eq!(samples.len() as f64, golden.values(&format!("resampled/{rate}/length"))[0]);
        let made = processor.log_mel(&samples);
        // Bins whose triangle lies below 0.85 of what the lower rate can hold.
        let limit = 0.85 * f64::from(rate.min(16_000)) / 2.0;
        let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        let corner = |bin: usize| mel(125.0) + (mel(7600.0) - mel(125.0)) / 129.0 * (bin + 2) as f64;
        let bins = (0..128).take_while(|bin| corner(*bin) <= mel(limit)).count();
        let expected = golden.values(&format!("resampled/{rate}"));
        let pairs = made.values.iter().enumerate().step_by(3).zip(expected);
        let differences: Vec<f64> =
            pairs.filter(|((i, _), _)| i % 128 < bins).map(|((_, a), b)| (f64::from(*a) - b).abs()).collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        assert!(mean <= 6e-4, "{rate}: {mean}");
    }
}

#[test]
fn frames_are_counted_as_transformers_does() {
    let (golden, processor) = (golden(), AudioProcessor::gemma3n());
    for [length, frames, valid] in golden.values("frames").as_chunks().0 {
        let samples = *length as usize;
        assert_eq!(processor.frames(samples) as f64, *frames, "{length}");
        assert_eq!(samples.div_ceil(160).min(processor.frames(samples)) as f64, *valid, "{length}");
    }
}

proptest! {
    #[test]
    fn features_never_outnumber_placeholders(samples in 800usize..=480_000) {
        let processor = AudioProcessor::gemma3n();
        let frames = processor.frames(samples);
        // Two convolutions of kernel 3 and stride 2, padded by 2 at the end, and every fourth of what they make.
        let halved = |n: usize| (n - 1) / 2 + 1;
        prop_assert_eq!(processor.features(samples), halved(halved(frames)).div_ceil(4));
        prop_assert!(processor.features(samples) >= 1 && processor.features(samples) <= processor.audio_seq_length);
    }

    #[test]
    fn as_many_frames_are_made_as_are_counted(samples in 500usize..=4000) {
        let processor = AudioProcessor::gemma3n();
        let made = processor.log_mel(&vec![0.1; samples]);
        prop_assert_eq!(made.frames, processor.frames(samples));
        prop_assert_eq!(made.values.len(), made.frames * made.bins);
        prop_assert!(made.valid_frames <= made.frames);
        prop_assert!(made.values.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn thirty_seconds_are_heard_at_once() {
    let processor = AudioProcessor::gemma3n();
    let clip = |samples| Clip { rate_hz: 16_000, samples: vec![0.1; samples] };
    let lengths = |samples, on_long| -> Vec<usize> {
        processor.clips(clip(samples), on_long).unwrap().iter().map(Vec::len).collect()
    };
    assert_eq!(lengths(480_000, OnLong::Error), [480_000]);
    assert_eq!(lengths(500_000, OnLong::Truncate), [480_000]);
    assert_eq!(lengths(1_000_000, OnLong::Split), [480_000, 480_000, 40_000]);
    // What is left is too short for a frame, and is heard all the same.
    assert_eq!(lengths(480_500, OnLong::Split), [480_000, 513]);
    let pieces = processor.clips(clip(480_500), OnLong::Split).unwrap();
    assert!(pieces[1][..500].iter().all(|x| *x == 0.1) && pieces[1][500..].iter().all(|x| *x == 0.0));
    assert_eq!(processor.frames(513), 1);
    let long = processor.clips(clip(480_001), OnLong::Error).unwrap_err();
    assert_eq!(long.what(), "the sound lasts 30.0 s, a model hears 30 s at once");
    let short = processor.clips(clip(400), OnLong::Error).unwrap_err();
    assert_eq!(short.what(), "the sound lasts 0.025 s, which is too short to hear");
    assert_eq!(processor.soft_tokens(3), 3 * 188);
}

#[test]
fn long_sounds_are_refused_while_they_are_decoded() {
    let bytes = std::fs::read(folder("media/sounds/mono.mp3")).unwrap();
    let error = decode(&bytes, &Decoding { max_secs: 0 }).unwrap_err();
    assert_eq!((error.what(), error.exit_code()), ("the sound is longer than 0 s", 2));
    assert!(error.hint_text().is_some());
}
