//! Gemma 3n: every published size, text, pictures and sounds.
//!
//! It computes as evaluation does, in training too: transformers clamps AltUp's coefficients to `altup_coef_clip` in
//! `train()` mode alone, those of the prediction in place, and so trains beside another base than the one that everybody
//! runs afterwards. The published coefficients are far below the published clip of 120, where both are the same.

mod agreement;
mod altup;
mod assemble;
mod audio;
pub mod config;
mod decoder_config;
mod embedder;
mod gate;
mod layer;
mod normal;
mod published;
mod sites;
mod slice;
mod text;
mod towers;
mod vision;

pub use audio::Audio;
pub use config::TextConfig;
pub use embedder::{EmbedderConfig, MultimodalEmbedder};
pub use published::published;
pub use text::Gemma3n;
pub use towers::Towers;
pub use vision::Vision;
