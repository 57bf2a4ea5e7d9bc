//! JPEG, to the bit as libjpeg-turbo decodes it, which PIL uses: its inverse transform, its upsampling, its colours.

use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let mut decoder = Decoder::new_header_only(request.bytes, DecodeLimits::default())?;
    let (width, height) = (decoder.header().width(), decoder.header().height());
    if let Some(found) = request.sized(width as u64, height as u64)?.filter(|_| !sideways(&decoder)) {
        return Ok(found);
    }
    decoder = Decoder::new(request.bytes)?;
    decoder.set_stop_on_warning(true);
    let (exif, xmp) = (decoder.exif_data().map(<[u8]>::to_vec), decoder.xmp_data().map(<[u8]>::to_vec));
    let image = decoder.decode_image()?;
    let samples = match image.pixel_format {
        PixelFormat::Grayscale => Samples::Grey(image.data),
        PixelFormat::Rgb => Samples::Rgb(image.data),
        // Stored inverted since Photoshop did it; PIL takes that for granted.
        PixelFormat::Cmyk => Samples::Cmyk(image.data.into_iter().map(|ink| 255 - ink).collect()),
        other => return Err(Refused::Unsupported(format!("its colours are {other:?}"))),
    };
    let decoded = Decoded::upright(image.width, image.height, samples);
    Ok(Found::Picture(decoded.turned(exif.as_deref(), xmp.as_deref())))
}

/// Whether the camera was held so that width and height change places.
fn sideways(decoder: &Decoder) -> bool {
    decoder.exif_orientation().is_some_and(|orientation| orientation > 4) || decoder.xmp_data().is_some()
}
