//! What others load: PEFT folders, merged Hugging Face folders, model cards.

pub mod adapter_folder;
pub mod card;
pub mod check;
pub mod companions;
pub mod folder;
pub mod merge_math;
pub mod merged;
