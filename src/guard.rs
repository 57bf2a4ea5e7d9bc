//! A fence around the code of others: a panic there is an error like any other.
//!
//! Decoders of parquet, pictures and sounds index and shift by numbers from the file; our promise is an error that names
//! it. Libraries of devices panic where a kernel cannot run or memory ends; a run is to be saved first.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside the fence, where a panic is an expected way to fail and not to be printed.
    static FENCED: Cell<bool> = const { Cell::new(false) };
    /// Where in our own code it panicked there.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs `decode`; a panic in it becomes an error. What `decode` worked on must not be used after an error.
///
/// # Errors
/// What `decode` fails with, as text, or that it panicked.
pub fn guarded<T, E: Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match caught(decode) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("its decoder ran into impossible values".to_owned()),
    }
}

/// Runs what may panic, as drivers of devices do. What `work` worked on must not be used after an error.
///
/// # Errors
/// What the panic said, and where, if that was in code of ours.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                print(info);
            } else if let Some(place) = info.location().filter(|place| place.file().starts_with("src/")) {
                PLACE.set(Some(format!(" ({}:{})", place.file(), place.line())));
            }
        }));
    });
    let outside = FENCED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    FENCED.set(outside);
    outcome.map_err(|panic| said(panic.as_ref()) + &PLACE.take().unwrap_or_default())
}

fn said(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).into(),
        (None, Some(text)) => text.clone(),
        (None, None) => "it gave up without a word".into(),
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

    #[test]
    fn what_a_panic_said_is_kept_also_within_another_fence() {
        assert_eq!(caught(|| 3), Ok(3));
        let said = caught::<()>(|| panic!("code {}", 7)).unwrap_err();
        assert!(said.starts_with("code 7 (src/guard.rs:"), "{said}");
        // Of others it does not matter where.
        assert_eq!(caught::<()>(|| std::panic::resume_unwind(Box::new("inner"))), Err("inner".to_owned()));
        let both = caught(|| {
            let inner = caught::<()>(|| std::panic::resume_unwind(Box::new("inner".to_owned())));
            assert!(FENCED.get(), "still inside");
            inner
        });
        assert_eq!(both, Ok(Err("inner".to_owned())));
        assert!(!FENCED.get());
    }
}
