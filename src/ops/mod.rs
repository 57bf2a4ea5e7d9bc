//! Operations with their own gradient.

#![allow(unsafe_code, reason = "kernels: products, vector instructions, and buffers of a device")]

pub mod attention;
mod cpu;
pub mod cross_entropy;
mod device;
mod factor;
mod frozen;
mod geglu;
#[cfg(feature = "gpu")]
mod gpu;
mod graph;
mod linear;
mod node;
mod norm;
pub mod plain;

pub use attention::{AttentionMask, AttentionShape, Group, Visibility, attention};
pub use cross_entropy::{RowLosses, linear_cross_entropy};
pub use device::{DeviceMatrix, TILE_BYTES as UNPACKED_TILE_BYTES, can_hold, fastest_factors};
pub use frozen::Frozen;
pub use geglu::geglu;
pub use linear::{geglu_lora_linear, linear, lora_linear};
pub use node::is_cpu;
pub use norm::{rms_norm, rotated_rms_norm};

#[cfg(test)]
mod tests;
