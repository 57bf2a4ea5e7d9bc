//! Model definitions and the readers of their configurations.

pub mod decoder;
pub mod gemma3;

pub use decoder::DecoderLayer;
