//! Generation: sampling, batched decoding, dialogues; scoring.

pub mod dialogue;
pub mod generate;
pub mod sample;
pub mod score;

pub use dialogue::Dialogue;
pub use generate::{FinishReason, Generated, GenerationSettings, generate};
pub use sample::Sampling;
