//! Operations with their own gradient.

#![allow(unsafe_code, reason = "kernels: products, vector instructions, and buffers of a device")]

mod adamw;
pub mod attention;
mod backward;
mod conv;
mod cpu;
mod cross_entropy;
mod device;
mod dropout;
mod factor;
mod geglu;
#[cfg(feature = "gpu")]
mod gpu;
mod graph;
mod inference;
mod input;
mod linear;
mod node;
mod norm;
mod passing;
pub mod plain;
mod product;
mod roundoff;
pub mod sizes;
mod squares;
mod top_of_row;
mod traffic;
mod weight;

pub use adamw::adamw;
pub use adamw::rates::AdamW;
pub use attention::{AttentionMask, AttentionShape, Group, Looking, Visibility, attention, attention_each};
pub use backward::backward_from;
pub use conv::{depthwise_conv, patches};
pub use cpu::instructions::instruction_set;
pub use cpu::peak::{Peaks, peaks};
pub use cross_entropy::{RowLosses, linear_cross_entropy};
pub use device::{can_hold, cpu_bf16_products, cpu_multiplies_bf16, fastest_factors};
pub use dropout::dropout;
pub use geglu::geglu;
pub use inference::inference;
pub use input::Input;
pub use node::is_cpu;
pub use norm::{rms_norm, rms_norm_for, rotated_rms_norm};
pub use passing::Passing;
pub use product::{product, unusable_ways};
pub use roundoff::{F32_TOLERANCE, Roundoff};
pub use squares::square_sums;
pub use top_of_row::top_of_row;
pub use traffic::{Traffic, Values, read_back, upload, values};
pub use weight::Weight;

#[cfg(test)]
mod tests;
