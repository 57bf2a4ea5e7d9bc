//! Bytes become a picture, within limits.

use super::format::{Format, what_else};
use super::pixels::{Alpha, Decoded, Picture};
use super::request::{Found, Refused, Request};
use super::{bmp, gif, jpeg, png, tiff, webp};
use crate::error::{Error, Kind, Result};
use crate::guard::guarded;

/// How pictures are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decoding {
    /// A picture of more pixels is refused before it takes memory: a few bytes can claim to be gigabytes.
    pub max_pixels: u64,
    /// What becomes of transparency.
    pub alpha: Alpha,
}

impl Default for Decoding {
    /// The number of pixels from which PIL refuses, too.
    fn default() -> Self {
        Decoding { max_pixels: 2 * 89_478_485, alpha: Alpha::OverWhite }
    }
}

/// Decodes a picture: the first frame or page, turned upright, in RGB.
///
/// # Errors
/// If the bytes are empty, no picture that is read here, broken, cut off, or of more pixels than allowed.
pub fn decode(bytes: &[u8], decoding: &Decoding) -> Result<Picture> {
    let (format, found) = run(bytes, decoding, false)?;
    let picture = match found {
        Found::Picture(decoded) => decoded.picture(decoding.alpha),
        Found::Size(..) => None,
    };
    picture.ok_or_else(|| broken(format, "it has fewer pixels than it says"))
}

/// The width and height of the upright picture, from a decoded header where the format allows it.
///
/// # Errors
/// As [`decode`], for what can be seen so far.
pub fn size(bytes: &[u8], decoding: &Decoding) -> Result<(usize, usize)> {
    Ok(match run(bytes, decoding, true)?.1 {
        Found::Size(width, height) => (width, height),
        Found::Picture(Decoded { width, height, orientation: 5.., .. }) => (height, width),
        Found::Picture(Decoded { width, height, .. }) => (width, height),
    })
}

fn run(bytes: &[u8], decoding: &Decoding, only_size: bool) -> Result<(Format, Found)> {
    let format = Format::of(bytes).ok_or_else(|| no_picture(bytes))?;
    let request = Request { bytes, max_pixels: decoding.max_pixels, only_size };
    let decoded = guarded(|| {
        Ok::<_, String>(match format {
            Format::Jpeg => jpeg::read(request),
            Format::Png => png::read(request),
            Format::Gif => gif::read(request),
            Format::WebP => webp::read(request),
            Format::Bmp => bmp::read(request),
            Format::Tiff => tiff::read(request),
        })
    });
    match decoded {
        Ok(Ok(found)) => Ok((format, found)),
        Ok(Err(Refused::TooLarge(width, height))) => Err(Error::new(
            Kind::Data,
            format!(
                "the {} is too large: {width} x {height} pixels, {} are allowed",
                format.name(),
                decoding.max_pixels
            ),
        )
        .hint("scale it down: a vision tower sees fewer than a million pixels of it")),
        Ok(Err(Refused::Broken(why))) | Err(why) => Err(broken(format, &why)),
        Ok(Err(Refused::Unsupported(why))) => {
            let what = format!("the {} is of a kind that is not read here: {why}", format.name());
            Err(Error::new(Kind::Data, what).hint("save it as PNG or JPEG"))
        }
    }
}

fn broken(format: Format, why: &str) -> Error {
    Error::new(Kind::Data, format!("the {} cannot be decoded: {why}", format.name()))
        .hint("the file is damaged or was cut off; open it in a viewer, save it again, or leave the row out")
}

fn no_picture(bytes: &[u8]) -> Error {
    let error = match what_else(bytes) {
        _ if bytes.is_empty() => Error::new(Kind::Data, "the picture is empty: it has no bytes"),
        Some(what) => Error::new(Kind::Data, format!("this is {what}")),
        None => Error::new(Kind::Data, "this is no picture that is known here"),
    };
    error.hint("JPEG, PNG, WebP, GIF, BMP and TIFF are read")
}
