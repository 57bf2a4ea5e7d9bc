//! Sound: decoded to one channel, brought to the processor's rate, and turned into log-mel features.
//!
//! `bytes -> `[`decode`]` -> `[`Clip`]` -> `[`Clip::at_rate`]` -> `[`AudioProcessor::clips`]` -> `[`AudioProcessor::log_mel`]` -> `[`LogMel`].

mod decode;
mod format;
mod log_mel;
mod mono;
mod opus;
mod processor;
mod resample;

pub use decode::{Clip, Decoding, decode};
pub use format::Format;
pub use log_mel::LogMel;
pub use processor::{AudioProcessor, OnLong};
pub use resample::resample;

#[cfg(test)]
mod tests;
