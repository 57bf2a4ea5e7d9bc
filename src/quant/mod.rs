//! Block formats as pure functions on bytes, and the frozen matrix that is kept in one of them.

#![allow(unsafe_code, reason = "vector instructions")]

pub mod absmax;
pub mod floats;
pub mod gguf_blocks;
pub mod int8;
pub mod matrix;
pub mod nf4;
pub mod plain;
pub mod rounded;
mod shared;
pub(crate) mod simd;
pub mod usable;

pub use absmax::Absmax;
pub use floats::FloatRows;
pub use gguf_blocks::QuantType;
pub use matrix::{QuantizedMatrix, Storage};
pub use plain::PlainRows;
pub use rounded::RoundedRows;
pub use shared::SharedBytes;
pub use usable::Unusable;
