//! One file per job; the only place that wires the rooms together.

pub mod adapter;
pub mod answer;
pub mod chat;
pub mod check_recipe;
pub mod device;
pub mod doctor;
pub mod estimate;
pub mod evaluate;
pub mod feed;
pub mod fit;
pub mod inspect;
pub mod look;
pub mod merge;
pub mod model;
pub mod outputs;
pub mod overview;
pub mod pace;
pub mod probe;
pub mod provenance;
pub mod publish;
pub mod random_model;
pub mod samples;
pub mod score;
pub mod self_check;
pub mod sft;
pub mod tuned;

pub use model::Base;
pub use tuned::Tuned;
