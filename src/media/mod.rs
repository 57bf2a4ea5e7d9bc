//! Images and audio, decoded and prepared as the Hugging Face processors do; features are plain arrays.
//!
//! Knows files and numbers, no models and no tensors: a picture becomes [`image::PixelValues`], a clip becomes
//! [`audio::LogMel`]. What is broken, empty or larger than a limit is an error with a hint, never a panic.

pub mod audio;
pub mod image;
mod processors;

pub use processors::Processors;

#[cfg(test)]
mod tests;
