//! Pixels in every form that files hold them in, and the RGB that PIL makes of each.

use super::exif;

/// A picture: RGB, 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

/// What becomes of transparency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Alpha {
    /// Over white, as the processors of transformers 5 compose it.
    #[default]
    OverWhite,
    /// Dropped, as PIL's `convert("RGB")` does, and transformers 4 did.
    Drop,
}

/// Samples as a codec gives them, 8 bits each.
pub(super) enum Samples {
    Grey(Vec<u8>),
    GreyAlpha(Vec<u8>),
    Rgb(Vec<u8>),
    Rgba(Vec<u8>),
    /// 0 is no ink.
    Cmyk(Vec<u8>),
}

/// A picture as a codec gives it.
pub(super) struct Decoded {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: Samples,
    /// EXIF's orientation, 1 for upright.
    pub(super) orientation: u8,
}

impl Decoded {
    /// An upright picture.
    pub(super) fn upright(width: usize, height: usize, samples: Samples) -> Self {
        Decoded { width, height, samples, orientation: 1 }
    }

    /// Turned as EXIF says, else as XMP says.
    pub(super) fn turned(mut self, exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let orientation = exif.and_then(exif::orientation).or_else(|| xmp.and_then(exif::xmp_orientation));
        self.orientation = orientation.unwrap_or(1);
        self
    }

    /// The upright RGB picture; `None` where the samples are not `width * height` pixels.
    pub(super) fn picture(self, alpha: Alpha) -> Option<Picture> {
        let Decoded { width, height, samples, orientation } = self;
        let rgb = samples.into_rgb(alpha);
        (rgb.len() == width.checked_mul(height)?.checked_mul(3)? && !rgb.is_empty())
            .then(|| turn(Picture { width, height, rgb }, orientation))
    }
}

impl Samples {
    fn into_rgb(self, alpha: Alpha) -> Vec<u8> {
        match self {
            Samples::Rgb(rgb) => rgb,
            Samples::Grey(grey) => grey.into_iter().flat_map(|v| [v; 3]).collect(),
            Samples::GreyAlpha(pairs) => {
                pairs.as_chunks().0.iter().flat_map(|&[v, a]| [shown(v, a, alpha); 3]).collect()
            }
            Samples::Rgba(fours) => {
                fours.as_chunks().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|v| shown(v, a, alpha))).collect()
            }
            Samples::Cmyk(fours) => {
                fours.as_chunks().0.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| paper(ink, k))).collect()
            }
        }
    }
}

/// One channel of a pixel, rounded as PIL's `alpha_composite` over opaque white rounds.
fn shown(value: u8, a: u8, alpha: Alpha) -> u8 {
    match alpha {
        Alpha::Drop => value,
        Alpha::OverWhite => {
            let (value, a) = (u32::from(value), u32::from(a));
            let sum = ((value * a + 255 * (255 - a)) << 7) + (0x80 << 7);
            ((((sum >> 8) + sum) >> 8) >> 7) as u8
        }
    }
}

/// What is left of white under `ink` and black: PIL's `cmyk2rgb`.
fn paper(ink: u8, black: u8) -> u8 {
    let white = 255 - u32::from(black);
    let product = u32::from(ink) * white + 128;
    (white - (((product >> 8) + product) >> 8).min(white)) as u8
}

/// The upright picture of one that is stored with an EXIF orientation.
fn turn(picture: Picture, orientation: u8) -> Picture {
    let Picture { width: w, height: h, rgb } = picture;
    let source = |x: usize, y: usize| match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        _ => (w - 1 - y, x),
    };
    let (width, height) = match orientation {
        2..=4 => (w, h),
        5..=8 => (h, w),
        _ => return Picture { width: w, height: h, rgb },
    };
    let mut turned = Vec::with_capacity(rgb.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = source(x, y);
            turned.extend_from_slice(&rgb[3 * (y * w + x)..][..3]);
        }
    }
    Picture { width, height, rgb: turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_is_turned_upright() {
        // A B C     stored 2 rows of 3
        // D E F
        let stored = || Picture { width: 3, height: 2, rgb: (0..6).flat_map(|v| [v; 3]).collect() };
        let upright = |orientation| {
            let Picture { width, rgb, .. } = turn(stored(), orientation);
            let letters: String = rgb.chunks(3).map(|p| char::from(b'A' + p[0])).collect();
            (width, letters)
        };
        let expected = [
            (1, 3, "ABCDEF"),
            (2, 3, "CBAFED"),
            (3, 3, "FEDCBA"),
            (4, 3, "DEFABC"),
            (5, 2, "ADBECF"),
            (6, 2, "DAEBFC"),
            (7, 2, "FCEBDA"),
            (8, 2, "CFBEAD"),
        ];
        for (orientation, width, letters) in expected {
            assert_eq!(upright(orientation), (width, letters.to_owned()), "{orientation}");
        }
    }

    #[test]
    fn transparency_is_white_or_dropped() {
        assert_eq!(shown(10, 0, Alpha::OverWhite), 255);
        assert_eq!(shown(10, 255, Alpha::OverWhite), 10);
        assert_eq!(shown(0, 128, Alpha::OverWhite), 127);
        assert_eq!(shown(10, 0, Alpha::Drop), 10);
        assert_eq!((paper(0, 0), paper(255, 0), paper(0, 255), paper(255, 255)), (255, 0, 0, 0));
    }

    #[test]
    fn pixels_that_are_missing_are_no_picture() {
        let decoded = Decoded::upright(2, 2, Samples::Grey(vec![0; 3]));
        assert!(decoded.picture(Alpha::Drop).is_none());
        assert!(Decoded::upright(0, 0, Samples::Rgb(Vec::new())).picture(Alpha::Drop).is_none());
    }
}
