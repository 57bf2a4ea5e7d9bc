//! What a run is made of: what its recipe settles, its data, its adapter, and what it leaves behind.

pub mod adapter_plan;
pub mod batches;
pub mod cache;
pub mod data;
pub mod device_peak;
pub mod evaluation;
pub mod folder;
pub mod identity;
pub mod interrupt;
pub mod outputs;
pub mod policy;
pub mod probe;
pub mod publish;
pub mod pushing;
pub mod reference;
pub mod replicas;
pub mod resuming;
pub mod rewards;
pub mod rollouts;
pub mod samples;
pub mod settings;
pub mod steady;
pub mod steps;
pub mod suited;
pub mod verdict;
