//! Files for llama.cpp and Ollama.

mod described;
pub mod gguf;
pub mod lora;
pub mod ollama;

pub use crate::export::gguf::Exported;
pub use crate::export::ollama::MODEL;
pub use described::quants;
