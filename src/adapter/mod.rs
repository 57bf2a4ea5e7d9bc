//! LoRA and its variants: target matching, initialisation, the low-rank side path, PEFT's files.

pub mod peft;
pub mod target;
