//! Files for llama.cpp and Ollama.

mod calibration;
mod described;
pub mod gguf;
pub mod lora;
pub mod measured;
pub mod mmproj;
pub mod ollama;
pub mod slice;

pub use crate::export::gguf::Exported;
pub use crate::export::gguf::lora::ExportedLora;
pub use crate::export::ollama::{ADAPTER, MODEL, MODELFILE};
pub use described::quants;
