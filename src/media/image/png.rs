//! PNG: palettes and transparent colours expanded, 16 bits narrowed as PIL does.

use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;

/// What text, profiles and the decoder's own rows may take.
const OTHER_BYTES: usize = 64 << 20;

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(request.bytes), Limits { bytes: OTHER_BYTES });
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info()?;
    let info = reader.info();
    let (width, height) = (info.width, info.height);
    let sized = request.sized(width, height)?;
    if let Some(found) = sized.filter(|_| orientation_data(info) == (None, None)) {
        return Ok(found);
    }
    let grey16 = (info.color_type, info.bit_depth) == (ColorType::Grayscale, BitDepth::Sixteen);
    let size = reader.output_buffer_size().ok_or("its pixels take more memory than can be counted")?;
    let mut bytes = vec![0; size];
    let frame = reader.next_frame(&mut bytes)?;
    bytes.truncate(frame.buffer_size());
    if frame.bit_depth == BitDepth::Sixteen {
        // PIL keeps 16-bit grey as it is, and clips it when it becomes RGB; of other 16-bit samples it takes the high byte.
        let high = |[high, low]: &[u8; 2]| {
            if grey16 && *high > 0 {
                255
            } else if grey16 {
                *low
            } else {
                *high
            }
        };
        let alpha = grey16 && frame.color_type == ColorType::GrayscaleAlpha;
        let pairs = bytes.as_chunks::<2>().0.iter().enumerate();
        bytes = pairs.map(|(i, pair)| if alpha && i % 2 == 1 { pair[0] } else { high(pair) }).collect();
    }
    let samples = match frame.color_type {
        ColorType::Grayscale => Samples::Grey(bytes),
        ColorType::GrayscaleAlpha => Samples::GreyAlpha(bytes),
        ColorType::Rgb => Samples::Rgb(bytes),
        ColorType::Rgba => Samples::Rgba(bytes),
        ColorType::Indexed => return Err(Refused::Broken("its palette is missing".to_owned())),
    };
    let (exif, xmp) = orientation_data(reader.info());
    let decoded = Decoded::upright(width as usize, height as usize, samples);
    Ok(Found::Picture(decoded.turned(exif.as_deref(), xmp.as_deref())))
}

/// The EXIF block and the XMP packet: in their chunks, or in ImageMagick's text.
fn orientation_data(info: &png::Info) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let raw = info.compressed_latin1_text.iter().find(|text| text.keyword == "Raw profile type exif");
    let raw = raw.and_then(|text| text.get_text().ok()).and_then(|text| unhex(&text));
    let xmp = info.utf8_text.iter().find(|text| text.keyword == "XML:com.adobe.xmp");
    let xmp = xmp.and_then(|text| text.get_text().ok()).map(String::into_bytes);
    (info.exif_metadata.as_ref().map(|exif| exif.to_vec()).or(raw), xmp)
}

/// The bytes of ImageMagick's `\nexif\n     length\nhexadecimal`.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.split('\n').skip(3).flat_map(str::chars).map(|c| Some(c.to_digit(16)? as u8)).collect();
    Some(digits?.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}
