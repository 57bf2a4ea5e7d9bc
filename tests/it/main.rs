//! The integration tests: one binary, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what goes wrong is a failed test")]

mod architecture;
mod bench;
mod broken;
mod chat;
mod circles;
mod estimate;
mod evaluate;
mod exports;
mod fidelity;
mod fuzz;
mod gemma3n;
mod gemma3n_audio;
mod gemma3n_gguf;
mod gemma3n_vision;
mod guarded;
#[cfg(feature = "hub")]
mod hub;
mod media_rows;
mod mmproj;
mod multimodal;
mod numbers;
mod optimizer;
mod outputs;
mod own_data;
mod preference;
mod preference_runs;
#[cfg(feature = "hub")]
mod push;
mod quantised;
mod recipe_check;
mod replicas;
mod resume;
mod rollouts;
mod rows;
mod runs;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_jobs;
#[cfg(feature = "serve")]
mod serve_routed;
mod session;
mod sources;
#[cfg(feature = "studio")]
mod studio;
mod templates;
mod training;
mod verbs;
mod verify;
mod vision;
mod vision_preference;
mod wrong_preferences;
