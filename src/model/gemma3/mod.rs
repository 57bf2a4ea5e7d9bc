//! Gemma 3: the text model of every published size.

mod agreement;
pub mod assemble;
pub mod config;
pub mod load;
pub mod published;
pub mod random;
mod sites;
pub mod text;

pub use assemble::Parts;
pub use config::TextConfig;
pub use published::published;
pub use random::RandomModel;
pub use text::{Gemma3, Layout};
