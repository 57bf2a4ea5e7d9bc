//! Block formats as pure functions on bytes.
