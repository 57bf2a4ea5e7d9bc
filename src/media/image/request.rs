//! What a codec of pictures is asked for, and what it answers.

use super::pixels::Decoded;

/// Why a codec gave no picture.
pub(super) enum Refused {
    /// More pixels than allowed.
    TooLarge(u64, u64),
    /// What is wrong with the file, in the words of its codec.
    Broken(String),
    /// What it has that is not read here.
    Unsupported(String),
}

impl<E: std::fmt::Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused::Broken(error.to_string())
    }
}

/// What a codec is asked for.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) max_pixels: u64,
    pub(super) only_size: bool,
}

/// What a codec found out.
pub(super) enum Found {
    Size(usize, usize),
    Picture(Decoded),
}

impl Request<'_> {
    /// Checks the size that a header claims; what is to be returned at once where only the size is asked for.
    pub(super) fn sized(&self, width: impl Into<u64>, height: impl Into<u64>) -> Result<Option<Found>, Refused> {
        let (width, height) = (width.into(), height.into());
        match width.checked_mul(height) {
            Some(0) => Err(Refused::Broken(format!("it is {width} x {height} pixels"))),
            Some(pixels) if pixels <= self.max_pixels => {
                Ok(self.only_size.then_some(Found::Size(width as usize, height as usize)))
            }
            _ => Err(Refused::TooLarge(width, height)),
        }
    }

    /// The most bytes that samples of so many bytes a pixel may take.
    pub(super) fn max_bytes(&self, a_pixel: u64) -> usize {
        usize::try_from(self.max_pixels.saturating_mul(a_pixel)).unwrap_or(usize::MAX)
    }
}
