//! What tests need: a tiny tokenizer, a golden reader and tolerances. Not for other use; it panics where a test should
//! fail.

pub mod golden;
pub mod tokenizer;
