//! Files for llama.cpp and Ollama.

mod described;
pub mod gguf;
pub mod lora;
pub mod ollama;
pub mod slice;

pub use crate::export::gguf::Exported;
pub use described::quants;
