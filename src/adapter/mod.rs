//! LoRA and its variants: target matching, initialisation, the low-rank side path, PEFT's files.

pub mod init;
pub mod lora;
pub mod pissa;

pub use init::{Init, LoraOptions};
pub use lora::{Adapter, Dropout, LoraModule, TrainedLayer};
