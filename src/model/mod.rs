//! Model definitions and the readers of their configurations.

pub mod gemma3;
