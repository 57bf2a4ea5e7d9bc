//! Generation: the engine that admits, steps and cancels requests, and its small drivers; sampling; scoring.

mod adjusted;
pub mod dialogue;
mod draft;
pub mod engine;
pub mod generate;
mod prefixes;
pub mod request;
pub mod sample;
pub mod score;
#[cfg(test)]
mod testing;

pub use adjusted::Adjusted;
pub use dialogue::Dialogue;
pub use engine::{CacheDtype, Engine, EngineOptions, Figures, Memory, Pace};
pub use generate::{GenerationSettings, generate};
pub use request::{AnswerId, Choose, Event, FinishReason, Generated, Prompt, Refusal, Request, Sampler};
pub use sample::{Sampling, most_likely};
