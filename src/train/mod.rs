//! Training: loop, loss, accumulation, optimiser, schedule, clipping, checkpoints, events.

pub mod backprop;
pub mod checkpoint;
pub mod event;
pub mod optimizer;
pub mod resume;
pub mod run;
pub mod schedule;
pub mod step;
pub mod tensors;
