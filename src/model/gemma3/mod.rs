//! Gemma 3, text.

pub mod config;
