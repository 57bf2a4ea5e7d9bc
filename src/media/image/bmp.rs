//! Windows bitmaps: palettes, run lengths, 16 to 32 bits, as PIL reads them.
//!
//! # Source
//! Pillow's `BmpImagePlugin.py`.

use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};

const FILE_HEADER: usize = 14;

/// What the header says.
struct Header {
    width: usize,
    height: usize,
    top_down: bool,
    bits: u16,
    compression: Compression,
    /// Red, green, blue, alpha.
    masks: [u32; 4],
    palette: Vec<[u8; 3]>,
    /// Where the pixels begin.
    pixels: usize,
}

#[derive(PartialEq)]
enum Compression {
    None,
    Rle8,
    Rle4,
    Masks,
}

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let header = header(request.bytes)?;
    if let Some(found) = request.sized(header.width as u64, header.height as u64)? {
        return Ok(found);
    }
    let Header { width, height, bits, .. } = header;
    let data = request.bytes.get(header.pixels..).unwrap_or_default();
    let rows: Vec<u8> = match header.compression {
        Compression::Rle8 | Compression::Rle4 => {
            let nibbles = header.compression == Compression::Rle4;
            let indices = unrolled(data, header.pixels, width, height, nibbles)?;
            indices.into_iter().flat_map(|i| header.colour(i)).collect()
        }
        Compression::None | Compression::Masks => {
            let stride = (width * usize::from(bits)).div_ceil(32) * 4;
            // The last row may lack its padding.
            let used = (width * usize::from(bits)).div_ceil(8);
            if data.len() < stride * (height - 1) + used {
                return Err(Refused::Broken(format!("it ends after {} of {height} rows", data.len() / stride)));
            }
            let pixels = data.chunks(stride).take(height).map(|row| header.row(row));
            pixels.collect::<Result<Vec<_>, _>>()?.concat()
        }
    };
    let channels = if header.has_alpha() { 4 } else { 3 };
    let stored = rows.chunks_exact(width * channels);
    let upright: Vec<u8> = if header.top_down { rows } else { stored.rev().flatten().copied().collect() };
    let samples = if channels == 4 { Samples::Rgba(upright) } else { Samples::Rgb(upright) };
    Ok(Found::Picture(Decoded::upright(width, height, samples)))
}

fn header(bytes: &[u8]) -> Result<Header, Refused> {
    let cut_off = "it ends within its header";
    let short =
        |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| u16::from_le_bytes(*b)).ok_or(cut_off);
    let long = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_le_bytes(*b)).ok_or(cut_off);
    let field = |at: usize| FILE_HEADER + at;
    let length = long(FILE_HEADER)? as usize;
    let mut palette_at = field(length);
    let mut masks = [0; 4];
    let (width, height, bits, compression, colours) = match length {
        12 => (u32::from(short(field(4))?), u32::from(short(field(6))?), short(field(10))?, 0, 0),
        40 | 52 | 56 | 64 | 108 | 124 => {
            (long(field(4))?, long(field(8))?, short(field(14))?, long(field(16))?, long(field(32))?)
        }
        other => return Err(Refused::Broken(format!("its header has {other} bytes, which no version has"))),
    };
    let top_down = length > 12 && height >> 24 == 0xff;
    let height = if top_down { height.wrapping_neg() } else { height };
    let compression = match compression {
        0 => Compression::None,
        1 if bits == 8 => Compression::Rle8,
        2 if bits == 4 => Compression::Rle4,
        3 => Compression::Masks,
        other => return Err(Refused::Broken(format!("its compression is {other} with {bits} bits a pixel"))),
    };
    if compression == Compression::Masks {
        // Written after the shortest header, and inside of all others.
        let channels = if length >= 56 { 4 } else { 3 };
        for (i, mask) in masks.iter_mut().take(channels).enumerate() {
            *mask = long(field(40 + 4 * i))?;
        }
        palette_at += if length == 40 { 12 } else { 0 };
    }
    let palette = if bits <= 8 { palette(bytes, palette_at, length, bits, colours)? } else { Vec::new() };
    let mut pixels = long(10)? as usize;
    let entry = if length == 12 { 3 } else { 4 };
    if pixels == 0 || (pixels == field(length) && bits <= 8) {
        pixels = palette_at + palette.len() * entry;
    }
    let (width, height) = (width as usize, height as usize);
    let header = Header { width, height, top_down, bits, compression, masks, palette, pixels };
    if header.is_known() { Ok(header) } else { Err(Refused::Broken(format!("its pixels of {bits} bits are unknown"))) }
}

fn palette(bytes: &[u8], at: usize, header: usize, bits: u16, colours: u32) -> Result<Vec<[u8; 3]>, Refused> {
    let count = if colours == 0 { 1 << bits } else { colours as usize };
    if count > 65536 {
        return Err(Refused::Broken(format!("its palette has {count} colours")));
    }
    let entry = if header == 12 { 3 } else { 4 };
    let entries = bytes.get(at..).unwrap_or_default().chunks_exact(entry).take(count);
    Ok(entries.map(|entry| [entry[2], entry[1], entry[0]]).collect())
}

