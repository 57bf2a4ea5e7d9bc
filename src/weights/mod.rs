//! The one table of tensor names; safetensors and GGUF files read and written.
//!
//! [`Source`] reads a model's tensors, one at a time, from either kind of file.

#[cfg(target_endian = "big")]
compile_error!("safetensors and GGUF files are little endian, and tensors move between file and memory in bulk");

mod bitsandbytes;
mod compress;
mod convert;
pub mod gguf;
mod holding;
mod host;
mod mapped;
pub mod names;
pub mod safetensors_file;
mod safetensors_folder;
pub mod safetensors_index;
pub mod slice;
mod source;
mod tensor_info;
#[cfg(test)]
mod tests;

pub use holding::{Compression, Form, Holding};
pub use host::{HostData, HostDtype, HostTensor};
pub use safetensors_folder::SafetensorsFolder;
pub use source::Source;
pub use tensor_info::TensorInfo;

pub use crate::quant::usable::LARGEST_WEIGHT;

use crate::error::{Error, Kind};

/// What a file that ends too early or does not add up usually is.
const DAMAGED: &str = "a truncated download, or a damaged file: fetch it again";

/// A problem with a weights file.
fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Weights, what)
}

/// Refuses a tensor whose shape is not the one that the model's config asks for.
fn check_shape(name: &str, expected: &[usize], found: &[usize]) -> crate::Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(wrong(format!("tensor `{name}`: expected {expected:?}, found {found:?}"))
        .hint("the tensors and the config beside them do not belong together"))
}
