//! Pictures: decoded, turned and made RGB as PIL does, then resized and scaled as an image processor's configuration says.
//!
//! `bytes -> `[`decode`]` -> `[`Picture`]` -> `[`ImageProcessor::prepare`]` -> `[`PixelValues`].

mod bmp;
mod crops;
mod decode;
mod exif;
mod format;
mod gif;
mod jpeg;
mod pixels;
mod png;
mod processor;
mod request;
mod resize;
mod tiff;
mod webp;

pub use crops::PanAndScan;
pub use decode::{Decoding, decode, size};
pub use format::Format;
pub use pixels::{Alpha, Picture};
pub use processor::{ImageProcessor, Normalization, PixelValues};
pub use resize::resize;

#[cfg(test)]
mod tests;
