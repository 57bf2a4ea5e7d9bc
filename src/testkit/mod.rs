//! What tests need: a tiny tokenizer, a golden reader and tolerances. Not for other use; it panics where a test should
//! fail.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a golden that is missing is a failed test")]

pub mod golden;
pub mod tokenizer;
