//! PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! ```text
//! y = x W^T + s (x A^T) B^T        A: [r, in], B: [out, r], s = lora_alpha / r
//! ```
//!
//! # Source
//! PEFT 0.21.2, `tuners/lora` and `utils/save_and_load.py`; `scripts/make_export_goldens.py` makes the fixtures.

mod config;
mod convert;
mod own_places;
mod reader;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;

pub use config::{AdapterConfig, CONFIG_FILE, Patterns};
pub use convert::{check, from_adapter, of_tensor, read, to_device};
pub use own_places::own_places;
pub use reader::{AnotherBase, PeftAdapter};
pub use tensors::{AdapterTensors, ModuleTensors, TENSORS_FILE};
