//! Metrics and comparisons as pure functions: of distributions, of texts, of choices, of scores, and how sure they are.

pub mod calls;
pub mod choice;
pub mod divergence;
pub mod edits;
pub mod intervals;
pub mod metric;
pub mod ngrams;
pub mod roc;
pub mod words;
