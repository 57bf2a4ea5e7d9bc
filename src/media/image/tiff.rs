//! TIFF: the first page, in the forms that PIL reads as grey, palette, RGB or CMYK.

use super::exif::{self, PHOTOMETRIC};
use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};
use std::borrow::Cow;
use std::io::Cursor;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::{ColorType, TiffError, tags::Tag};

/// TIFF's code for grey with black as 0, and for indices into a palette.
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;
/// TIFF's code for colours that are already multiplied by their alpha.
const ASSOCIATED_ALPHA: u16 = 1;

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let (bytes, is_palette) = without_palette(request.bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = request.max_bytes(8);
    limits.intermediate_buffer_size = request.max_bytes(8);
    let mut decoder = Decoder::new(Cursor::new(&*bytes)).map_err(refused)?.with_limits(limits);
    let (width, height) = decoder.dimensions()?;
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation)?.filter(|o| (1..=8).contains(o)).unwrap_or(1);
    if let Some(found) = request.sized(width, height)?.filter(|_| orientation < 5) {
        return Ok(found);
    }
    let colours = decoder.colortype().map_err(refused)?;
    let premultiplied =
        decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)?.is_some_and(|extra| extra == [ASSOCIATED_ALPHA]);
    let palette = if is_palette { decoder.get_tag_u16_vec(Tag::ColorMap)? } else { Vec::new() };

    let mut buffer = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut buffer).map_err(refused)?;
    let (width, height) = (width as usize, height as usize);
    let channels = usize::from(colours.num_samples());
    let mut bytes = narrowed(buffer, channels == 1)?;
    if colours.bit_depth() < 8 {
        bytes = unpacked(&bytes, width * channels, colours.bit_depth(), is_palette);
    }
    if layout.planes > 1 {
        let plane = width * height;
        let pixel = |i: usize| (0..layout.planes).map(move |p| p * plane + i);
        bytes = (0..plane)
            .flat_map(pixel)
            .map(|at| bytes.get(at).copied())
            .collect::<Option<_>>()
            .ok_or("a plane is cut off")?;
    }
    let samples = match colours {
        ColorType::Gray(_) if is_palette => Samples::Rgb(coloured(&bytes, &palette)),
        ColorType::Gray(_) => Samples::Grey(bytes),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => Samples::GreyAlpha(bytes),
        ColorType::RGB(_) => Samples::Rgb(bytes),
        ColorType::RGBA(_) if premultiplied => Samples::Rgba(divided(bytes)),
        ColorType::RGBA(_) => Samples::Rgba(bytes),
        ColorType::CMYK(_) => Samples::Cmyk(bytes),
        other => return Err(Refused::Unsupported(format!("its colours are {other:?}"))),
    };
    let mut decoded = Decoded::upright(width, height, samples);
    decoded.orientation = orientation as u8;
    Ok(Found::Picture(decoded))
}

/// What the codec lacks is no fault of the file.
fn refused(error: TiffError) -> Refused {
    match error {
        TiffError::UnsupportedError(what) => Refused::Unsupported(what.to_string()),
        other => Refused::Broken(other.to_string()),
    }
}

/// The file with the indices of its palette declared to be grey, since the codec refuses palettes; whether they were.
fn without_palette(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let entry = exif::entry(bytes, PHOTOMETRIC).filter(|entry| entry.short(bytes) == Some(PALETTE));
    let Some(entry) = entry else { return (Cow::Borrowed(bytes), false) };
    let mut changed = bytes.to_vec();
    let code = if entry.big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
    changed[entry.at..entry.at + 2].copy_from_slice(&code);
    (Cow::Owned(changed), true)
}

/// Samples of 8 bits: of 16-bit colours the high byte, while grey of more bits is clipped, as PIL does.
fn narrowed(buffer: DecodingResult, grey: bool) -> Result<Vec<u8>, Refused> {
    Ok(match buffer {
        DecodingResult::U8(v) => v,
        DecodingResult::U16(v) if grey => v.into_iter().map(|v| v.min(255) as u8).collect(),
        DecodingResult::U16(v) => v.into_iter().map(|v| (v >> 8) as u8).collect(),
        DecodingResult::I16(v) if grey => v.into_iter().map(|v| v.clamp(0, 255) as u8).collect(),
        DecodingResult::U32(v) if grey => v.into_iter().map(|v| v.min(255) as u8).collect(),
        DecodingResult::I32(v) if grey => v.into_iter().map(|v| v.clamp(0, 255) as u8).collect(),
        // `as` clips and cuts off the fraction.
        DecodingResult::F32(v) if grey => v.into_iter().map(|v| v as u8).collect(),
        DecodingResult::F64(v) if grey => v.into_iter().map(|v| v as u8).collect(),
        _ => return Err(Refused::Broken("its samples are of a type that is not read here".to_owned())),
    })
}

/// Rows of 1, 2 or 4 bits a sample, each row in whole bytes; grey is spread over 0 to 255.
fn unpacked(bytes: &[u8], row: usize, bits: u8, indices: bool) -> Vec<u8> {
    let bits = usize::from(bits.max(1));
    let highest = ((1u16 << bits) - 1) as u8;
    let sample = move |row: &[u8], i: usize| {
        let value = row[i * bits / 8] >> (8 - bits - i * bits % 8).min(7) & highest;
        if indices { value } else { value * (255 / highest) }
    };
    let rows = bytes.chunks_exact((row * bits).div_ceil(8).max(1));
    rows.flat_map(|packed| (0..row).map(move |i| sample(packed, i))).collect()
}

/// Indices as the colours of a TIFF palette: all reds, all greens, all blues, 16 bits each.
fn coloured(indices: &[u8], palette: &[u16]) -> Vec<u8> {
    let colours = palette.len() / 3;
    let channel = |i: u8, c: usize| palette.get(c * colours + usize::from(i)).map_or(0, |v| (v >> 8) as u8);
    indices.iter().flat_map(|&i| [0, 1, 2].map(|c| channel(i, c))).collect()
}

/// Colours divided by their alpha, as PIL's `RGBa` is read.
fn divided(mut rgba: Vec<u8>) -> Vec<u8> {
    for [r, g, b, a] in rgba.as_chunks_mut::<4>().0 {
        if *a != 0 && *a != 255 {
            for v in [r, g, b] {
                *v = (255 * u32::from(*v) / u32::from(*a)).min(255) as u8;
            }
        }
    }
    rgba
}
