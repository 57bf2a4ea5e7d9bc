//! The forms of OpenAI's API.

mod asked;
mod embeddings;
mod fields;
mod reply;
pub mod tuning;
mod wanted;

pub use self::asked::{Asked, Texts};
pub use self::embeddings::Embeddings;
pub use self::fields::{Fields, object};
pub use self::reply::{Form, Kind};
