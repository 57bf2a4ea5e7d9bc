//! Training: loop, loss, accumulation, optimiser, schedule, clipping, checkpoints, events.

pub mod event;
