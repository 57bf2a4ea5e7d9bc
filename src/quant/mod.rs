//! Block formats as pure functions on bytes.

pub mod gguf_blocks;

pub use gguf_blocks::QuantType;
