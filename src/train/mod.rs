//! Training: loop, loss, accumulation, optimiser, schedule, clipping, checkpoints, events.

pub mod backprop;
pub mod event;
pub mod loss;
pub mod optimizer;
pub mod step;
