//! LoRA and QLoRA fine-tuning of Gemma 3 and 3n, in one binary, on [burn].
//!
//! Rooms and the one direction in which they use each other (`tests/it/architecture.rs` has every arrow and keeps it
//! true):
//!
//! ```text
//! cli -> jobs -> recipe -> data -> {text, media} -> weights -> quant
//!          +---> report -> train -> adapter -> model -> nn -> ops -> quant
//!          +---> serve -> infer -----------------+
//!          +---> queue -> recipe
//!          +---> export ---------------------------> weights
//!          +---> eval
//!          +---> hub                     everything -> error, atomic, clock, fence, guard, input, paths, process, progress, random, terminal
//!          +---> device ----------------------------> ops
//! ```
//!
//! `studio` stands beside `jobs`: it starts this program's verbs and uses `serve`, `queue` and `recipe` alone.
//!
//! `jobs` wires the rooms together and alone knows most of them: `base/` opens a model, `run/` holds the parts of a run,
//! `forecast/` says what one will need. `adapter` and `model` read `weights`; data knows no model, and no model code
//! knows adapters. `recipe` has the option enums of the rooms that obey them, and asks `adapter` which names mean a
//! module.
//!
//! A step's data has a name at every stage:
//! `Recipe -> Row -> Conversation -> Tokenized -> PackedBatch -> Inputs -> MicroBatch -> Carry -> hidden -> Objective ->
//! Computed -> StepResult -> StepEvent -> State -> Adapter`.

pub mod adapter;
pub mod atomic;
pub mod cli;
pub mod clock;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod export;
pub mod fence;
pub mod guard;
pub mod hub;
pub mod infer;
pub mod input;
pub mod jobs;
pub mod media;
pub mod model;
pub mod nn;
pub mod ops;
pub mod paths;
pub mod process;
pub mod progress;
pub mod quant;
#[cfg(feature = "serve")]
pub mod queue;
pub mod random;
pub mod recipe;
pub mod report;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "studio")]
pub mod studio;
pub mod terminal;
pub mod testkit;
pub mod text;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
