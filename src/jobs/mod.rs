//! One file per job, and the rooms that they share; the only place that wires the rooms of the program together.

pub mod base;
pub mod chat;
pub mod check_recipe;
pub mod doctor;
pub mod draft;
pub mod estimate;
pub mod evaluate;
pub mod export;
pub mod forecast;
pub mod generate;
pub mod init;
pub mod inspect;
pub mod media;
pub mod merge;
pub mod preview;
pub mod push;
pub mod run;
pub mod score;
pub mod self_check;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sft;
pub mod verify;
