//! What kind of sound a file is, by its first bytes: names and media types lie.

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// WAV: PCM of 8 to 32 bits, floats, A-law, mu-law.
    Wav,
    /// FLAC.
    Flac,
    /// MP3, and layers I and II.
    Mp3,
    /// Vorbis in Ogg.
    Vorbis,
    /// Opus in Ogg: phones' voice notes.
    Opus,
    /// FLAC in Ogg.
    OggFlac,
    /// AAC-LC in MP4 (`.m4a`, `.mp4`).
    Mp4,
    /// AAC-LC without a container.
    Aac,
}

impl Format {
    /// The format that `bytes` begin as, after the tags of ID3.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let untagged = after_id3(bytes);
        let begins = |magic: &[u8]| untagged.starts_with(magic);
        let ogg = begins(b"OggS").then(|| &untagged[..untagged.len().min(512)]);
        let says = |page: &[u8], magic: &[u8]| page.windows(magic.len()).any(|window| window == magic);
        match untagged {
            _ if begins(b"RIFF") && untagged.get(8..12) == Some(b"WAVE") => Some(Format::Wav),
            _ if begins(b"fLaC") => Some(Format::Flac),
            _ if ogg.is_some_and(|page| says(page, b"OpusHead")) => Some(Format::Opus),
            _ if ogg.is_some_and(|page| says(page, b"\x01vorbis")) => Some(Format::Vorbis),
            _ if ogg.is_some_and(|page| says(page, b"\x7fFLAC")) => Some(Format::OggFlac),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] if !is_picture(untagged) => Some(Format::Mp4),
            // Eleven bits of synchronisation; AAC has layer 0, which MPEG audio does not.
            [0xff, second, third, ..] if second & 0xe0 == 0xe0 => match (second & 0xf6, second & 0x06, third & 0xf0) {
                (0xf0, ..) => Some(Format::Aac),
                (_, 0, _) | (_, _, 0xf0) => None,
                _ => Some(Format::Mp3),
            },
            // Padding between the tags and the first frame.
            _ if untagged.len() < bytes.len() => Some(Format::Mp3),
            _ => None,
        }
    }

    /// The format's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Wav => "WAV",
            Format::Flac => "FLAC",
            Format::Mp3 => "MP3",
            Format::Vorbis => "Ogg Vorbis",
            Format::Opus => "Ogg Opus",
            Format::OggFlac => "Ogg FLAC",
            Format::Mp4 => "M4A",
            Format::Aac => "AAC",
        }
    }

    /// The usual ending of a file's name, which helps where bytes are ambiguous.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Format::Wav => "wav",
            Format::Flac => "flac",
            Format::Mp3 => "mp3",
            Format::Vorbis | Format::Opus | Format::OggFlac => "ogg",
            Format::Mp4 => "m4a",
            Format::Aac => "aac",
        }
    }
}

/// What follows the ID3 tags.
fn after_id3(bytes: &[u8]) -> &[u8] {
    let [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] = *bytes else { return bytes };
    let length = [a, b, c, d].iter().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    bytes.get(10 + length..).unwrap_or_default()
}

fn is_picture(bytes: &[u8]) -> bool {
    matches!(bytes.get(8..12), Some(b"avif" | b"avis" | b"heic" | b"heix" | b"mif1" | b"msf1" | b"hevc"))
}

/// What `bytes` are that is no sound of ours, where that can be seen.
pub(super) fn what_else(bytes: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
    match bytes {
        _ if begins(b"OggS") => Some("an Ogg file with neither Vorbis, Opus nor FLAC in it"),
        _ if begins(b"\x1a\x45\xdf\xa3") => Some("a WebM or Matroska file"),
        _ if begins(b"#!AMR") => Some("an AMR file"),
        _ if begins(b"FORM") => Some("an AIFF file"),
        _ if begins(b"caff") => Some("a CAF file"),
        _ if begins(b".snd") => Some("an AU file"),
        _ if begins(b"RF64") || begins(b"BW64") => Some("a WAV file of more than 4 GB"),
        _ if begins(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11") => Some("a WMA file"),
        _ if begins(b"MAC ") || begins(b"wvpk") => Some("a Monkey's Audio or WavPack file"),
        _ if begins(b"MThd") => Some("a MIDI file, which has notes and no sound"),
        _ if begins(b"version https://git-lfs") => Some("a Git LFS pointer, not the sound itself"),
        _ if begins(b"\xff\xd8\xff") || begins(b"\x89PNG") || begins(b"GIF8") || is_picture(bytes) => Some("a picture"),
        _ if begins(b"PK\x03\x04") => Some("a ZIP archive"),
        _ if begins(b"\x1f\x8b") => Some("a gzip file"),
        _ if text().starts_with("<!doctype html") || text().starts_with("<html") => Some("a web page"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_seen_from_the_bytes() {
        assert_eq!(Format::of(b"RIFF....WAVEfmt "), Some(Format::Wav));
        assert_eq!(Format::of(b"RIFF....WEBP"), None);
        assert_eq!(Format::of(b"ID3\x04\0\0\0\0\0\x02..\xff\xfb\x90\0"), Some(Format::Mp3));
        assert_eq!(Format::of(b"\xff\xf1\x50\x80"), Some(Format::Aac));
        assert_eq!(Format::of(b"\xff\xd8\xff\xe0"), None); // JPEG
        assert_eq!(Format::of(b"....ftypM4A "), Some(Format::Mp4));
        assert_eq!(Format::of(b"ID3\x04\0\0\x7f\x7f\x7f\x7f"), Some(Format::Mp3));
        assert_eq!(Format::of(b""), None);
        assert_eq!(what_else(b"#!AMR\n"), Some("an AMR file"));
    }
}
