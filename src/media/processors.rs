//! The processors of a model: what the files beside it say of pictures and sounds.
//!
//! Read from a flat `preprocessor_config.json`, or from transformers 5's `processor_config.json`, where those of pictures
//! and sounds are nested. What a file leaves out is as the model has it. A setting that would change the numbers and that
//! is not acted on is an error.

use super::audio::AudioProcessor;
use super::image::{ImageProcessor, Normalization};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// How pictures and sounds are prepared for a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Processors {
    /// Pictures, for a model that sees.
    pub image: Option<ImageProcessor>,
    /// Sounds, for a model that hears.
    pub audio: Option<AudioProcessor>,
}

impl Processors {
    /// These, as the files of a model's folder change them.
    ///
    /// # Errors
    /// [`Kind::Config`] with every problem of a file at once: no JSON, values that are not supported.
    pub fn changed_by_folder(self, dir: &Path) -> Result<Self> {
        let mut processors = self;
        for name in ["preprocessor_config.json", "processor_config.json"] {
            let path = dir.join(name);
            let text = match crate::input::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(Error::io("reading the processor's settings", &path, e)),
            };
            let read: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|e| Error::new(Kind::Config, format!("the file is no JSON object: {e}")).at_path(&path))?;
            let mut problems = Vec::new();
            let nested = |key: &str| read.get(key).and_then(Value::as_object);
            let image = nested("image_processor").unwrap_or(&read);
            let audio = nested("feature_extractor").unwrap_or(&read);
            if let Some(processor) = &mut processors.image {
                change_image(processor, &mut Keys { of: image, problems: &mut problems });
            }
            if let Some(processor) = &mut processors.audio {
                change_audio(processor, &mut Keys { of: audio, problems: &mut problems });
            }
            if let Some(error) = Error::many(problems.into_iter().map(|problem| problem.at_path(&path)).collect()) {
                return Err(error);
            }
        }
        Ok(processors)
    }
}

/// The keys of a file, and what is wrong with them.
struct Keys<'a> {
    of: &'a Map<String, Value>,
    problems: &'a mut Vec<Error>,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.of.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, key: &str, supported: &str) {
        let found = self.of.get(key).map(Value::to_string).unwrap_or_default();
        let what = format!("`{key}` is {}; supported: {supported}", found.chars().take(60).collect::<String>());
        self.problems.push(Error::new(Kind::Config, what));
    }

    /// Sets what `key` says, if `read` understands it.
    fn set<T>(&mut self, key: &str, supported: &str, target: &mut T, read: impl Fn(&Value) -> Option<T>) {
        match self.get(key).map(read) {
            None => {}
            Some(Some(value)) => *target = value,
            Some(None) => self.wrong(key, supported),
        }
    }

    fn size(&mut self, key: &str, most: usize, target: &mut usize) {
        let read =
            |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=most).contains(n));
        self.set(key, &format!("a whole number from 1 to {most}"), target, read);
    }

    fn number(&mut self, key: &str, target: &mut f64) {
        self.set(key, "a number of at least 0", target, |value| value.as_f64().filter(|n| *n >= 0.0 && n.is_finite()));
    }

    /// A setting that is not acted on, unless it is one of these.
    fn only(&mut self, key: &str, supported: &str, is_usual: impl Fn(&Value) -> bool) {
        if self.get(key).is_some_and(|value| !is_usual(value)) {
            self.wrong(key, supported);
        }
    }
}

const MOST_PIXELS: usize = 8192;

fn change_image(processor: &mut ImageProcessor, keys: &mut Keys) {
    // The two processors' sizes are objects; older files have a number for a square.
    let side =
        |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MOST_PIXELS).contains(n));
    let mut size = (processor.height, processor.width);
    keys.set("size", "`{\"height\", \"width\"}`", &mut size, |value| match value {
        Value::Object(size) => Some((side(size.get("height")?)?, side(size.get("width")?)?)),
        square => side(square).map(|side| (side, side)),
    });
    (processor.height, processor.width) = size;
    keys.size("image_seq_length", 1 << 20, &mut processor.image_seq_length);
    let is_true = |value: &Value| value.as_bool() == Some(true);
    keys.only("do_resize", "true", is_true);
    keys.only("do_rescale", "true", is_true);
    keys.only("do_center_crop", "false", |value| value.as_bool() == Some(false));
    keys.only("do_pad", "false", |value| value.as_bool() == Some(false));
    keys.only("resample", "2, bilinear", |value| value.as_u64() == Some(2));
    let is_byte = |value: &Value| value.as_f64().is_some_and(|factor| (factor * 255.0 - 1.0).abs() < 1e-6);
    keys.only("rescale_factor", "1/255", is_byte);

    let usual = processor.normalize.unwrap_or(Normalization { mean: [0.5; 3], std: [0.5; 3] });
    let mut normalizes = processor.normalize.is_some();
    keys.set("do_normalize", "true or false", &mut normalizes, Value::as_bool);
    let Normalization { mut mean, mut std } = usual;
    let three = |value: &Value| -> Option<[f32; 3]> {
        let numbers: Option<Vec<f32>> = value.as_array()?.iter().map(|n| n.as_f64().map(|n| n as f32)).collect();
        numbers?.try_into().ok()
    };
    keys.set("image_mean", "three numbers", &mut mean, three);
    keys.set("image_std", "three numbers above 0", &mut std, |value| {
        three(value).filter(|std| std.iter().all(|n| *n > 0.0))
    });
    processor.normalize = normalizes.then_some(Normalization { mean, std });

    let Some(mut limits) = processor.limits else { return };
    let mut pans = processor.pan_and_scan.is_some();
    keys.set("do_pan_and_scan", "true or false", &mut pans, Value::as_bool);
    keys.size("pan_and_scan_min_crop_size", MOST_PIXELS, &mut limits.min_crop_size);
    keys.size("pan_and_scan_max_num_crops", 64, &mut limits.max_num_crops);
    keys.number("pan_and_scan_min_ratio_to_activate", &mut limits.min_ratio_to_activate);
    processor.limits = Some(limits);
    processor.pan_and_scan = pans.then_some(limits);
}

