//! Training: loop, loss, accumulation, optimiser, schedule, clipping, checkpoints, events.

pub mod checkpoint;
pub mod event;
pub mod rng;
pub mod schedule;
