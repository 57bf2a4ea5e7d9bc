//! GIF: the first frame on its canvas.

use super::pixels::{Decoded, Samples};
use super::request::{Found, Refused, Request};
use gif::{DecodeOptions, MemoryLimit};
use std::io::Cursor;
use std::num::NonZeroU64;

pub(super) fn read(request: Request) -> Result<Found, Refused> {
    let mut options = DecodeOptions::new();
    let limit = NonZeroU64::new(request.max_bytes(1) as u64);
    options.set_memory_limit(limit.map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(Cursor::new(request.bytes))?;
    let xmp = decoder.xmp_metadata().map(<[u8]>::to_vec);
    let frame = decoder.next_frame_info()?.ok_or("it has no frame")?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let transparent = frame.transparent;
    let palette = frame.palette.clone();
    // A frame that hangs out of its canvas makes it larger, in PIL.
    let width = usize::from(decoder.width()).max(left + frame_width);
    let height = usize::from(decoder.height()).max(top + frame_height);
    if let Some(found) = request.sized(width as u64, height as u64)? {
        return Ok(found);
    }
    let palette = palette.or_else(|| decoder.global_palette().map(<[u8]>::to_vec)).unwrap_or_default();
    let mut indices = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut indices)?;

    let mut canvas = vec![transparent.unwrap_or(0); width * height];
    for (y, row) in indices.chunks_exact(frame_width.max(1)).enumerate() {
        canvas[(top + y) * width + left..][..frame_width].copy_from_slice(row);
    }
    // What the palette lacks is a shade of grey.
    let colour = |i: u8| palette.as_chunks::<3>().0.get(usize::from(i)).copied().unwrap_or([i; 3]);
    let samples = match transparent {
        None => Samples::Rgb(canvas.into_iter().flat_map(colour).collect()),
        Some(transparent) => {
            let pixel = |i: u8| {
                let [r, g, b] = colour(i);
                [r, g, b, if i == transparent { 0 } else { 255 }]
            };
            Samples::Rgba(canvas.into_iter().flat_map(pixel).collect())
        }
    };
    Ok(Found::Picture(Decoded::upright(width, height, samples).turned(None, xmp.as_deref())))
}
