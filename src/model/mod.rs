//! Model definitions and the readers of their configurations.

pub mod decoder;
pub mod gemma3;
pub mod site;

pub use decoder::DecoderLayer;
pub use site::{Site, Stage};
