//! What tests need: a golden reader and tolerances. Not for other use; it panics where a test should fail.

pub mod golden;
