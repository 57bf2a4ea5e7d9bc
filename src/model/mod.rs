//! Model definitions and the readers of their configurations.
//!
//! Whoever is outside names no architecture: [`ModelConfig`] is what is read, [`LanguageModel`] is what runs.

pub mod audio;
pub mod carry;
pub mod config;
pub mod decoder;
pub mod decoder_config;
pub mod gemma3;
pub mod gemma3n;
pub mod inputs;
pub mod language_model;
pub mod layout;
pub mod load;
pub mod media_shape;
pub mod parts;
mod published;
pub mod random;
pub mod site;
pub mod towers;
pub mod vision;

pub use carry::Carry;
pub use config::ModelConfig;
pub use decoder::DecoderLayer;
pub use decoder_config::{Beyond, DecoderConfig};
pub use gemma3n::Gemma3n;
pub use inputs::{Features, Inputs, Modality, SoftTokens};
pub use language_model::LanguageModel;
pub use layout::{Layout, Rotary, Rotations};
pub use load::{assemble, load, load_towers};
pub use media_shape::{MediaShape, TowerWork};
pub use parts::{Gain, NormShape, Parts};
pub use random::RandomModel;
pub use site::{Places, SCORE, SCORE_MODULE, Site, Stage, WholeTensor};
pub use towers::Towers;
