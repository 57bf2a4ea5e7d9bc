//! Files for llama.cpp and Ollama.

mod described;
pub mod gguf;
pub mod lora;
pub mod mmproj;
pub mod ollama;

pub use crate::export::gguf::Exported;
pub use described::quants;
