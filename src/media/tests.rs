//! Broken pictures and sounds: errors that say what to do, and never a panic.

use super::{audio, image};
use crate::error::Error;
use crate::testkit::golden::folder;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Every picture and sound of the golden files, by name.
static FILES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    let entries = ["media/pictures", "media/sounds"].map(|name| std::fs::read_dir(folder(name)).unwrap());
    entries.into_iter().flatten().map(|entry| read(entry.unwrap().path())).collect()
});

fn is_sound(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("wav" | "flac" | "mp3" | "ogg" | "opus" | "m4a"))
}

/// Small limits, so that numbers that were made large are refused and not obeyed.
fn decode(bytes: &[u8], sound: bool) -> Result<(), Error> {
    if sound {
        let clip = audio::decode(bytes, &audio::Decoding { max_secs: 20 })?;
        let _ = audio::AudioProcessor::gemma3n().clips(clip, audio::OnLong::Split);
        Ok(())
    } else {
        let decoding = image::Decoding { max_pixels: 1 << 20, ..image::Decoding::default() };
        let _ = image::size(bytes, &decoding);
        image::decode(bytes, &decoding).map(|_| ())
    }
}

/// The start of a golden file.
fn start(name: &str, bytes: usize) -> Vec<u8> {
    FILES[name][..bytes].to_vec()
}

/// A golden file with some bytes changed.
fn changed(name: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = FILES[name].clone();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn broken_pictures() -> Vec<(&'static str, Vec<u8>)> {
    let half = |name: &str| start(name, FILES[name].len() / 2);
    vec![
        ("no bytes", Vec::new()),
        ("one byte", vec![0xff]),
        ("zeros", vec![0; 1000]),
        ("a web page", b"<!DOCTYPE html><html><body>404</body></html>".to_vec()),
        ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n".to_vec()),
        ("a PDF", b"%PDF-1.7\n".to_vec()),
        ("an SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("a HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1".to_vec()),
        ("a sound", FILES["s16.wav"].clone()),
        ("half a PNG", half("rgb.png")),
        ("a PNG's signature", start("rgb.png", 8)),
        ("a PNG of wrong checksum", changed("rgb.png", 29, &[1, 2, 3, 4])),
        ("a PNG of no width", changed("rgb.png", 16, &[0; 4])),
        ("half a JPEG", half("ycbcr_420.jpg")),
        ("a JPEG's header", start("ycbcr_420.jpg", 100)),
        ("three bytes of JPEG", vec![0xff, 0xd8, 0xff]),
        ("half a progressive JPEG", half("progressive.jpg")),
        ("half a GIF", half("palette.gif")),
        ("a GIF without a frame", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        ("half a WebP", half("lossy.webp")),
        ("half a lossless WebP", half("lossless.webp")),
        ("a WebP's header", start("lossy.webp", 16)),
        ("half a BMP", half("rgb.bmp")),
        ("a BMP's header", start("rgb.bmp", 20)),
        ("a BMP of 7 bits", changed("rgb.bmp", 28, &[7, 0])),
        ("half run lengths", half("rle8.bmp")),
        ("half a TIFF", half("rgb.tif")),
        ("a TIFF whose directory is elsewhere", changed("rgb.tif", 4, &[0xff; 4])),
    ]
}

fn broken_sounds() -> Vec<(&'static str, Vec<u8>)> {
    let half = |name: &str| start(name, FILES[name].len() / 2);
    vec![
        ("no bytes", Vec::new()),
        ("zeros", vec![0; 1000]),
        ("text", b"[Verse 1]\nla la la".to_vec()),
        ("a picture", FILES["rgb.png"].clone()),
        ("AMR", b"#!AMR\n<".to_vec()),
        ("WebM", b"\x1a\x45\xdf\xa3\x01".to_vec()),
        ("half a WAV", half("s16.wav")),
        ("a WAV's header", start("s16.wav", 20)),
        ("a WAV without a sample", start("s16.wav", 44)),
        ("a WAV of no channel", changed("s16.wav", 22, &[0, 0])),
        ("a WAV of an unknown codec", changed("s16.wav", 20, &[0x99, 0x99])),
        ("a WAV that is not finite", changed("f32.wav", 80, &[0, 0, 0xc0, 0x7f])),
        ("half a FLAC", half("s16.flac")),
        ("a FLAC's signature", start("s16.flac", 4)),
        ("an MP3's tags", b"ID3\x04\0\0\0\0\0\0".to_vec()),
        ("half an M4A", half("mono.m4a")),
        ("an M4A's header", start("mono.m4a", 40)),
        ("the first page of Vorbis", start("mono.ogg", 60)),
        ("the first page of Opus", start("mono.opus", 50)),
    ]
}

#[test]
fn broken_files_are_wrong_input_with_a_hint() {
    let (pictures, sounds) = (broken_pictures(), broken_sounds());
    assert!(pictures.len() + sounds.len() >= 40);
    let mut wrong = Vec::new();
    for (sound, files) in [(false, pictures), (true, sounds)] {
        for (name, bytes) in files {
            match decode(&bytes, sound) {
                Ok(()) => wrong.push(format!("{name}: decoded")),
                Err(error) if error.exit_code() == 2 && error.hint_text().is_some() => {}
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_file_is_instead_is_said() {
    let said = |bytes: &[u8], sound| decode(bytes, sound).unwrap_err().what().to_owned();
    assert_eq!(said(b"", false), "the picture is empty: it has no bytes");
    assert_eq!(said(b"version https://git-lfs.github.com", true), "this is a Git LFS pointer, not the sound itself");
    assert_eq!(said(b"#!AMR\n", true), "this is an AMR file");
    assert_eq!(said(&FILES["rgb.png"], true), "this is a picture");
    assert_eq!(said(&FILES["s16.wav"], false), "this is a sound file");
}

#[test]
fn pictures_that_claim_to_be_huge_take_no_memory() {
    // 65,535 x 65,535 pixels in a header of each format.
    let claims = [
        (
            "rgb.png",
            changed("rgb.png", 16, &[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 8, 2, 0, 0, 0, 0xc2, 0x5f, 0xef, 0x61]),
        ),
        ("rgb.bmp", changed("rgb.bmp", 18, &[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0])),
        ("palette.gif", changed("palette.gif", 6, &[0xff; 4])),
    ];
    for (name, bytes) in claims {
        let error = image::decode(&bytes, &image::Decoding::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("too large: 65535 x 65535") || name == "rgb.png" && text.contains("PNG"),
            "{name}: {text}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_files_are_decoded_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let (name, file) = which.get(&FILES.iter().collect::<Vec<_>>()).to_owned();
        let mut bytes = file.clone();
        for (at, value, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, value),
            }
        }
        if let Err(error) = decode(&bytes, is_sound(name)) {
            prop_assert_eq!(error.exit_code(), 2);
            prop_assert!(error.hint_text().is_some());
        }
    }
}
