//! How a camera held the picture: EXIF's orientation, and the first directory of a TIFF file that it is written as.

/// EXIF's tag of the orientation.
pub(super) const ORIENTATION: u16 = 274;
/// TIFF's tag of what a sample means.
pub(super) const PHOTOMETRIC: u16 = 262;

/// An entry of a directory: where its value (or the value's offset) lies, and whether numbers are big-endian.
pub(super) struct Entry {
    pub(super) at: usize,
    pub(super) big_endian: bool,
}

impl Entry {
    /// The value of a one-number entry.
    pub(super) fn short(&self, tiff: &[u8]) -> Option<u16> {
        short(tiff, self.at, self.big_endian)
    }
}

fn short(bytes: &[u8], at: usize, big_endian: bool) -> Option<u16> {
    let pair = *bytes.get(at..)?.first_chunk::<2>()?;
    Some(if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
}

fn long(bytes: &[u8], at: usize, big_endian: bool) -> Option<usize> {
    let four = *bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }).ok()
}

/// The entry of the first directory of `tiff` with this tag and a number of 16 bits.
pub(super) fn entry(tiff: &[u8], tag: u16) -> Option<Entry> {
    let big_endian = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    const SHORT: u16 = 3;
    let directory = long(tiff, 4, big_endian)?;
    let count = usize::from(short(tiff, directory, big_endian)?);
    let first = directory.checked_add(2)?;
    let places = (0..count).map_while(|i| first.checked_add(12 * i).filter(|at| *at < tiff.len()));
    let found = places
        .into_iter()
        .find(|&at| short(tiff, at, big_endian) == Some(tag) && short(tiff, at + 2, big_endian) == Some(SHORT))?;
    Some(Entry { at: found + 8, big_endian })
}

/// The orientation (1 to 8) that an EXIF block says.
pub(super) fn orientation(exif: &[u8]) -> Option<u8> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let value = entry(tiff, ORIENTATION)?.short(tiff)?;
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

/// The orientation that an XMP packet says, which PIL takes where EXIF says none.
pub(super) fn xmp_orientation(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let starts = xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).map(|(at, _)| at);
    let digit = starts.into_iter().find_map(|at| match xmp.get(at + NAME.len()..)? {
        [b'=', b'"', digit, ..] | [b'>', digit, ..] if digit.is_ascii_digit() => Some(digit - b'0'),
        _ => None,
    })?;
    Some(digit).filter(|value| (1..=8).contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientations_are_read_in_both_byte_orders() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!((orientation(little), orientation(big)), (Some(6), Some(8)));
        for end in 0..little.len() - 3 {
            assert_eq!(orientation(&little[..end]), None, "{end}");
        }
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff\xff\xff"), None);
    }

    #[test]
    fn xmp_is_read_as_attribute_and_element() {
        assert_eq!(xmp_orientation(b"<x tiff:Orientation=\"3\"/>"), Some(3));
        assert_eq!(xmp_orientation(b"<tiff:Orientation>8</tiff:Orientation>"), Some(8));
        assert_eq!(xmp_orientation(b"tiff:Orientation=\"9\""), None);
        assert_eq!(xmp_orientation(b"tiff:Orientation"), None);
    }
}
