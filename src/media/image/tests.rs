//! Pictures against PIL and transformers; golden files by `scripts/make_media_goldens.py`.

use super::{Alpha, Decoding, ImageProcessor, PanAndScan, Picture, decode, resize, size};
use crate::testkit::golden::{Golden, folder};
use safetensors::SafeTensors;
use std::path::PathBuf;

fn pictures() -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder("media/pictures")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

fn picture(name: &str) -> Picture {
    decode(&std::fs::read(folder("media/pictures").join(name)).unwrap(), &Decoding::default()).unwrap()
}

fn with_expected<T>(check: impl FnOnce(&SafeTensors) -> T) -> T {
    let bytes = std::fs::read(folder("media/pictures.safetensors")).unwrap();
    check(&SafeTensors::deserialize(&bytes).unwrap())
}

/// Where two pictures differ: nothing, or in words.
fn difference(picture: &Picture, expected: &SafeTensors, name: &str) -> Option<String> {
    let expected = expected.tensor(name).unwrap();
    let shape = [picture.height, picture.width, 3];
    if expected.shape() != shape {
        return Some(format!("{name}: {shape:?}, expected {:?}", expected.shape()));
    }
    let steps = picture.rgb.iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b));
    let most = steps.clone().max().unwrap();
    // JPEG inside of TIFF has a decoder of its own.
    let allowed = if name == "rgb_jpeg.tif" { 4 } else { 0 };
    let others = steps.filter(|step| *step > 0).count();
    (most > allowed).then(|| format!("{name}: {others} of {} samples differ, by up to {most}", picture.rgb.len()))
}

#[test]
fn every_format_and_mode_is_decoded_as_pil_and_transformers_do() {
    with_expected(|expected| {
        let check = |(name, bytes): &(String, Vec<u8>)| match decode(bytes, &Decoding::default()) {
            Ok(picture) => difference(&picture, expected, name),
            Err(error) => Some(format!("{name}: {error}")),
        };
        let all = pictures();
        let wrong: Vec<String> = all.iter().filter(|(name, _)| name != "resized.png").filter_map(check).collect();
        assert!(all.len() > 80 && wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn transparency_can_be_dropped_as_pil_does() {
    let dropping = Decoding { alpha: Alpha::Drop, ..Decoding::default() };
    with_expected(|expected| {
        for name in ["rgba.png", "palette_alpha.png", "lossy_alpha.webp"] {
            let bytes = std::fs::read(folder("media/pictures").join(name)).unwrap();
            let picture = decode(&bytes, &dropping).unwrap();
            assert_eq!(difference(&picture, expected, &format!("{name}/dropped")), None);
        }
    });
}

#[test]
fn sizes_are_seen_without_decoding() {
    for (name, bytes) in pictures() {
        let Picture { width, height, .. } = decode(&bytes, &Decoding::default()).unwrap();
        assert_eq!(size(&bytes, &Decoding::default()).unwrap(), (width, height), "{name}");
    }
}

#[test]
fn resizing_is_pils_to_the_bit() {
    let image = picture("resized.png");
    with_expected(|expected| {
        for (width, height) in
            [(20, 91), (107, 12), (53, 20), (53, 60), (30, 37), (1, 1), (160, 111), (40, 12), (50, 30)]
        {
            let resized = resize(&image, width, height);
            assert_eq!(difference(&resized, expected, &format!("resized/{width}x{height}")), None);
        }
    });
}

#[test]
fn pixel_values_are_those_of_the_processors() {
    let golden = Golden::read(&folder("media/pixel_values.safetensors"));
    let largest = |values: &[f32], step: usize, name: &str| {
        let expected = golden.values(name);
        let ours: Vec<f64> = values.iter().step_by(step).map(|v| f64::from(*v)).collect();
        assert_eq!(ours.len(), expected.len(), "{name}");
        ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    for name in ["rgba.png", "ycbcr_420.jpg", "narrow.jpg", "grey_16bit.png", "clear.gif"] {
        let prepared = ImageProcessor::gemma3().prepare(&picture(name));
        assert_eq!((prepared.images, prepared.values.len()), (1, 3 * 896 * 896));
        assert!(largest(&prepared.values, 4999, &format!("{name}/pil")) < 1e-6, "{name}");
        assert!(largest(&prepared.values, 4999, &format!("{name}/torchvision")) < 0.0158, "{name}");
        let plane = 896 * 896;
        for (channel, mean) in golden.values(&format!("{name}/pil/mean")).iter().enumerate() {
            let ours = prepared.values[channel * plane..][..plane].iter().map(|v| f64::from(*v)).sum::<f64>();
            assert!((ours / plane as f64 - mean).abs() < 1e-6, "{name}, channel {channel}");
        }
    }
    // Without alpha, which the 3n golden does not have.
    for name in ["ycbcr_420.jpg", "narrow.jpg", "grey_16bit.png"] {
        let prepared = ImageProcessor::gemma3n().prepare(&picture(name));
        assert!(largest(&prepared.values, 4999, &format!("{name}/unit")) < 0.0079, "{name}");
    }
    let pan = PanAndScan { min_crop_size: 16, ..PanAndScan::default() };
    let processor = ImageProcessor { pan_and_scan: Some(pan), ..ImageProcessor::gemma3() };
    for name in ["one_row.png", "ycbcr_422.jpg", "narrow.jpg", "exif_6.jpg"] {
        let picture = picture(name);
        let prepared = processor.prepare(&picture);
        assert_eq!(prepared.images as f64, golden.values(&format!("{name}/pan/count"))[0], "{name}");
        assert_eq!(processor.soft_tokens(picture.width, picture.height), 256 * prepared.images);
        assert!(largest(&prepared.values, 9973, &format!("{name}/pan")) < 1e-6, "{name}");
    }
}
