//! WebP: lossy and lossless, the first frame of an animation.

use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};
use image_webp::WebPDecoder;
use std::io::Cursor;

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let mut decoder = WebPDecoder::new(Cursor::new(request.bytes))?;
    decoder.set_memory_limit(request.max_bytes(4));
    let (width, height) = decoder.dimensions();
    let found = request.sized(width, height)?;
    let (exif, xmp) = (decoder.exif_metadata()?, decoder.xmp_metadata()?);
    if let Some(found) = found.filter(|_| exif.is_none() && xmp.is_none()) {
        return Ok(found);
    }
    let size = decoder.output_buffer_size().ok_or("its pixels take more memory than can be counted")?;
    let mut bytes = vec![0; size];
    if decoder.is_animated() {
        decoder.read_frame(&mut bytes)?;
    } else {
        decoder.read_image(&mut bytes)?;
    }
    let samples = if decoder.has_alpha() { Samples::Rgba(bytes) } else { Samples::Rgb(bytes) };
    let decoded = Decoded::upright(width as usize, height as usize, samples);
    Ok(Found::Picture(decoded.turned(exif.as_deref(), xmp.as_deref())))
}
