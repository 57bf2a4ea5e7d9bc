//! Pictures and sounds on their way into a model: how its files say they are prepared, what its towers say of them, and
//! that they count.

pub mod blank;
pub mod features;
mod kept;
pub mod processors;
pub mod rows;

pub use features::{Features, inputs};