impl Header {
    /// Whether PIL knows this layout of pixels.
    fn is_known(&self) -> bool {
        let masks = (self.bits, self.masks);
        match self.compression {
            Compression::Masks => matches!(
                masks,
                (16, [0xf800, 0x7e0, 0x1f, _] | [0x7c00, 0x3e0, 0x1f, _])
                    | (24, [0xff_0000, 0xff00, 0xff, _])
                    | (32, [0xff_0000, 0xff00, 0xff, 0 | 0xff00_0000])
                    | (32, [0xff00_0000, 0xff_0000, 0xff00, 0 | 0xff])
                    | (32, [0xff00_0000, 0xff00, 0xff, 0 | 0xff_0000])
                    | (32, [0xff, 0xff00, 0xff_0000, 0xff00_0000])
                    | (32, [0, 0, 0, 0])
            ),
            _ => matches!(self.bits, 1 | 4 | 8 | 16 | 24 | 32),
        }
    }

    fn has_alpha(&self) -> bool {
        self.compression == Compression::Masks && self.bits == 32 && (self.masks[3] != 0 || self.masks == [0; 4])
    }

    /// What the palette lacks is a shade of grey.
    fn colour(&self, index: u8) -> [u8; 3] {
        self.palette.get(usize::from(index)).copied().unwrap_or([index; 3])
    }

    /// The pixels of a row, RGB or RGBA.
    fn row(&self, row: &[u8]) -> Result<Vec<u8>, Refused> {
        let width = self.width;
        Ok(match self.bits {
            1 | 4 | 8 => {
                let bits = usize::from(self.bits);
                let index = |i: usize| {
                    let shift = 8 - bits - i * bits % 8;
                    row.get(i * bits / 8).map(|byte| byte >> shift & ((1u16 << bits) - 1) as u8)
                };
                let indices: Option<Vec<u8>> = (0..width).map(index).collect();
                indices.ok_or("a row is cut off")?.into_iter().flat_map(|i| self.colour(i)).collect()
            }
            16 => {
                let wide_green = self.masks[1] == 0x7e0;
                let pixel = |pair: &[u8; 2]| {
                    let v = u32::from(u16::from_le_bytes(*pair));
                    let (red, green) = if wide_green {
                        (v >> 11, (v >> 5 & 63) * 255 / 63)
                    } else {
                        (v >> 10 & 31, (v >> 5 & 31) * 255 / 31)
                    };
                    [(red * 255 / 31) as u8, green as u8, ((v & 31) * 255 / 31) as u8]
                };
                row.as_chunks().0.iter().take(width).flat_map(pixel).collect()
            }
            24 => row.as_chunks().0.iter().take(width).flat_map(|&[b, g, r]| [r, g, b]).collect(),
            _ => {
                let masks = if self.masks == [0; 4] { [0xff_0000, 0xff00, 0xff, 0xff00_0000] } else { self.masks };
                let channels = if self.has_alpha() { 4 } else { 3 };
                let byte = |four: &[u8; 4], channel: usize| four[masks[channel].trailing_zeros() as usize / 8 % 4];
                let pixels = row.as_chunks::<4>().0.iter().take(width);
                pixels.flat_map(|four| (0..channels).map(move |channel| byte(four, channel))).collect()
            }
        })
    }
}

/// The indices that run lengths stand for, bottom row first.
fn unrolled(data: &[u8], start: usize, width: usize, height: usize, nibbles: bool) -> Result<Vec<u8>, Refused> {
    let total = width * height;
    let mut out = Vec::with_capacity(total);
    let mut bytes = data.iter().copied();
    let mut at = start; // literals are padded to even places of the file
    let mut x = 0;
    while out.len() < total {
        let (Some(count), Some(value)) = (bytes.next(), bytes.next()) else { break };
        at += 2;
        let nibble = |i: usize| if i.is_multiple_of(2) { value >> 4 } else { value & 15 };
        match (usize::from(count), usize::from(value)) {
            (0, 0) => {
                out.resize(out.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (Some(right), Some(up)) = (bytes.next(), bytes.next()) else { break };
                at += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                out.resize((out.len() + skipped).min(total), 0);
                x = out.len() % width;
            }
            (0, literal) => {
                let count = literal.min(total - out.len());
                let wanted = if nibbles { count.div_ceil(2) } else { count };
                let taken: Vec<u8> = bytes.by_ref().take(wanted).collect();
                at += taken.len();
                let complete = taken.len() == wanted;
                if nibbles {
                    out.extend(taken.iter().flat_map(|pair| [pair >> 4, pair & 15]).take(count));
                } else {
                    out.extend(taken);
                }
                if !complete {
                    break;
                }
                x += literal;
                if at % 2 == 1 {
                    bytes.next();
                    at += 1;
                }
            }
            (run, _) => {
                let run = run.min(width.saturating_sub(x));
                out.extend((0..run).map(|i| if nibbles { nibble(i) } else { value }));
                x += run;
            }
        }
    }
    if out.len() < total {
        return Err(Refused::Broken(format!("it ends after {} of {height} rows", out.len() / width)));
    }
    out.truncate(total);
    Ok(out)
}
