//! A fence around decoders of others: a panic on damaged input is an error like any other.
//!
//! Decoders of parquet, pictures and sounds index and shift by numbers from the file. Our promise is an error that names it.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside the fence, where a panic is an expected way to fail and not to be printed.
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`; a panic in it becomes an error. What `decode` worked on must not be used after an error.
///
/// # Errors
/// What `decode` fails with, as text, or that it panicked.
pub fn guarded<T, E: Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                print(info);
            }
        }));
    });
    FENCED.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(decode));
    FENCED.set(false);
    match outcome {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("its decoder ran into impossible values".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| Ok::<_, String>(1)), Ok(1));
        assert_eq!(guarded(|| Err::<u32, _>("no")), Err("no".to_owned()));
        let nothing: Vec<u32> = Vec::new();
        let failed = guarded(|| Ok::<_, String>(nothing[nothing.len()]));
        assert_eq!(failed, Err("its decoder ran into impossible values".to_owned()));
    }
}