fn change_audio(processor: &mut AudioProcessor, keys: &mut Keys) {
    let mut rate = processor.sampling_rate as usize;
    keys.size("sampling_rate", 384_000, &mut rate);
    processor.sampling_rate = rate as u32;
    keys.size("feature_size", 1024, &mut processor.feature_size);
    keys.size("frame_length", 1024, &mut processor.frame_length);
    keys.size("hop_length", 1 << 16, &mut processor.hop_length);
    keys.number("min_frequency", &mut processor.min_frequency);
    keys.number("max_frequency", &mut processor.max_frequency);
    keys.number("preemphasis", &mut processor.preemphasis);
    keys.number("mel_floor", &mut processor.mel_floor);
    let is_zero = |value: &Value| value.as_f64() == Some(0.0);
    keys.only("dither", "0", is_zero);
    keys.only("padding_value", "0", is_zero);
    keys.only("input_scale_factor", "1", |value| value.as_f64() == Some(1.0));
    keys.only("preemphasis_htk_flavor", "true", |value| value.as_bool() == Some(true));
    keys.only("fft_overdrive", "true", |value| value.as_bool() == Some(true));
    keys.only("padding_side", "`right`", |value| value.as_str() == Some("right"));
    // There they are null; a list of zeros and of ones would do nothing.
    keys.only("per_bin_mean", "null", |_| false);
    keys.only("per_bin_stddev", "null", |_| false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::image::PanAndScan;
    use serde_json::json;

    fn of(name: &str, text: Value) -> Result<Processors> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text.to_string()).unwrap();
        let usual = Processors { image: Some(ImageProcessor::gemma3()), audio: Some(AudioProcessor::gemma3n()) };
        usual.changed_by_folder(dir.path())
    }

    #[test]
    fn both_forms_of_the_file_say_the_same() {
        let image = json!({
            "do_convert_rgb": null, "do_normalize": true, "do_pan_and_scan": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.5, 0.5], "pan_and_scan_max_num_crops": 3,
            "pan_and_scan_min_crop_size": null, "resample": 2, "rescale_factor": 0.00392156862745098,
            "size": {"height": 64, "width": 32},
        });
        let flat = of("preprocessor_config.json", image.clone()).unwrap();
        let nested =
            json!({"image_processor": image, "feature_extractor": {"feature_size": 16}, "audio_seq_length": 188});
        let nested = of("processor_config.json", nested).unwrap();
        assert_eq!(flat.image, nested.image);
        let read = flat.image.unwrap();
        assert_eq!((read.height, read.width), (64, 32));
        let pan = PanAndScan { min_crop_size: 256, max_num_crops: 3, min_ratio_to_activate: 1.2 };
        assert_eq!(read.pan_and_scan, Some(pan));
        assert_eq!(read.normalize.unwrap().mean, [0.4, 0.5, 0.6]);
        assert_eq!(nested.audio.unwrap().feature_size, 16);
        assert_eq!(flat.audio.unwrap(), AudioProcessor::gemma3n());
    }

    #[test]
    fn what_is_not_acted_on_is_refused_all_at_once() {
        let wrong =
            json!({"resample": 3, "do_resize": false, "size": {"shortest_edge": 4}, "dither": 0.1, "feature_size": 0});
        let error = of("preprocessor_config.json", wrong).unwrap_err();
        let whats: Vec<_> = error.iter().map(Error::what).collect();
        assert_eq!(whats.len(), 5, "{whats:?}");
        assert!(whats.contains(&"`resample` is 3; supported: 2, bilinear"));
        assert_eq!(error.exit_code(), 2);
    }
}
