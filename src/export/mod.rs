//! What others load: PEFT folders, merged Hugging Face folders, GGUF files, model cards.

pub mod adapter_folder;
pub mod card;
pub mod check;
pub mod companions;
pub mod folder;
pub mod gguf;
pub mod merge_math;
pub mod merged;
mod model_folder;
pub mod ollama;
pub mod plot;
pub mod slice;
pub mod space;
