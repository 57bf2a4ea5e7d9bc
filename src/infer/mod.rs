//! Generation: sampling, batched decoding, dialogues; scoring; what comes into each matrix.

pub mod dialogue;
pub mod generate;
pub mod sample;
pub mod score;
pub mod squares;

pub use dialogue::Dialogue;
pub use generate::{FinishReason, Generated, GenerationSettings, generate};
pub use sample::Sampling;
pub use squares::InputSquares;
