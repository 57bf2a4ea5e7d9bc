//! Training: loop, loss, accumulation, optimiser, schedule, clipping, checkpoints, events.

pub mod backprop;
pub mod event;
pub mod memory;
pub mod optimizer;
pub mod resume;
pub mod run;
pub mod step;
pub mod tensors;
