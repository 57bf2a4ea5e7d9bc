//! Columns of which nobody knows what they hold until somebody says so.

use crate::error::Error;

/// The columns of a file fit no format by their names, or more than one. Behind an error of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("columns whose names do not say what they hold")]
pub struct UnnamedColumns(pub Vec<String>);

impl UnnamedColumns {
    /// The columns behind `error`, if that is what it is about.
    pub fn of(error: &Error) -> Option<&[String]> {
        let found: Option<&Self> = std::error::Error::source(error)?.downcast_ref();
        found.map(|UnnamedColumns(names)| names.as_slice())
    }
}
