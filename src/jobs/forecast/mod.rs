//! What a run will need, before it begins: memory and time.

pub mod beside;
pub mod fit;
pub mod frozen;
pub mod memory;
pub mod overview;
pub mod pace;
