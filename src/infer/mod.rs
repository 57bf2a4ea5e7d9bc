//! Generation: sampling, batched decoding; scoring.

pub mod generate;
pub mod sample;
pub mod score;

pub use generate::{FinishReason, Generated, GenerationSettings, generate};
pub use sample::Sampling;
