//! Training: loop, accumulation, clipping, optimiser, schedule, memory, checkpoints, resume, events.

pub mod backprop;
pub mod checkpoint;
pub mod event;
pub mod micro_batch;
pub mod objective;
pub mod optimizer;
pub mod recompute;
pub mod replicas;
pub mod resume;
pub mod run;
pub mod schedule;
pub mod step;
pub mod tensors;
