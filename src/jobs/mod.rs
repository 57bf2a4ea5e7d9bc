//! One file per job; the only place that wires the rooms together.

pub mod adapter;
pub mod device;
pub mod feed;
pub mod model;
pub mod sft;
pub mod tuned;

pub use model::Base;
pub use tuned::Tuned;
