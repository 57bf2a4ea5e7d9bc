//! LoRA and its variants: target matching, initialisation, the low-rank side path, PEFT's files, and those of llama.cpp.

pub mod gguf;
pub mod init;
pub mod layers;
pub mod lora;
pub mod peft;
pub mod pissa;
pub mod target;

pub use init::{Init, LoraOptions};
pub use layers::TargetLayers;
pub use lora::{Adapter, Dropout, LoraModule, TrainedStage, TrainedTensor};
