//! What kind of picture a file is, by its first bytes: names and media types lie.

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline and progressive; grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG, and the first image of an animated one.
    Png,
    /// GIF, the first frame.
    Gif,
    /// WebP: lossy and lossless, the first frame.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF, the first page.
    Tiff,
}

impl Format {
    /// The format that `bytes` begin as.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let begins = |magic: &[u8]| bytes.starts_with(magic);
        match bytes {
            _ if begins(&[0xff, 0xd8, 0xff]) => Some(Format::Jpeg),
            _ if begins(b"\x89PNG\r\n\x1a\n") => Some(Format::Png),
            _ if begins(b"GIF87a") || begins(b"GIF89a") => Some(Format::Gif),
            _ if begins(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Some(Format::WebP),
            _ if begins(b"BM") => Some(Format::Bmp),
            _ if begins(b"II*\0") || begins(b"MM\0*") || begins(b"II+\0") || begins(b"MM\0+") => Some(Format::Tiff),
            _ => None,
        }
    }

    /// The format's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Gif => "GIF",
            Format::WebP => "WebP",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
        }
    }
}

/// What `bytes` are that is no picture of ours, where that can be seen.
pub(super) fn what_else(bytes: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let brand = (bytes.get(4..8) == Some(b"ftyp")).then(|| bytes.get(8..12)).flatten();
    let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
    match brand {
        Some(b"avif" | b"avis") => return Some("an AVIF picture"),
        Some(b"heic" | b"heix" | b"mif1" | b"msf1" | b"hevc") => return Some("a HEIC picture"),
        Some(_) => return Some("a video or audio file"),
        None => {}
    }
    match bytes {
        _ if begins(b"version https://git-lfs") => Some("a Git LFS pointer, not the picture itself"),
        _ if begins(b"%PDF") => Some("a PDF document"),
        _ if begins(b"\0\0\x01\0") => Some("a Windows icon"),
        _ if begins(b"\xff\x0a") || begins(b"\0\0\0\x0cJXL ") => Some("a JPEG XL picture"),
        _ if begins(b"\0\0\0\x0cjP  ") || begins(b"\xff\x4f\xff\x51") => Some("a JPEG 2000 picture"),
        _ if begins(b"8BPS") => Some("a Photoshop document"),
        _ if begins(b"PK\x03\x04") => Some("a ZIP archive"),
        _ if begins(b"\x1f\x8b") => Some("a gzip file"),
        _ if begins(b"RIFF") || begins(b"OggS") || begins(b"fLaC") || begins(b"ID3") => Some("a sound file"),
        _ if text().starts_with("<!doctype html") || text().starts_with("<html") => Some("a web page"),
        _ if text().starts_with("<svg") || text().starts_with("<?xml") => Some("an SVG drawing or another XML file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_seen_from_the_bytes() {
        assert_eq!(Format::of(b"\xff\xd8\xff\xe0"), Some(Format::Jpeg));
        assert_eq!(Format::of(b"RIFF....WEBPVP8 "), Some(Format::WebP));
        assert_eq!(Format::of(b"RIFF....WAVEfmt "), None);
        assert_eq!(Format::of(b""), None);
        assert_eq!(what_else(b"....ftypheic"), Some("a HEIC picture"));
        assert_eq!(what_else(b"\n <!DOCTYPE html>"), Some("a web page"));
        assert_eq!(what_else(b""), None);
    }
}
