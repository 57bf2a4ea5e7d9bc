//! What time it is, in seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now.
pub fn now() -> u64 {
    since_1970(SystemTime::now()).as_secs()
}

/// How long after the beginning of 1970 a moment is.
pub fn since_1970(moment: SystemTime) -> Duration {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}
