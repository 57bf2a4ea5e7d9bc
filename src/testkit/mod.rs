//! What tests need: tiny models, a tiny tokenizer, a golden reader, tolerances. Not for other use.

pub mod tokenizer;
