//! Gemma 3: every published size, and what its multimodal ones look at pictures with.

pub(in crate::model) mod agreement;
mod assemble;
pub mod config;
mod decoder_config;
mod published;
mod sites;
mod text;

pub use config::TextConfig;
pub use published::published;
pub use text::{Gemma3, Vision};
